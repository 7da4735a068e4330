"""Candidates for a model to choose from, where a space is too large to be scored whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autotune.strategies.base import Score
from autotune.strategies.history import History
from autotune.strategies.sampling import StratifiedSampler
from autotune.strategies.spaces import SearchableSpace
from records.schedule import Schedule


@dataclass(frozen=True)
class PoolSizes:
    """`drawn` at random; all neighbours of the `elite` fastest and `children` of them;
    `climbers`, the best scored, take `steps` single-knob steps on the score."""

    drawn: int = 1500
    elite: int = 8
    children: int = 200
    climbers: int = 6
    steps: int = 3


class Pool:
    """Unseen schedules of one step of a search."""

    def __init__(
        self,
        space: SearchableSpace,
        history: History,
        sampler: StratifiedSampler,
        sizes: PoolSizes,
    ) -> None:
        self._space = space
        self._history = history
        self._sampler = sampler
        self._sizes = sizes
        self._met: dict[Schedule, None] = {}

    def filled(self, score: Score, rng: np.random.Generator) -> list[Schedule]:
        """At least one where any is left."""
        elite = self._history.best(self._sizes.elite)
        fresh = self._new(self._drawn(rng)) or self._new(self._sampler.draw(1, rng))
        for schedule in elite:
            fresh += self._new(self._space.neighbours(schedule))
        fresh += self._new(self._children(elite, rng))
        scores: dict[Schedule, float] = {}
        climbed: set[Schedule] = set()
        for _ in range(self._sizes.steps):
            if not fresh:
                break
            scores.update(zip(fresh, score(fresh).tolist(), strict=True))
            ranked = sorted(scores, key=lambda schedule: -scores[schedule])
            climbers = [each for each in ranked[: self._sizes.climbers] if each not in climbed]
            climbed.update(climbers)
            fresh = self._new(step for each in climbers for step in self._space.neighbours(each))
        return list(self._met)

    def _new(self, schedules: Iterable[Schedule]) -> list[Schedule]:
        fresh = [
            each
            for each in dict.fromkeys(schedules)
            if each not in self._met and each not in self._history
        ]
        self._met.update(dict.fromkeys(fresh))
        return fresh

    def _drawn(self, rng: np.random.Generator) -> list[Schedule]:
        """As many of every template: a model that knows better chooses among them."""
        regions = self._space.spaces
        each = -(-self._sizes.drawn // len(regions))
        return [schedule for region in regions for schedule in region.sample(each, rng)]

    def _children(self, elite: list[Schedule], rng: np.random.Generator) -> list[Schedule]:
        """Mixes of two of the fastest, and what few mutations make of one."""
        children = []
        for _ in range(self._sizes.children if elite else 0):
            first, second = rng.integers(len(elite), size=2).tolist()
            child = self._space.crossover(elite[first], elite[second], rng)
            while rng.random() < 0.6:
                child = self._space.mutate(child, rng)
            children.append(child)
        return children
