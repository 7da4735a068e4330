"""Greedy hill climbing from many starts: iterated local search without a model.

From the fastest of a few random schedules, neighbours (one knob changed) are tried in random
order; the first that is faster becomes the new place. A place without a faster neighbour is a
local optimum: the next climb starts among perturbations of the best, and every other one among
new random schedules. Schoonhoven et al., "Benchmarking optimization
algorithms for auto-tuning GPU kernels" (2022), compare searches of this family with others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.strategies.base import Score
from autotune.strategies.history import History
from autotune.strategies.sampling import StratifiedSampler
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule

STARTS = 5
"""Schedules of which the fastest starts a climb."""

PERTURBATIONS = 3
"""Mutations that lead away from a local optimum."""

TRIES = 20
"""Perturbations before a random schedule is taken, where all those met are known."""


class LocalSearch:
    """It takes no guidance. While a climb waits for results, it asks for random schedules."""

    def __init__(self, space: SearchableSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._history = History(space)
        self._sampler = StratifiedSampler(space, self._history)
        self._place: Schedule | None = None
        self._steps: list[Schedule] = []  # neighbours of the place
        self._waiting: set[Schedule] = set()  # asked, not told yet
        self._starts: list[Schedule] = []  # told since the last local optimum was left
        self._optima = 0  # left so far

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        self._history.tell(schedule, measurement)
        self._waiting.discard(schedule)
        if not self._history.is_told(schedule):
            return
        if self._place is None:
            self._starts.append(schedule)
        elif self._history.time_s(schedule) < self._history.time_s(self._place):
            self._move_to(schedule)

    def guide(self, score: Score | None) -> None:
        """The climb follows measurements only."""

    def ask(self, n: int) -> Sequence[Schedule]:
        rng = np.random.default_rng((self._seed, len(self._history)))
        chosen: list[Schedule] = []
        while len(chosen) < n and (schedule := self._next(rng)) is not None:
            self._history.mark([schedule])
            self._waiting.add(schedule)
            chosen.append(schedule)
        return chosen

    def _next(self, rng: np.random.Generator) -> Schedule | None:
        """The next schedule to try; `None` only when the space is exhausted."""
        if self._place is not None:
            step = self._step(rng)
            if step is not None:
                return step
            if self._waiting:
                return self._draw(rng)
            self._place, self._starts = None, []
            self._optima += 1
        if len(self._starts) + len(self._waiting) < STARTS:
            return self._start(rng)
        if self._waiting:
            return self._draw(rng)
        self._move_to(min(self._starts, key=self._history.time_s))
        return self._step(rng) or self._next(rng)

    def _move_to(self, place: Schedule) -> None:
        self._place = place
        self._steps = self._space.neighbours(place)

    def _step(self, rng: np.random.Generator) -> Schedule | None:
        self._steps = [step for step in self._steps if step not in self._history]
        return self._steps[int(rng.integers(len(self._steps)))] if self._steps else None

    def _start(self, rng: np.random.Generator) -> Schedule | None:
        best = self._history.best(1)
        if self._optima % 2 == 0 or not best:
            return self._draw(rng)
        for _ in range(TRIES):
            away = best[0]
            for _ in range(PERTURBATIONS):
                away = self._space.mutate(away, rng)
            if away not in self._history:
                return away
        return self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> Schedule | None:
        drawn = self._sampler.draw(1, rng)
        return drawn[0] if drawn else None
