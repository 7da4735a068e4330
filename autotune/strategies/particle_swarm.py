"""Particle swarm over levels: particles drawn to their own best and to the best of all.

Kennedy and Eberhart (1995) with the constriction of Clerc and Kennedy (2002). A particle is
measured at the legal unseen schedule nearest to where it flies, and stands there afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autotune.strategies.levels import Levels, LevelSpace
from autotune.strategies.one_by_one import OneByOne
from autotune.strategies.spaces import SearchableSpace
from records.schedule import Schedule

PARTICLES = 12
INERTIA = 0.7298
PULL = 1.49618
"""Towards its own best, and as much towards that of all (Clerc and Kennedy's constants)."""

FASTEST = 0.5
"""Largest step of a knob in one flight, as a share of its range."""


@dataclass
class _Particle:
    place: Schedule
    best: Schedule
    velocity: Levels
    flying: bool = False


class ParticleSwarm(OneByOne):
    """Asynchronous: a particle waits for its own result only.

    The best of all is that of the particle's own template, for templates share no coordinates.
    """

    def __init__(self, space: SearchableSpace, seed: int) -> None:
        super().__init__(space, seed)
        self._levels = LevelSpace(space, self._history)
        self._particles: list[_Particle] = []
        self._flights: dict[Schedule, _Particle] = {}
        self._turn = 0

    def _propose(self, rng: np.random.Generator) -> Schedule | None:
        if len(self._history) < PARTICLES:
            return None
        for _ in self._particles:
            self._turn = (self._turn + 1) % len(self._particles)
            particle = self._particles[self._turn]
            if not particle.flying:
                landing = self._fly(particle, rng)
                if landing is not None:
                    particle.flying = True
                    self._flights[landing] = particle
                return landing
        return None

    def _fly(self, particle: _Particle, rng: np.random.Generator) -> Schedule | None:
        place = self._levels.of(particle.place)
        best = self._best_like(particle)
        worked = math.isfinite(self._history.time_s(particle.best))
        own, swarm = self._levels.of(particle.best if worked else best), self._levels.of(best)
        pulls = PULL * rng.random((2, len(place)))
        pulled = pulls[0] * (own - place) + pulls[1] * (swarm - place)
        velocity = INERTIA * particle.velocity + pulled
        particle.velocity = np.clip(velocity, -FASTEST, FASTEST)
        return self._levels.unseen_near(place + particle.velocity, particle.place, rng)

    def _best_like(self, particle: _Particle) -> Schedule:
        bests = [each.best for each in self._particles]
        alike = [best for best in bests if best.template == particle.place.template]
        return min(alike, key=self._history.time_s)

    def _learn(self, schedule: Schedule, time_s: float) -> None:
        particle = self._flights.pop(schedule, None)
        if particle is None:
            self._join(schedule, time_s)
            return
        particle.flying = False
        particle.velocity = self._levels.of(schedule) - self._levels.of(particle.place)
        particle.place = schedule
        if time_s < self._history.time_s(particle.best):
            particle.best = schedule

    def _join(self, schedule: Schedule, time_s: float) -> None:
        """One drawn at random, or of an earlier session: a new particle, or for the slowest."""
        still = np.zeros(len(self._levels.of(schedule)))
        fresh = _Particle(schedule, schedule, still)
        if len(self._particles) < PARTICLES:
            self._particles.append(fresh)
            return
        idle = [at for at, each in enumerate(self._particles) if not each.flying]
        slowest = max(
            idle, key=lambda at: self._history.time_s(self._particles[at].best), default=None
        )
        if slowest is not None and time_s < self._history.time_s(self._particles[slowest].best):
            self._particles[slowest] = fresh
