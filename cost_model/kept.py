"""What is computed of schedules again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from records.schedule import Schedule

Computed = TypeVar("Computed")


class KeptOfTuple(Generic[Computed]):
    """`compute`, and its answer for the last tuple: the same object is a whole space, asked about
    at every step of a search. Anything else is computed each time."""

    def __init__(self, compute: Callable[[Sequence[Schedule]], Computed]) -> None:
        self._compute = compute
        self._last: tuple[tuple[Schedule, ...], Computed] | None = None

    def __call__(self, schedules: Sequence[Schedule]) -> Computed:
        if self._last is not None and self._last[0] is schedules:
            return self._last[1]
        computed = self._compute(schedules)
        if isinstance(schedules, tuple):
            self._last = schedules, computed
        return computed
