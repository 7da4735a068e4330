"""Simulated annealing: small steps, slower ones taken too, the rarer the colder it is.

Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated annealing" (1983). A step is judged by
the ratio of the times (the difference of their logarithms), so nothing depends on the kernel's
scale. A schedule measured before may be visited again and costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autotune.strategies.one_by_one import OneByOne
from autotune.strategies.spaces import SearchableSpace
from records.schedule import Schedule

CHAINS = 4
"""Of the parallel kind."""

FIRST = 10
"""Random schedules, of which the fastest are where the chains begin."""

HOT = 0.3
"""First temperature: a step that is e^0.3 = 1.35 times slower is taken once in e times."""

COLD = 0.01
COOLING = 0.97
"""Of the temperature, with each result."""

FREE_STEPS = 40
"""Steps over known schedules before a chain starts elsewhere."""

LEAP = 4
"""Changes from the fastest to where a chain starts again."""


@dataclass
class _Chain:
    place: Schedule | None = None
    waiting: int = 0
    begun: bool = False


class Annealing(OneByOne):
    """`chains` walk side by side, each from a beginning of its own, under one temperature.

    In a batch a chain tries several steps from where it stands, judged in the order told.
    """

    def __init__(self, space: SearchableSpace, seed: int, chains: int = 1) -> None:
        super().__init__(space, seed)
        self._chains = [_Chain() for _ in range(chains)]
        self._steps: dict[Schedule, tuple[_Chain, float]] = {}  # with the luck to be judged by

    def _propose(self, rng: np.random.Generator) -> Schedule | None:
        if len(self._history) < FIRST:
            return None
        chain = min(self._chains, key=lambda chain: chain.waiting)
        if not chain.begun:
            self._begin(chain)
        if chain.place is None and chain.waiting:
            return None
        step = self._step(chain, rng) if chain.place else self._start(rng)
        chain.waiting += 1
        self._steps[step] = chain, rng.random()
        return step

    def _begin(self, chain: _Chain) -> None:
        taken = {other.place for other in self._chains}
        free = [each for each in self._history.best(len(self._chains)) if each not in taken]
        chain.place, chain.begun = (free[0], True) if free else (None, False)

    def _step(self, chain: _Chain, rng: np.random.Generator) -> Schedule:
        for _ in range(FREE_STEPS):
            assert chain.place is not None
            step = self._space.mutate(chain.place, rng)
            if step not in self._history:
                return step
            if self._history.is_told(step) and self._takes(chain, step, rng.random()):
                chain.place = step
        chain.place = None
        return self._start(rng)

    def _start(self, rng: np.random.Generator) -> Schedule:
        best = self._history.best(1)
        if not best:
            return self._draw(rng)
        return self._away_from(best[0], LEAP, rng) or self._draw(rng)

    def _learn(self, schedule: Schedule, time_s: float) -> None:
        if schedule not in self._steps:
            return
        chain, luck = self._steps.pop(schedule)
        chain.waiting -= 1
        if self._takes(chain, schedule, luck):
            chain.place = schedule

    def _takes(self, chain: _Chain, step: Schedule, luck: float) -> bool:
        """Metropolis: always a faster one, a slower one by its ratio and the temperature."""
        before_s = math.inf if chain.place is None else self._history.time_s(chain.place)
        after_s = self._history.time_s(step)
        if after_s <= before_s:
            return True
        if math.isinf(after_s):
            return False
        temperature = max(COLD, HOT * COOLING**self._history.told)
        return bool(luck < (before_s / after_s) ** (1.0 / temperature))


def parallel_annealing(space: SearchableSpace, seed: int) -> Annealing:
    """`CHAINS` chains: better where batches are large or places far apart."""
    return Annealing(space, seed, CHAINS)
