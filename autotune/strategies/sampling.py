"""Random draws without replacement from the union of several templates' spaces."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np

from autotune.strategies.history import History
from autotune.strategies.spaces import Region, SearchableSpace
from records.schedule import Schedule

FIRST_TRIES = 8
"""Draws that every template gets before promise counts."""

_DENSE = 0.5  # share already seen above which drawing again and again would be wasteful


class StratifiedSampler:
    """Draws unseen schedules: uniformly within a template, by promise between templates.

    The sizes of templates' spaces differ by orders of magnitude and say nothing about their
    speed, so a uniform draw from the union would hardly try the small ones. Templates take turns
    until each was drawn `FIRST_TRIES` times; then each is drawn with a probability proportional
    to (wins + 1) / (tries + 2), the estimated share of its schedules that land among the best
    quarter of all results (Laplace's rule of succession). A lone template is sampled uniformly.
    """

    def __init__(self, space: SearchableSpace, history: History) -> None:
        self._regions = [_RegionSampler(region, history) for region in space.spaces]
        self._history = history

    def draw(self, n: int, rng: np.random.Generator) -> list[Schedule]:
        """At most `n` distinct unseen schedules; fewer only where no more are left."""
        if len(self._regions) == 1:
            return self._regions[0].draw(n, set(), rng)
        taken: set[Schedule] = set()
        drawn: list[Schedule] = []
        tries = self._tries()
        rates = self._success_rates(tries)
        while len(drawn) < n:
            fresh = self._draw_one(tries, rates, taken, rng)
            if fresh is None:
                break
            drawn.append(fresh)
            taken.add(fresh)
        return drawn

    def _draw_one(
        self,
        tries: list[int],
        rates: list[float],
        taken: set[Schedule],
        rng: np.random.Generator,
    ) -> Schedule | None:
        open_regions = list(range(len(self._regions)))
        while open_regions:
            chosen = _choose_region(open_regions, tries, rates, rng)
            fresh = self._regions[chosen].draw(1, taken, rng)
            if fresh:
                tries[chosen] += 1
                return fresh[0]
            open_regions.remove(chosen)
        return None

    def _tries(self) -> list[int]:
        return [region.seen() for region in self._regions]

    def _success_rates(self, tries: list[int]) -> list[float]:
        results = self._history.results()
        worked = sorted(time_s for _, time_s in results if math.isfinite(time_s))
        bar = worked[len(worked) // 4] if worked else 0.0
        wins = Counter(schedule.template for schedule, time_s in results if time_s <= bar)
        return [
            (wins[region.template] + 1) / (tried + 2)
            for region, tried in zip(self._regions, tries, strict=True)
        ]


def _choose_region(
    open_regions: list[int], tries: list[int], rates: list[float], rng: np.random.Generator
) -> int:
    fewest = min(open_regions, key=lambda region: tries[region])
    if tries[fewest] < FIRST_TRIES:
        return fewest
    weights = np.array([rates[region] for region in open_regions])
    return int(rng.choice(open_regions, p=weights / weights.sum()))


class _RegionSampler:
    """Uniform draws without replacement from one template's space."""

    def __init__(self, region: Region, history: History) -> None:
        self.template = region.template
        self._region = region
        self._history = history
        self._shuffled: list[Schedule] | None = None  # all that is left, once little is

    def seen(self) -> int:
        return self._history.seen_of(self.template)

    def draw(self, n: int, taken: set[Schedule], rng: np.random.Generator) -> list[Schedule]:
        size = self._region.size
        if self._shuffled is None and self.seen() + len(taken) + n <= _DENSE * size:
            return self._reject(n, taken, rng)
        return self._from_the_rest(n, taken, rng)

    def _reject(self, n: int, taken: set[Schedule], rng: np.random.Generator) -> list[Schedule]:
        fresh: dict[Schedule, None] = {}
        while len(fresh) < n:
            for schedule in self._region.sample(n - len(fresh), rng):
                if schedule not in self._history and schedule not in taken:
                    fresh[schedule] = None
        return list(fresh)

    def _from_the_rest(
        self, n: int, taken: set[Schedule], rng: np.random.Generator
    ) -> list[Schedule]:
        if self._shuffled is None:
            rest = list(self._region)
            self._shuffled = [rest[i] for i in rng.permutation(len(rest))]
        while self._shuffled and self._shuffled[-1] in self._history:
            self._shuffled.pop()
        fresh = (
            schedule
            for schedule in reversed(self._shuffled)
            if schedule not in self._history and schedule not in taken
        )
        return list(islice(fresh, n))
