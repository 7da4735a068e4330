"""Tabu search: always to the best step around, also a slower one, and not soon back.

Glover, "Tabu search, part I" (1989). A step that gives a knob a value which it left within the
last moves is tabu, unless it leads to the fastest of all.
"""

from __future__ import annotations

import math

import numpy as np

from autotune.strategies.one_by_one import OneByOne
from autotune.strategies.spaces import SearchableSpace
from records.schedule import Schedule

STARTS = 5
"""Random schedules of which the fastest is the first place."""

STEPS = 12
"""Steps tried from a place before the best of them is taken."""

TENURE = 8
"""Moves for which the value that a knob left is tabu."""

FREE_MOVES = 4
"""Moves among known schedules in one proposal, before a leap from the fastest."""

LEAP = 3
"""Changes of that leap."""


class Tabu(OneByOne):
    """While results of a place are awaited, a batch tries more of its steps."""

    def __init__(self, space: SearchableSpace, seed: int) -> None:
        super().__init__(space, seed)
        self._place: Schedule | None = None
        self._around: list[Schedule] = []  # steps from the place, in random order
        self._untried: list[Schedule] = []
        self._tried: list[Schedule] = []
        self._left: dict[tuple[str, object], int] = {}  # knob and value: the move that left it
        self._moves = 0

    def _propose(self, rng: np.random.Generator) -> Schedule | None:
        if self._place is None:
            if self._history.told < STARTS or not (best := self._history.best(1)):
                return None
            self._stand_on(best[0], rng)
        for _ in range(FREE_MOVES):
            self._untried = [step for step in self._untried if step not in self._history]
            waiting = any(not self._history.is_told(step) for step in self._tried)
            if self._untried and (waiting or len(self._tried) < STEPS):
                return self._try(self._untried.pop())
            if waiting:
                return None
            if not self._move(rng):
                break
        return self._leap(rng)

    def _try(self, step: Schedule) -> Schedule:
        self._tried.append(step)
        return step

    def _move(self, rng: np.random.Generator) -> bool:
        """To the fastest step that is not tabu; `False` where there is none."""
        fastest_s = self._history.time_s(self._history.best(1)[0])
        around = [step for step in self._around if self._is_ok(step)]
        allowed = [
            step
            for step in around
            if not self._is_tabu(step)
            or (step in self._tried and self._history.time_s(step) <= fastest_s)
        ]
        if not allowed:
            return False
        self._stand_on(min(allowed, key=self._history.time_s), rng)
        return True

    def _is_ok(self, step: Schedule) -> bool:
        return math.isfinite(self._history.time_s(step))

    def _is_tabu(self, step: Schedule) -> bool:
        assert self._place is not None
        return any(
            value != self._place[name]
            and self._moves - self._left.get((name, value), -TENURE) < TENURE
            for name, value in step.knobs
        )

    def _stand_on(self, place: Schedule, rng: np.random.Generator) -> None:
        before, self._place = self._place, place
        self._moves += 1
        if before is not None and before.template == place.template:
            gone = set(before.knobs) - set(place.knobs)
            self._left.update(dict.fromkeys(gone, self._moves))
        around = self._space.neighbours(place, repair=True)
        self._around = [around[i] for i in rng.permutation(len(around))]
        self._untried = list(self._around)
        self._tried = []

    def _leap(self, rng: np.random.Generator) -> Schedule | None:
        """To somewhere not far from the fastest; the next place is what is found around there."""
        best = self._history.best(1)[0]
        landing = self._away_from(best, LEAP, rng)
        if landing is not None:
            self._stand_on(landing, rng)
        return landing

    def _learn(self, schedule: Schedule, time_s: float) -> None:
        """Moves are made from the history when the next schedule is asked for."""
