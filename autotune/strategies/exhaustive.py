"""Exhaustive search: every schedule once, in the space's own order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from autotune.strategies.base import Score
from autotune.strategies.history import History
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule


class Exhaustive:
    """Walks the space from its first schedule to its last, skipping what was told already.

    `seed` is taken for the sake of the common constructor and changes nothing.
    """

    def __init__(self, space: SearchableSpace, seed: int) -> None:
        self._history = History(space)
        self._walk = iter(space)

    def ask(self, n: int) -> Sequence[Schedule]:
        fresh = (schedule for schedule in self._walk if schedule not in self._history)
        chosen = list(islice(fresh, n))
        self._history.mark(chosen)
        return chosen

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        self._history.tell(schedule, measurement)

    def guide(self, score: Score | None) -> None:
        """The order is fixed."""
