"""Evolutionary search: from the fastest schedules on, led by a cost model if there is one.

An ask has three parts of stated sizes: steps of one knob from the fastest schedules measured, their
children by crossover and mutation, and schedules drawn at random. With a guide, the steps best
predicted come first, and children are evolved in a large pool without measuring (as Ansor does:
Zheng et al., OSDI 2020), improved by single-knob steps on the predicted score; the best predicted
are asked for. Without, steps are taken in random order and children as they are born.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.strategies.base import Score
from autotune.strategies.history import History
from autotune.strategies.sampling import StratifiedSampler
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule


@dataclass(frozen=True)
class Evolution:
    """How it evolves; `benchmarks/replay.md` shows what the defaults reach.

    `first`: random schedules before any child. `explore`: share drawn at random afterwards.
    `near`: share of the others that differs in one knob from the fastest measured: a model sees
    the large effects, the last per cents come from around the best. `elite`: parents of the rest.
    `pool`: schedules scored an ask when guided; a space of at most that many is scored whole.
    `climbers` best predicted take `steps` single-knob steps on the score.
    """

    first: int = 8
    explore: float = 0.1
    near: float = 0.85
    elite: int = 12
    crossovers: float = 0.5
    pool: int = 400
    climbers: int = 12
    steps: int = 2


class Evolutionary:
    """Each ask depends on the seed and on the schedules seen so far."""

    def __init__(
        self, space: SearchableSpace, seed: int, evolution: Evolution | None = None
    ) -> None:
        self._space = space
        self._seed = seed
        self._evolution = evolution or Evolution()
        self._history = History(space)
        self._sampler = StratifiedSampler(space, self._history)
        self._score: Score | None = None

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        self._history.tell(schedule, measurement)

    def guide(self, score: Score | None) -> None:
        self._score = score

    def ask(self, n: int) -> Sequence[Schedule]:
        rng = np.random.default_rng((self._seed, len(self._history)))
        n = min(n, self._history.left)
        bred = self._bred_share(n, rng)
        chosen = self._near(int(bred * self._evolution.near + rng.random()), rng)
        self._history.mark(chosen)
        rest = bred - len(chosen)
        children = (
            self._ranked_pool(rng)[:rest] if self._score and rest else self._children(rest, rng)
        )
        self._history.mark(children)
        drawn = self._sampler.draw(n - len(chosen) - len(children), rng)
        self._history.mark(drawn)
        return [*chosen, *children, *drawn]

    def _bred_share(self, n: int, rng: np.random.Generator) -> int:
        """How many of `n` are not drawn at random; the share's fraction is left to chance."""
        if self._score is None and not self._history.best(1):
            return 0
        later = n - max(0, min(n, self._evolution.first - len(self._history)))
        return later - int(later * self._evolution.explore + rng.random())

    def _near(self, n: int, rng: np.random.Generator) -> list[Schedule]:
        """At most `n` unseen neighbours of the fastest, the best predicted (or any) first."""
        steps: dict[Schedule, None] = {}
        for place in self._history.best(self._evolution.elite):
            if len(steps) >= n:
                break
            around = self._space.neighbours(place)
            fresh = [step for step in around if step not in self._history]
            steps.update(dict.fromkeys(fresh[i] for i in rng.permutation(len(fresh))))
        if self._score is None:
            return list(steps)[:n]
        scores: dict[Schedule, float] = {}
        self._add_scored(scores, steps)
        return _ranked(scores)[:n]

    def _children(self, n: int, rng: np.random.Generator, tries: int = 20) -> list[Schedule]:
        """At most `n` unseen children of the fastest schedules."""
        parents = self._history.best(self._evolution.elite)
        children: dict[Schedule, None] = {}
        for _ in range(n * tries):
            if len(children) >= n or not parents:
                break
            child = self._child(parents, rng)
            if child not in self._history:
                children[child] = None
        return list(children)

    def _child(self, parents: Sequence[Schedule], rng: np.random.Generator) -> Schedule:
        """A mix of two parents, a mutation of one, or both; the faster, the likelier to breed."""
        child = _favoured(parents, rng)
        mix = rng.random() < self._evolution.crossovers
        if mix:
            child = self._space.crossover(child, _favoured(parents, rng), rng)
        if not mix or rng.random() < 0.5:
            child = self._space.mutate(child, rng)
        while rng.random() < 0.3:
            child = self._space.mutate(child, rng)
        return child

    def _ranked_pool(self, rng: np.random.Generator) -> list[Schedule]:
        """Unseen schedules, best predicted first."""
        evolution = self._evolution
        scores: dict[Schedule, float] = {}
        if self._space.size <= evolution.pool:
            self._add_scored(scores, self._space)
            return _ranked(scores)
        fastest = self._history.best(evolution.climbers // 4)
        drawn = evolution.pool // 4 if fastest else evolution.pool
        self._add_scored(scores, self._sampler.draw(drawn, rng))
        self._add_scored(scores, self._children(evolution.pool // 2, rng, tries=3))
        for schedule in fastest:
            self._add_scored(scores, self._space.neighbours(schedule))
        climbed: set[Schedule] = set()
        for _ in range(evolution.steps):
            climbers = [
                each for each in _ranked(scores)[: evolution.climbers] if each not in climbed
            ]
            climbed.update(climbers)
            steps = [step for each in climbers for step in self._space.neighbours(each)]
            self._add_scored(scores, steps)
        return _ranked(scores)

    def _add_scored(self, scores: dict[Schedule, float], schedules: Iterable[Schedule]) -> None:
        assert self._score is not None
        fresh = [
            schedule
            for schedule in dict.fromkeys(schedules)
            if schedule not in scores and schedule not in self._history
        ]
        if fresh:
            scores.update(zip(fresh, self._score(fresh).tolist(), strict=True))


def _favoured(parents: Sequence[Schedule], rng: np.random.Generator) -> Schedule:
    """The faster of two drawn: a tournament. `parents` are sorted, fastest first."""
    return parents[int(rng.integers(len(parents), size=2).min())]


def _ranked(scores: dict[Schedule, float]) -> list[Schedule]:
    return sorted(scores, key=lambda schedule: -scores[schedule])
