"""A search that begins with what a model trained beforehand expects to be fast.

Its first batches are shared between the fastest expected, of many draws from every template, and
what the strategy behind it asks. So the expectations are put to the test at once: while they order
what was measured no better than guessing, the rest of the search is the strategy's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.strategies.base import Score, SearchStrategy
from autotune.strategies.spaces import SearchableSpace
from cost_model.trust import Trust
from records.measurement import Measurement
from records.schedule import Schedule

Expectation = Callable[[Sequence[Schedule]], npt.NDArray[np.float64]]
"""Scores of schedules that are not measured yet; higher is faster."""


@dataclass(frozen=True)
class Priming:
    """`picks` of the best expected, and as many of the strategy's, in each of `batches`;
    `draws` from each template to choose from."""

    picks: int = 4
    batches: int = 2
    draws: int = 512


class Primed:
    """Another strategy with such a beginning; it keeps out of a search that is under way."""

    def __init__(
        self,
        strategy: SearchStrategy,
        space: SearchableSpace,
        expectation: Expectation,
        seed: int,
        notice: Callable[[str], None],
        priming: Priming | None = None,
    ) -> None:
        self._strategy = strategy
        self._space = space
        self._expectation = expectation
        self._seed = seed
        self._notice = notice
        self._priming = priming or Priming()
        self._left = self._priming.batches
        self._asked: set[Schedule] = set()
        self._expected: dict[Schedule, float] = {}
        self._measured: dict[Schedule, Measurement] = {}

    def ask(self, n: int) -> Sequence[Schedule]:
        if self._left and n > 1 and self._trusted():
            self._left -= 1
            picked = self._picked(min(self._priming.picks, n // 2))
            chosen = [*picked, *self._fresh(min(len(picked), n - len(picked)))]
            self._expect(chosen)
        else:
            chosen = self._fresh(n)
        return chosen

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        if schedule in self._expected:
            self._measured[schedule] = measurement
        elif schedule not in self._asked:
            self._left = 0  # known from before: the search needs no priming
        self._strategy.tell(schedule, measurement)

    def guide(self, score: Score | None) -> None:
        self._strategy.guide(score)

    def _trusted(self) -> bool:
        if not self._measured:
            return True
        trust = Trust(enough=len(self._measured))
        told = list(self._measured)
        trust.update([self._expected[each] for each in told], list(self._measured.values()))
        if not trust.trusted:
            self._left = 0
            self._notice(
                "the pretrained model is ignored, being no better than guessing: only "
                f"{trust.accuracy:.0%} of what it put in order was right"
            )
        return trust.trusted

    def _picked(self, count: int) -> list[Schedule]:
        rng = np.random.default_rng((self._seed, len(self._asked)))
        drawn = [
            schedule
            for region in self._space.spaces
            for schedule in region.sample(min(self._priming.draws, region.size), rng)
            if schedule not in self._asked
        ]
        if not drawn:
            return []
        order = np.argsort(-self._expectation(drawn), kind="stable")[:count]
        picked = [drawn[place] for place in order]
        self._asked.update(picked)
        return picked

    def _fresh(self, n: int) -> list[Schedule]:
        """What the strategy asks, without what was picked and is not told yet."""
        fresh: list[Schedule] = []
        while n > 0 and not fresh and (asked := self._strategy.ask(n)):
            fresh = [schedule for schedule in asked if schedule not in self._asked]
        self._asked.update(fresh)
        return fresh

    def _expect(self, schedules: Sequence[Schedule]) -> None:
        if schedules:
            scores = self._expectation(schedules).tolist()
            self._expected.update(zip(schedules, scores, strict=True))
