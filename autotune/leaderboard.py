"""How soon searches come near the optimum: many replays, told in a few numbers with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from autotune.replay import Replayed

Floats: TypeAlias = npt.NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]

MARKS = (10, 25, 50, 100, 200)
"""Trials after which a search is looked at."""

GOALS = (0.9, 0.95, 0.99)
"""Fractions of the optimum that it is to reach."""

RESAMPLES = 1000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Standing:
    """A policy's replays. `fractions`: of the optimum, shape (spaces, seeds, trials).

    An exhausted space keeps its last value. `elapsed_s`: wall time of each search, shape
    (spaces, seeds); `trials`: how many each made.
    """

    name: str
    fractions: Floats
    elapsed_s: Floats
    trials: Floats

    @classmethod
    def of(cls, name: str, replays: Sequence[Sequence[Replayed]], trials: int) -> Standing:
        """From replays by space and seed."""
        return cls(
            name,
            np.array([[_padded(each.fractions, trials) for each in space] for space in replays]),
            np.array([[each.elapsed_s for each in space] for space in replays]),
            np.array([[len(each.fractions) for each in space] for space in replays], dtype=float),
        )

    @property
    def marks(self) -> list[int]:
        """`MARKS` as far as the searches went, and their end."""
        end = self.fractions.shape[2]
        return sorted({*(mark for mark in MARKS if mark < end), end})

    def mean(self, trials: int) -> float:
        """Over spaces and seeds, of the fraction after so many trials."""
        return float(self._after(trials).mean())

    def median(self, trials: int) -> float:
        return float(np.median(self._after(trials)))

    def interval(self, trials: int) -> Interval:
        """Of the mean, 95 %, by bootstrap over seeds: other seeds on the same spaces."""
        return bootstrap_interval(self._after(trials))

    def mean_by_space(self, trials: int) -> list[float]:
        means: list[float] = self._after(trials).mean(axis=1).tolist()
        return means

    def trials_to(self, goal: float) -> float | None:
        """Trials after which half the searches have reached `goal`; `None` if fewer ever did."""
        reached = self.fractions >= goal
        first = np.where(reached.any(axis=2), reached.argmax(axis=2) + 1.0, np.inf)
        median = float(np.quantile(first, 0.5, method="higher"))
        return None if np.isinf(median) else median

    def share_reaching(self, goal: float) -> float:
        return float((self.fractions[:, :, -1] >= goal).mean())

    @property
    def s_per_trial(self) -> float:
        """Wall time of proposing, seconds a trial: the device's time comes on top."""
        return float(self.elapsed_s.sum() / self.trials.sum())

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "after": [
                {
                    "trials": mark,
                    "mean": self.mean(mark),
                    "mean_interval": list(self.interval(mark)),
                    "median": self.median(mark),
                    "by_space": self.mean_by_space(mark),
                }
                for mark in self.marks
            ],
            "to": [
                {
                    "fraction": goal,
                    "median_trials": self.trials_to(goal),
                    "share_reaching": self.share_reaching(goal),
                }
                for goal in GOALS
            ],
            "s_per_trial": self.s_per_trial,
        }

    def _after(self, trials: int) -> Floats:
        return self.fractions[:, :, trials - 1]


def bootstrap_interval(values: Floats) -> Interval:
    """95 % interval of the mean of `values`, shape (spaces, seeds), seeds drawn again.

    Efron's percentiles, from a fixed seed; both ends the mean where there is one seed only.
    """
    spaces, seeds = values.shape
    rng = np.random.default_rng(0)
    picks = rng.integers(seeds, size=(RESAMPLES, spaces, seeds))
    means = values[np.arange(spaces)[:, None], picks].mean(axis=(1, 2))
    tail = (1.0 - _CONFIDENCE) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail]).tolist()
    return low, high


def ranked(standings: Iterable[Standing]) -> list[Standing]:
    """The best first, by the means at all marks together."""
    return sorted(standings, key=lambda each: -sum(map(each.mean, each.marks)))


def fractions(standings: Sequence[Standing]) -> Iterator[list[str]]:
    """A heading and a row each: means at the marks, and the widest half of their intervals.

    One seed has no interval.
    """
    marks, several = standings[0].marks, standings[0].elapsed_s.shape[1] > 1
    yield ["policy", *map(str, marks), *(["±"] if several else [])]
    for each in standings:
        halves = [(high - low) / 2.0 for low, high in map(each.interval, marks)]
        means = [f"{each.mean(mark):.3f}" for mark in marks]
        yield [each.name, *means, *([f"{max(halves):.3f}"] if several else [])]


def efforts(standings: Sequence[Standing]) -> Iterator[list[str]]:
    """A heading and a row each: trials until half of the searches reached a goal, and time."""
    yield ["policy", *(f"{goal:.0%}" for goal in GOALS), "ms a trial"]
    for each in standings:
        trials = [_trials(each.trials_to(goal)) for goal in GOALS]
        yield [each.name, *trials, f"{each.s_per_trial * 1e3:.2f}"]


def as_json(
    spaces: Sequence[Mapping[str, Any]], standings: Sequence[Standing], **settings: Any
) -> dict[str, Any]:
    return {
        **settings,
        "spaces": list(spaces),
        "policies": [each.to_json() for each in standings],
    }


def _trials(count: float | None) -> str:
    return "-" if count is None else f"{count:.0f}"


def _padded(fractions: Sequence[float], trials: int) -> list[float]:
    return [*fractions, *[fractions[-1]] * (trials - len(fractions))]
