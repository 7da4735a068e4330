"""Multi-fidelity search: few runs for everything, many only for what may be the best.

Racing as in the intensification of SMAC (F. Hutter, H. Hoos and K. Leyton-Brown, "Sequential
model-based optimization for general algorithm configuration", LION 2011), over what guided search
proposes. Everything runs in a heat first. After each batch the fastest heat, unless it was slower
than the best, challenges it in a full trial; which is the race, for who turns out to be slower
stops after three runs (`autotune.timing.TimingPlan`). Promoting thirds, as successive halving does,
costs more runs for nothing (`benchmarks/racing.md`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autotune.strategies.base import Score, SearchStrategy
from autotune.strategies.guided import Guided
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule


class Racing:
    """`strategy` proposes, `Guided` by default; `challengers` at most are promoted at a time.

    Implements `RunsHeats`.
    """

    def __init__(
        self,
        space: SearchableSpace,
        seed: int,
        strategy: SearchStrategy | None = None,
        *,
        heat_runs: int = 1,
        challengers: int = 1,
    ) -> None:
        self._strategy = strategy or Guided(space, seed)
        self._heat_runs = heat_runs
        self._challengers = challengers
        self._heats_s: dict[Schedule, float] = {}
        self._entered: set[Schedule] = set()  # promoted, or told in full
        self._best_s = math.inf

    @property
    def heat_runs(self) -> int:
        return self._heat_runs

    def ask(self, n: int) -> Sequence[Schedule]:
        return self._strategy.ask(n)

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        self._entered.add(schedule)
        if measurement.time_s is not None:
            self._best_s = min(self._best_s, measurement.time_s)
        self._strategy.tell(schedule, measurement)

    def tell_heat(self, schedule: Schedule, measurement: Measurement) -> None:
        if measurement.time_s is not None:
            self._heats_s[schedule] = measurement.time_s
        self._strategy.tell(schedule, measurement)

    def promote(self, n: int) -> Sequence[Schedule]:
        heats = [
            (time_s, schedule)
            for schedule, time_s in self._heats_s.items()
            if time_s <= self._best_s and schedule not in self._entered
        ]
        heats.sort(key=lambda heat: heat[0])
        promoted = [schedule for _, schedule in heats[: min(n, self._challengers)]]
        self._entered.update(promoted)
        return promoted

    def guide(self, score: Score | None) -> None:
        self._strategy.guide(score)
