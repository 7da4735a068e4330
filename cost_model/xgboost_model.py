"""Gradient-boosted trees that predict the order of schedules by speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xgboost

from cost_model.base import Prediction
from cost_model.table import FeatureTable, FindTemplate, Matrix
from records.errors import InvalidInputError
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry

Labels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How the trees are grown; `benchmarks/replay.md` compares.

    `members` models see `subsample` of the rows each; their disagreement is the spread.
    """

    members: int = 4
    rounds: int = 100
    depth: int = 5
    learning_rate: float = 0.12
    subsample: float = 0.8
    columns: float = 0.7
    enough: int = 20
    threads: int = 1


class XGBoostModel:
    """Regression on speed as a share of the best of the same workload and target.

    A share tells the fast apart and presses the slow together, and a failure is simply 0. On
    recorded spaces the ten best predicted hold faster schedules than with the logarithm of the
    time (unless clipped near the best, which does as well) or with pairwise or NDCG ranking:
    see `benchmarks/replay.md`. `score` is the predicted speed in runs a second (the
    share, where the workload is new), so that scores of successive fits compare.
    """

    def __init__(
        self,
        seed: int = 0,
        settings: Settings | None = None,
        find_template: FindTemplate = registry.template,
    ) -> None:
        self._seed = seed
        self._settings = settings or Settings()
        self._find_template = find_template
        self._table = FeatureTable(find_template)
        self._members: list[xgboost.Booster] = []
        self._columns: list[int] = []
        self._best_s: dict[tuple[Workload, Target], float] = {}

    @property
    def ready(self) -> bool:
        return bool(self._members)

    def fit(self, records: Sequence[TuningRecord]) -> None:
        groups = self._groups(records)
        self._members = []
        self._best_s = {}
        worked = sum(record.measurement.is_ok for group in groups for record in group)
        if worked < self._settings.enough:
            return
        features, labels = self._examples(groups)
        self._columns = self._informative(features)
        self._members = self._train(features[:, self._columns], labels)

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        if not self._members:
            raise RuntimeError("the cost model has not learnt enough: ask `ready` first")
        if not schedules:
            return Prediction(np.zeros(0), np.zeros(0))
        features = self._table.matrix(workload, target, schedules)[:, self._columns]
        data = xgboost.DMatrix(features, nthread=self._settings.threads)
        shares = np.stack([member.predict(data) for member in self._members]).astype(np.float64)
        speeds = shares / self._best_s.get((workload, target), 1.0)
        return Prediction(speeds.mean(axis=0), speeds.std(axis=0))

    def _groups(self, records: Sequence[TuningRecord]) -> list[list[TuningRecord]]:
        """Known records by workload and target; of one schedule the latest."""
        groups: dict[tuple[Workload, Target], dict[Schedule, TuningRecord]] = {}
        for record in records:
            if self._is_known(record):
                group = groups.setdefault((record.workload, record.target), {})
                group[record.schedule] = record
        return [list(group.values()) for group in groups.values()]

    def _is_known(self, record: TuningRecord) -> bool:
        try:
            template = self._find_template(record.workload.op, record.schedule.template)
        except InvalidInputError:
            return False
        return template.version == record.schedule.version

    def _examples(self, groups: Sequence[Sequence[TuningRecord]]) -> tuple[Matrix, Labels]:
        blocks, labels = [], []
        for group in groups:
            workload, target = group[0].workload, group[0].target
            schedules = [record.schedule for record in group]
            blocks.append(self._table.matrix(workload, target, schedules))
            times_s = _times_s(group)
            best_s = float(times_s.min())
            labels.append(best_s / times_s if math.isfinite(best_s) else np.zeros(len(group)))
            self._best_s[workload, target] = best_s if math.isfinite(best_s) else 1.0
        features = np.full((sum(map(len, blocks)), len(self._table.names)), np.nan, np.float32)
        start = 0
        for block in blocks:
            features[start : start + len(block), : block.shape[1]] = block
            start += len(block)
        return features, np.concatenate(labels)

    def _informative(self, features: Matrix) -> list[int]:
        """Columns that vary, in the order of their names: equal records, equal model."""
        names = self._table.names
        known = ~np.isnan(features)
        low = np.where(known, features, np.inf).min(axis=0)
        high = np.where(known, features, -np.inf).max(axis=0)
        varies = (low < high) | (known.any(axis=0) & ~known.all(axis=0))
        return sorted(np.flatnonzero(varies).tolist(), key=lambda column: names[column])

    def _train(self, features: Matrix, labels: Labels) -> list[xgboost.Booster]:
        settings = self._settings
        data = xgboost.DMatrix(features, label=labels, nthread=settings.threads)
        parameters = {
            "objective": "reg:squarederror",
            "max_depth": settings.depth,
            "learning_rate": settings.learning_rate,
            "subsample": settings.subsample,
            "colsample_bytree": settings.columns,
            "tree_method": "hist",
            "nthread": settings.threads,
            "verbosity": 0,
        }
        return [
            xgboost.train(
                parameters | {"seed": self._seed * settings.members + member},
                data,
                settings.rounds,
            )
            for member in range(settings.members)
        ]


def _times_s(group: Sequence[TuningRecord]) -> Labels:
    """Seconds; infinite for a failure."""
    times = [record.measurement.time_s for record in group]
    return np.array([math.inf if time_s is None else time_s for time_s in times])
