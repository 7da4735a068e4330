"""Schedules as vectors of levels, for searches that calculate with them, and the way back."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from autotune.strategies.history import History
from autotune.strategies.spaces import Region, SearchableSpace
from records.canonical import Scalar
from records.schedule import Schedule

Levels: TypeAlias = npt.NDArray[np.float64]

WALK = 8
"""Steps away from where a vector leads before the search for something unseen is given up."""


class RegionLevels:
    """One template's schedules as vectors: the rank of each knob's value, scaled to 0 … 1.

    Ranks, not values: 1, 2, 4 … 128 are equally far apart. Values that are no numbers keep the
    order in which the knob lists them.
    """

    def __init__(self, region: Region) -> None:
        self._values = {knob.name: _sorted(knob.values) for knob in region.knobs}
        self._ranks = {
            name: {(type(value), value): rank for rank, value in enumerate(values)}
            for name, values in self._values.items()
        }

    def of(self, schedule: Schedule) -> Levels:
        """Shape (knobs,)."""
        return np.array(
            [
                ranks[type(schedule[name]), schedule[name]] / max(1, len(ranks) - 1)
                for name, ranks in self._ranks.items()
            ]
        )

    def values(self, levels: Levels) -> dict[str, Scalar]:
        """The values nearest to levels, which may lie outside 0 … 1; perhaps not legal together."""
        inside = np.clip(levels, 0.0, 1.0).tolist()
        return {
            name: values[round(level * (len(values) - 1))]
            for (name, values), level in zip(self._values.items(), inside, strict=True)
        }


class LevelSpace:
    """The vectors of all templates of a space; each template has its own coordinates."""

    def __init__(self, space: SearchableSpace, history: History) -> None:
        self._space = space
        self._history = history
        self._regions = {
            (region.template, region.version): RegionLevels(region) for region in space.spaces
        }

    def of(self, schedule: Schedule) -> Levels:
        return self._regions[schedule.template, schedule.version].of(schedule)

    def unseen_near(
        self, levels: Levels, like: Schedule, rng: np.random.Generator
    ) -> Schedule | None:
        """An unseen legal schedule near `levels`, of the template that `like` has.

        The nearest legal one, or else its unseen neighbour nearest to `levels`, or that of a
        place a random step further, up to `WALK` steps; then `None`.
        """
        region = self._space.space_of(like)
        wished = self._regions[like.template, like.version].values(levels)
        place = region.nearest(wished) or like
        if place not in self._history:
            return place
        for _ in range(WALK):
            fresh = [each for each in self._space.neighbours(place) if each not in self._history]
            if fresh:
                return min(fresh, key=lambda each: self._distance(each, levels))
            place = self._space.mutate(place, rng)
        return None

    def _distance(self, schedule: Schedule, levels: Levels) -> float:
        return float(np.abs(self.of(schedule) - levels).sum())


def _sorted(values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    if all(isinstance(value, int | float) for value in values):
        return tuple(sorted(values))
    return values
