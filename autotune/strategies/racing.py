"""Multi-fidelity search: few runs for everything, many only for what may be the best.

Successive halving in two rungs and without waiting (L. Li et al., "A system for massively parallel
hyperparameter tuning", MLSys 2020), over what guided search proposes. A schedule first runs in a
heat; of the heats told so far, those among the fastest third that are not slower than the best
full trial are promoted. More rungs would gain nothing: a full trial is a race already, in which
who is slower than the best stops after three runs (`autotune.timing.TimingPlan`).
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
    """`strategy` proposes (`Guided` by default); one in `share` heats at most leads further.

    Implements `RunsHeats`.
    """

    def __init__(
        self,
        space: SearchableSpace,
        seed: int,
        strategy: SearchStrategy | None = None,
        *,
        heat_runs: int = 1,
        share: int = 3,
    ) -> None:
        self._strategy = strategy or Guided(space, seed)
        self._heat_runs = heat_runs
        self._share = share
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
        leading = sorted(self._heats_s.items(), key=lambda heat: heat[1])
        leading = leading[: -(-len(leading) // self._share)]
        promoted = [
            schedule
            for schedule, time_s in leading
            if time_s <= self._best_s and schedule not in self._entered
        ][:n]
        self._entered.update(promoted)
        return promoted

    def guide(self, score: Score | None) -> None:
        self._strategy.guide(score)
