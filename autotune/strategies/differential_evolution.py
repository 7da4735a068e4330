"""Differential evolution over levels, each member challenged on its own.

Storn and Price, "Differential evolution" (1997), in the variant current-to-best/1/bin: a member
moves towards the best and by the difference of two others, in some of its knobs; the legal unseen
schedule nearest to that is tried and takes its place if it is faster.
"""

from __future__ import annotations

import numpy as np

from autotune.strategies.levels import LevelSpace
from autotune.strategies.one_by_one import OneByOne
from autotune.strategies.spaces import SearchableSpace
from records.schedule import Schedule

POPULATION = 16
FACTOR = 0.7
"""How far along a difference (F)."""

CROSSOVER = 0.7
"""Share of the knobs that may change (CR)."""


class DifferentialEvolution(OneByOne):
    """Asynchronous: a member waits for its own trial only, so batches up to the population suit."""

    def __init__(self, space: SearchableSpace, seed: int) -> None:
        super().__init__(space, seed)
        self._levels = LevelSpace(space, self._history)
        self._members: list[Schedule] = []
        self._trials: dict[Schedule, int] = {}  # asked for a member, not told yet
        self._turn = 0

    def _propose(self, rng: np.random.Generator) -> Schedule | None:
        if len(self._history) < POPULATION:
            return None
        busy = set(self._trials.values())
        for _ in self._members:
            self._turn = (self._turn + 1) % len(self._members)
            if self._turn not in busy:
                trial = self._trial(self._turn, rng)
                if trial is not None:
                    self._trials[trial] = self._turn
                return trial
        return None

    def _trial(self, place: int, rng: np.random.Generator) -> Schedule | None:
        member = self._members[place]
        mates = [
            each
            for each in self._members
            if each.template == member.template and each is not member
        ]
        if len(mates) < 2:
            return self._away_from(member, 1, rng)
        best = self._levels.of(min([member, *mates], key=self._history.time_s))
        one, other = (self._levels.of(mates[i]) for i in rng.permutation(len(mates))[:2])
        own = self._levels.of(member)
        moved = own + FACTOR * (best - own) + FACTOR * (one - other)
        changed = rng.random(len(own)) < CROSSOVER
        changed[rng.integers(len(own)) if len(own) else []] = True
        return self._levels.unseen_near(np.where(changed, moved, own), member, rng)

    def _learn(self, schedule: Schedule, time_s: float) -> None:
        place = self._trials.pop(schedule, None)
        if place is None and len(self._members) < POPULATION:
            if schedule not in self._members:
                self._members.append(schedule)
            return
        if place is None:  # drawn at random, or of an earlier session
            times_s = [self._history.time_s(member) for member in self._members]
            place = int(np.argmax(times_s))
        if time_s < self._history.time_s(self._members[place]):
            self._members[place] = schedule
