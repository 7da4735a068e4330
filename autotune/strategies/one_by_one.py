"""What searches that choose one schedule after another share: memory, randomness, a way out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from autotune.strategies.base import Score
from autotune.strategies.history import History
from autotune.strategies.sampling import StratifiedSampler
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule


class OneByOne(ABC):
    """A `SearchStrategy` by two methods: `_propose` a schedule, `_learn` what one took.

    They follow measurements only and take no guidance. A batch is so many proposals without
    results between them. Where a search has no unseen schedule to propose, one is drawn at
    random: so it never repeats, never stalls, and always uses the whole of its budget.
    """

    def __init__(self, space: SearchableSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._history = History(space)
        self._sampler = StratifiedSampler(space, self._history)

    def ask(self, n: int) -> Sequence[Schedule]:
        rng = np.random.default_rng((self._seed, len(self._history)))
        chosen: list[Schedule] = []
        while len(chosen) < n and self._history.left:
            proposed = self._propose(rng)
            if proposed is None or proposed in self._history:
                proposed = self._draw(rng)
            self._history.mark([proposed])
            chosen.append(proposed)
        return chosen

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        self._history.tell(schedule, measurement)
        if self._history.is_told(schedule):
            self._learn(schedule, self._history.time_s(schedule))

    def guide(self, score: Score | None) -> None:
        """It follows measurements only."""
        return None

    @abstractmethod
    def _propose(self, rng: np.random.Generator) -> Schedule | None:
        """An unseen schedule, or `None` for one drawn at random. Bounded work, always."""

    @abstractmethod
    def _learn(self, schedule: Schedule, time_s: float) -> None:
        """Take a result, asked for or not; `time_s` is infinite for a failure."""

    def _draw(self, rng: np.random.Generator) -> Schedule:
        """Unseen, at random; only while some are left."""
        return self._sampler.draw(1, rng)[0]

    def _away_from(
        self, place: Schedule, changes: int, rng: np.random.Generator, tries: int = 10
    ) -> Schedule | None:
        """An unseen schedule some changes of a knob away, if one is met."""
        for _ in range(tries):
            away = place
            for _ in range(changes):
                away = self._space.mutate(away, rng)
            if away not in self._history:
                return away
        return None
