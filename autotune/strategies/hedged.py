"""A search that follows what others found, beside one that does not: what misleads costs half.

Relatives promise most of a few schedules, and what is measured there says little of the rest of
the space, or of how to search it. So, once the promises were tried, every other batch is that of a
search of its own, which knows nothing but its own trials. Where the relatives mislead, the whole is
about as good as that search is after half as many trials; where they do not, little is lost, and
the results of both teach the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from autotune.strategies.base import Score, SearchStrategy
from cost_model.trust import Trust
from records.measurement import Measurement
from records.schedule import Schedule

ALONE = 10
"""Trials before the other search begins."""

JUDGED = 24
"""Trials by which it is judged whether expectations are any better than guessing."""


class Search(Protocol):
    """The part of a `Proposer` that is needed."""

    def next(self, n: int) -> Sequence[Schedule]: ...

    def tell(self, schedule: Schedule, measurement: Measurement) -> None: ...

    def refit(self) -> object: ...


class Hedged:
    """`strategy` is guided by a model that knows relatives; `alone` proposes without.

    `first` is asked before anything else. While `expected`, scores of schedules before anything was
    measured, order the trials no better than guessing, all batches are those of `alone`, and it is
    told of all trials; `notice` is told why.
    """

    def __init__(
        self,
        strategy: SearchStrategy,
        alone: Search,
        expected: Callable[[Sequence[Schedule]], npt.NDArray[np.float64]],
        notice: Callable[[str], None],
        first: Sequence[Schedule] = (),
    ) -> None:
        self._strategy = strategy
        self._alone = alone
        self._expected = expected
        self._notice = notice
        self._first = list(first)
        self._asked: set[Schedule] = set()
        self._told: dict[Schedule, Measurement] = {}
        self._heard: set[Schedule] = set()  # what the other search was told
        self._pending: set[Schedule] = set()  # asked by the other search
        self._turn = 0
        self._ignored = False

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        is_new = schedule not in self._asked
        self._first = [each for each in self._first if each != schedule]
        self._told[schedule] = measurement
        self._strategy.tell(schedule, measurement)
        if is_new or self._ignored or schedule in self._pending:
            self._tell_alone(schedule)

    def guide(self, score: Score | None) -> None:
        self._strategy.guide(score)

    def ask(self, n: int) -> Sequence[Schedule]:
        if self._first:
            chosen, self._first = self._first[:n], self._first[n:]
        else:
            chosen = (self._is_alone() and self._asked_alone(n)) or self._asked_informed(n)
        self._asked.update(chosen)
        return chosen

    def _is_alone(self) -> bool:
        self._judge()
        if self._ignored:
            return True
        self._turn += len(self._told) >= ALONE
        return self._turn > 0 and self._turn % 2 == 0

    def _asked_informed(self, n: int) -> list[Schedule]:
        """What the guided search asks, without what the other one did and is not told yet."""
        fresh: list[Schedule] = []
        while not fresh and (asked := self._strategy.ask(n)):
            fresh = [schedule for schedule in asked if schedule not in self._asked]
        return fresh

    def _asked_alone(self, n: int) -> list[Schedule]:
        """What was measured already is answered at once."""
        fresh: list[Schedule] = []
        while not fresh:
            self._alone.refit()
            asked = self._alone.next(n)
            if not asked:
                break
            self._pending.update(asked)
            for schedule in asked:
                if schedule in self._told:
                    self._tell_alone(schedule)
            fresh = [schedule for schedule in asked if schedule not in self._asked]
        return fresh

    def _tell_alone(self, schedule: Schedule) -> None:
        self._heard.add(schedule)
        self._alone.tell(schedule, self._told[schedule])

    def _judge(self) -> None:
        """Of the trials so far, by what was expected before any of them."""
        if self._ignored or len(self._told) < JUDGED:
            return
        trust = Trust(window=len(self._told), enough=JUDGED)
        told = list(self._told)
        trust.update(self._expected(told).tolist(), [self._told[each] for each in told])
        if trust.trusted:
            return
        self._ignored = True
        for schedule in told:
            if schedule not in self._heard:
                self._tell_alone(schedule)
        self._notice(
            "what is known of others is ignored, being no better than guessing: only "
            f"{trust.accuracy:.0%} of what it put in order was right"
        )
