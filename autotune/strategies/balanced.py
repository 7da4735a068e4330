"""First schedules of a search: few, and such that each knob's values are tried about as often.

Independent draws leave values of some knobs untried and repeat others; a model learns more from
as many schedules that share them out evenly (the idea of Latin hypercubes, here among schedules
that are legal).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from autotune.strategies.history import History
from autotune.strategies.sampling import StratifiedSampler
from records.canonical import Value
from records.schedule import Schedule

DRAWN = 24
"""Legal schedules drawn for each one taken."""


class BalancedSampler:
    """Draws among the sampler's schedules, which share out the templates."""

    def __init__(self, sampler: StratifiedSampler, history: History) -> None:
        self._sampler = sampler
        self._history = history
        self._uses: Counter[tuple[str, str, Value]] = Counter()

    def draw(self, n: int, rng: np.random.Generator) -> list[Schedule]:
        """At most `n` distinct unseen schedules; fewer only where no more are left."""
        drawn = self._sampler.draw(n * DRAWN, rng)
        chosen: list[Schedule] = []
        for template in _shares(drawn, n):
            place = min(
                (at for at, each in enumerate(drawn) if each.template == template),
                key=lambda at: self._overuse(drawn[at]),
            )
            chosen.append(drawn.pop(place))
            self.count(chosen[-1])
        return chosen

    def count(self, schedule: Schedule) -> None:
        """Take a schedule measured already into account."""
        for name, value in schedule.knobs:
            self._uses[schedule.template, name, value] += 1

    def _overuse(self, schedule: Schedule) -> int:
        template = schedule.template
        return sum(self._uses[template, name, value] ** 2 for name, value in schedule.knobs)


def _shares(drawn: list[Schedule], n: int) -> list[str]:
    """Whose turn it is, `n` times: templates alternate while they have schedules."""
    left = Counter(schedule.template for schedule in drawn)
    turns: list[str] = []
    while len(turns) < n and left:
        for template in list(left):
            turns.append(template)
            left[template] -= 1
            if not left[template]:
                del left[template]
    return turns[:n]
