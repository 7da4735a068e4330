"""Random search: the baseline that every other strategy has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.strategies.base import Score
from autotune.strategies.history import History
from autotune.strategies.sampling import StratifiedSampler
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule


class RandomSearch:
    """Draws without replacement, stratified by template (see `StratifiedSampler`).

    It takes no guidance. Each draw depends on the seed and the number of schedules seen.
    """

    def __init__(self, space: SearchableSpace, seed: int) -> None:
        self._history = History(space)
        self._sampler = StratifiedSampler(space, self._history)
        self._seed = seed

    def ask(self, n: int) -> Sequence[Schedule]:
        rng = np.random.default_rng((self._seed, len(self._history)))
        drawn = self._sampler.draw(n, rng)
        self._history.mark(drawn)
        return drawn

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        self._history.tell(schedule, measurement)

    def guide(self, score: Score | None) -> None:
        """Random stays random."""
