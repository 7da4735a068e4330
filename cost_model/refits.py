"""Hyperparameters from fit to fit: searching for them takes most of the time of a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cost_model.gaussian_process import Hyperparameters, Observations, most_probable


@dataclass(frozen=True)
class Effort:
    """What bounds the searches.

    `iterations` of each, which takes the first `always` × `growth`^n examples: between two such
    counts the last answer stands, unless a new best moved what is behind it. From `tuned` on it
    takes so many in all, spread over all examples.
    """

    iterations: int = 30
    growth: float = 1.15
    always: int = 32
    tuned: int = 160


class Refits:
    """The most probable hyperparameters of one process as what it observed grows.

    The last answer is kept: it saves time and changes none.
    """

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._kept: tuple[tuple[bytes, ...], Hyperparameters] | None = None

    def hyperparameters(self, observations: Observations) -> Hyperparameters:
        telling = observations.take(self._telling(len(observations.targets)))
        arrays = telling.inputs, telling.targets, telling.groups
        key = tuple(array.tobytes() for array in arrays)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, most_probable(telling, self._effort.iterations)
        return self._kept[1]

    def _telling(self, count: int) -> npt.NDArray[np.int64]:
        """Places of the examples, of so many, that hyperparameters are fitted to."""
        effort = self._effort
        if count > effort.tuned:
            return np.linspace(0, count - 1, effort.tuned).astype(np.int64)
        if count > effort.always:
            steps = int(np.log(count / effort.always) / np.log(effort.growth))
            count = int(effort.always * effort.growth**steps)
        return np.arange(count)
