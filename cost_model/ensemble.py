"""A Gaussian process and boosted trees together: the default.

The process is right sooner and knows what it does not know; trees see what is not smooth, and
learn from all features and other workloads. Their mean is better than either of them
(`benchmarks/replay.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cost_model.base import Expectation, Floats, Prediction
from cost_model.gaussian_process_model import GaussianProcessModel
from cost_model.table import FindTemplate
from cost_model.xgboost_model import Settings as TreeSettings
from cost_model.xgboost_model import XGBoostModel
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry

TREES = TreeSettings(objective="log", members=1, rounds=80, enough=4, failures=True)


@dataclass(frozen=True)
class Settings:
    """`trees`: how they are grown; `weight` of their score beside the process's, from `enough`
    schedules that worked on. What will fail they tell from the first failures on; what others
    say of that is believed by the part `others` at first, by half of it from `enough` on."""

    trees: TreeSettings = TREES
    weight: float = 0.5
    enough: int = 24
    others: float = 0.5


class Ensemble:
    """Scores are means of both, logarithms of runs a second; the spread is the process's."""

    def __init__(
        self,
        seed: int = 0,
        settings: Settings | None = None,
        find_template: FindTemplate = registry.template,
        expectation: Expectation | None = None,
    ) -> None:
        """`expectation`: as `GaussianProcessModel` takes it."""
        self._settings = settings or Settings()
        self._process = GaussianProcessModel(
            seed, find_template=find_template, expectation=expectation
        )
        self._expectation = expectation
        base = None if expectation is None else self._process.expected
        self._trees = XGBoostModel(seed, self._settings.trees, find_template, base)
        self._worked = 0

    @property
    def ready(self) -> bool:
        return self._process.ready

    def fit(self, records: Sequence[TuningRecord]) -> None:
        self._worked = sum(record.measurement.is_ok for record in records)
        self._process.fit(records)
        self._trees.fit(records)

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        prediction = self._process.predict(workload, target, schedules)
        if not self._trees.ready:
            return replace(prediction, works=self._works(None, schedules))
        trees = self._trees.predict(workload, target, schedules)
        weight = self._settings.weight if self._worked >= self._settings.enough else 0.0
        score = (1.0 - weight) * prediction.score + weight * trees.score
        works = self._works(trees.works, schedules)
        return replace(prediction, score=score, works=works, moved=score - prediction.score)

    def _works(self, own: Floats | None, schedules: Sequence[Schedule]) -> Floats | None:
        """Own trials count in full, what others met the less the more of these there are."""
        others = None if self._expectation is None else self._expectation.works(schedules)
        if others is None:
            return own
        believed = self._settings.others / (1.0 + self._worked / self._settings.enough)
        doubted: Floats = 1.0 - believed * (1.0 - others)
        return doubted if own is None else own * doubted
