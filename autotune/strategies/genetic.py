"""A genetic search of a steady state: one child at a time enters the population of the fastest.

Parents are drawn by rank and a child takes the place of the slowest, as in GENITOR (Whitley, "The
GENITOR algorithm and selection pressure", ICGA 1989): no generation has to be complete before the
next, so any batch suits it.
"""

from __future__ import annotations

import numpy as np

from autotune.strategies.one_by_one import OneByOne
from records.schedule import Schedule

POPULATION = 20
FIRST = 20
"""Random schedules before the first child."""

BIAS = 1.5
"""How much likelier the fastest is to breed than the median (Whitley's linear ranking)."""

MUTATION = 0.5
"""Chance of one more mutation, again and again."""

TRIES = 20
"""Children bred before a random schedule is taken, where all those met are known."""


class Genetic(OneByOne):
    """Crossover of two parents, then mutations. The population is the fastest known."""

    def _propose(self, rng: np.random.Generator) -> Schedule | None:
        parents = self._history.best(POPULATION)
        if len(self._history) < FIRST or not parents:
            return None
        for _ in range(TRIES):
            child = self._child(parents, rng)
            if child not in self._history:
                return child
        return None

    def _child(self, parents: list[Schedule], rng: np.random.Generator) -> Schedule:
        first, second = (parents[_ranked_draw(len(parents), rng)] for _ in range(2))
        child = self._space.crossover(first, second, rng)
        while child == first or rng.random() < MUTATION:
            child = self._space.mutate(child, rng)
            if child == first:  # the only one of its template
                break
        return child

    def _learn(self, schedule: Schedule, time_s: float) -> None:
        """The population follows from the history."""


def _ranked_draw(count: int, rng: np.random.Generator) -> int:
    """0 … count - 1, the smaller the likelier, linearly."""
    root = np.sqrt(BIAS * BIAS - 4.0 * (BIAS - 1.0) * rng.random())
    return int(count * (BIAS - root) / (2.0 * (BIAS - 1.0)))
