"""A random forest: robust, quick to fit, and its trees disagree where little is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from cost_model.base import Prediction
from cost_model.groups import known_groups, stacked
from cost_model.table import FeatureTable, FindTemplate, Matrix
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry


@dataclass(frozen=True)
class Settings:
    """`columns`: the share of features that each split chooses from."""

    trees: int = 60
    columns: float = 0.5
    enough: int = 8


class ForestModel:
    """Regression on the clipped logarithm of the speed; `score` is that of runs a second."""

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
        self._forest: RandomForestRegressor | None = None
        self._order: list[int] = []  # columns by name: equal records, equal forest
        self._best: dict[tuple[Workload, Target], float] = {}

    @property
    def ready(self) -> bool:
        return self._forest is not None

    def fit(self, records: Sequence[TuningRecord]) -> None:
        groups = known_groups(records, self._find_template)
        self._forest = None
        if sum(group.worked for group in groups) < self._settings.enough:
            return
        self._best = {
            (group.workload, group.target): -float(np.log(group.best_s))
            for group in groups
            if group.worked
        }
        features = stacked(self._table, groups)
        names = self._table.names
        self._order = sorted(range(features.shape[1]), key=lambda column: names[column])
        labels = np.concatenate([group.log_speeds for group in groups])
        self._forest = RandomForestRegressor(
            self._settings.trees,
            max_features=self._settings.columns,
            random_state=self._seed,
        ).fit(features[:, self._order], labels)

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        if self._forest is None:
            raise RuntimeError("the cost model has not learnt enough: ask `ready` first")
        if not schedules:
            return Prediction(np.zeros(0), np.zeros(0))
        features: Matrix = self._table.matrix(workload, target, schedules)[:, self._order]
        scores = np.stack([tree.predict(features) for tree in self._forest.estimators_])
        best = self._best.get((workload, target), 0.0)
        return Prediction(scores.mean(axis=0) + best, scores.std(axis=0), best)
