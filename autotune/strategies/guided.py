"""Model-guided search: what the cost model would measure next, out of everything there is.

A space of up to `whole` schedules is scored whole at every step. Of a larger one a pool is: draws,
neighbours of the fastest measured, their children, and a climb on the score from the best of
those. The first schedules share out the values of all knobs (`BalancedSampler`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.strategies.balanced import BalancedSampler
from autotune.strategies.base import BatchScore, Score
from autotune.strategies.history import History
from autotune.strategies.pool import Pool, PoolSizes
from autotune.strategies.sampling import StratifiedSampler
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule


@dataclass(frozen=True)
class Guidance:
    """How much of what; `benchmarks/replay.md` shows what the defaults reach.

    `first`: schedules before the model is followed, at least `each` of every template. `batch`:
    schedules chosen together while few are measured, or the `part` of what is asked for if that
    is more, and one more for each `per_trials` results: the sooner the model learns from a choice,
    the better the next, but a device must not wait too often. `near`: without a model, the
    share that differs in one knob from the fastest. `whole`: schedules scored one and all.
    """

    first: int = 8
    each: int = 2
    batch: int = 4
    part: float = 1 / 3
    per_trials: int = 16
    near: float = 0.7
    whole: int = 20_000
    pool: PoolSizes = PoolSizes()


class Guided:
    """The default strategy. Each ask depends on the seed and on what was asked and told so far.

    Asked for many at once, it gives fewer while it knows little. With a score that cannot choose
    a batch, it takes the best scored.
    """

    def __init__(self, space: SearchableSpace, seed: int, guidance: Guidance | None = None) -> None:
        self._space = space
        self._seed = seed
        self._guidance = guidance or Guidance()
        self._history = History(space)
        self._sampler = StratifiedSampler(space, self._history)
        self._balanced = BalancedSampler(self._sampler, self._history)
        self._first = max(self._guidance.first, self._guidance.each * len(space.spaces))
        self._score: Score | None = None
        self._all: tuple[Schedule, ...] = ()
        self._free: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._places: dict[Schedule, int] = {}

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        asked = schedule in self._history
        self._history.tell(schedule, measurement)
        if not asked and schedule in self._history:
            self._balanced.count(schedule)
            self._take([schedule])

    def guide(self, score: Score | None) -> None:
        self._score = score

    def ask(self, n: int) -> Sequence[Schedule]:
        rng = np.random.default_rng((self._seed, len(self._history)))
        n = min(n, self._history.left)
        first = min(n, self._first - len(self._history)) if self._score is None else 0
        if n <= 0:
            return []
        if first > 0:
            chosen = self._balanced.draw(first, rng)
        elif self._score is None:
            chosen = self._unguided(n, rng)
        else:
            chosen = self._followed(self._score, min(n, self._batch(n)), rng)
        self._history.mark(chosen)
        self._take(chosen)
        return chosen

    def _batch(self, asked: int) -> int:
        least = max(self._guidance.batch, int(asked * self._guidance.part))
        return least + self._history.told // self._guidance.per_trials

    def _take(self, schedules: Sequence[Schedule]) -> None:
        if self._places:
            self._free[[self._places[schedule] for schedule in schedules]] = False

    def _followed(self, score: Score, n: int, rng: np.random.Generator) -> list[Schedule]:
        if self._space.size <= self._guidance.whole:
            if not self._places:
                self._list_all()
            schedules, free = self._all, self._free
        else:
            pool = Pool(self._space, self._history, self._sampler, self._guidance.pool)
            schedules = tuple(pool.filled(score, rng))
            free = np.ones(len(schedules), dtype=np.bool_)
        return [schedules[place] for place in _chosen(score, schedules, free, n)]

    def _list_all(self) -> None:
        self._all = tuple(self._space)
        self._places = {schedule: place for place, schedule in enumerate(self._all)}
        self._free = np.array([each not in self._history for each in self._all], dtype=np.bool_)

    def _unguided(self, n: int, rng: np.random.Generator) -> list[Schedule]:
        """Steps around the fastest, in random order, and draws."""
        wanted = int(n * self._guidance.near + rng.random())
        near: dict[Schedule, None] = {}
        for place in self._history.best(n):
            around = self._space.neighbours(place)
            fresh = [step for step in around if step not in self._history]
            near.update(dict.fromkeys(fresh[at] for at in rng.permutation(len(fresh))))
            if len(near) >= wanted:
                break
        chosen = list(near)[:wanted]
        self._history.mark(chosen)
        return [*chosen, *self._sampler.draw(n - len(chosen), rng)]


def _chosen(
    score: Score, schedules: Sequence[Schedule], free: npt.NDArray[np.bool_], n: int
) -> Sequence[int]:
    if isinstance(score, BatchScore):
        return score.choose(schedules, free, n)
    candidates = np.flatnonzero(free)
    scores = score([schedules[place] for place in candidates.tolist()])
    ranked: list[int] = candidates[np.argsort(-scores, kind="stable")[:n]].tolist()
    return ranked
