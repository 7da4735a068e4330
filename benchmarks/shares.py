"""Time until a deadline, shared out among what is still to be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence


class Shares:
    """Seconds for one thing after another, by weight: what one leaves or takes too much of is
    shared out among the later ones. 0 where less than `least_s` is left: do nothing more.

    Iterate once, and take the next share only when the thing before is done.
    """

    def __init__(
        self,
        limit_s: float,
        weights: Sequence[float],
        *,
        least_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights = list(weights)
        self._least_s = least_s
        self._clock = clock
        self._end_s = clock() + limit_s

    @property
    def left_s(self) -> float:
        return self._end_s - self._clock()

    def __iter__(self) -> Iterator[float]:
        for place, weight in enumerate(self._weights):
            left_s = self.left_s
            share_s = left_s * weight / sum(self._weights[place:])
            yield share_s if left_s >= self._least_s and share_s > 0.0 else 0.0
