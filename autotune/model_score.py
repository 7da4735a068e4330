"""A cost model as a strategy sees it: predictions for one search, and what it chose among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cost_model.acquisition import DEFAULT, choose
from cost_model.base import CostModel, Prediction
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.threads import single_threaded_products


@dataclass(frozen=True)
class Offer:
    """Schedules to choose from, those `free` to be chosen, and what is predicted of all."""

    schedules: Sequence[Schedule]
    free: npt.NDArray[np.bool_]
    prediction: Prediction


class ModelScore:
    """A cost model's predictions for one workload on one target, as a `BatchScore`."""

    def __init__(
        self,
        model: CostModel,
        workload: Workload,
        target: Target,
        acquisition: str = DEFAULT,
        seed: Sequence[int] = (0,),
    ) -> None:
        self._model = model
        self._workload = workload
        self._target = target
        self._acquisition = acquisition
        self._rng = np.random.default_rng(seed)
        self._scored: dict[Schedule, None] = {}
        self._offered: Offer | None = None

    def __call__(self, schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
        self._scored.update(dict.fromkeys(schedules))
        return self.prediction(schedules).score

    def choose(
        self, schedules: Sequence[Schedule], free: npt.NDArray[np.bool_], n: int
    ) -> Sequence[int]:
        """By what each is expected to gain, not by the score alone."""
        prediction = self.prediction(schedules)
        self._offered = Offer(schedules, free.copy(), prediction)
        with single_threaded_products():
            return choose(prediction, free, n, self._rng, self._acquisition)

    def prediction(self, schedules: Sequence[Schedule]) -> Prediction:
        return self._model.predict(self._workload, self._target, schedules)

    @property
    def was_asked(self) -> bool:
        return bool(self._scored) or self._offered is not None

    def offer(self) -> Offer:
        """What there was to choose from last, or else all that was scored."""
        if self._offered is None:
            scored = tuple(self._scored)
            self._offered = Offer(scored, np.ones(len(scored), np.bool_), self.prediction(scored))
        return self._offered
