"""Gradient-boosted trees that predict speed, or the order of schedules by speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xgboost

from cost_model.base import Floats, Prediction
from cost_model.feasibility import Feasibility
from cost_model.groups import Group, known_groups, stacked
from cost_model.table import FeatureTable, FindTemplate, Matrix
from records.peaks import NO_PEAKS, PeaksOf
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry

Labels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """What is learnt, from labels for which higher is faster; `ranking`: its settings where only
    their order within a workload counts."""

    name: str
    labels: Callable[[Group], Labels]
    ranking: Mapping[str, object] | None = None


PAIRS = {"lambdarank_pair_method": "mean", "lambdarank_num_pair_per_sample": 8}
"""Each schedule is compared with 8 others at random: the default, pairs of the best 32 only, left
the order of a few hundred schedules no better than that of 25."""


OBJECTIVES = {
    "share": Objective("reg:squarederror", lambda group: group.shares),
    "log": Objective("reg:squarederror", lambda group: group.log_speeds),
    "pairwise": Objective("rank:pairwise", lambda group: group.shares, PAIRS),
    "ndcg": Objective(
        "rank:ndcg",
        lambda group: np.round(100.0 * group.shares),
        PAIRS | {"ndcg_exp_gain": False, "lambdarank_normalization": False},
    ),
}


@dataclass(frozen=True)
class Settings:
    """How the trees are grown; `benchmarks/replay.md` compares.

    `objective` is one of `OBJECTIVES`. `members` models see `subsample` of the rows each; their
    disagreement is the spread. `failures`: also learn which schedules will fail.
    """

    objective: str = "share"
    members: int = 4
    rounds: int = 100
    depth: int = 5
    learning_rate: float = 0.12
    subsample: float = 0.8
    columns: float = 0.7
    enough: int = 20
    threads: int = 1
    failures: bool = False


class XGBoostModel:
    """Trees over all features, of all workloads and targets that the records hold.

    `"share"` learns the speed as a share of the best of the same workload and target, which tells
    the fast apart and presses the slow together; a failure is simply 0, and `score` is in runs a
    second. `"log"` learns its logarithm, clipped; `score` is the logarithm of runs a second.
    Where the workload is new both are relative to its best. Of the ranking objectives the score
    has no unit. `benchmarks/replay.md` compares them.
    """

    def __init__(
        self,
        seed: int = 0,
        settings: Settings | None = None,
        find_template: FindTemplate = registry.template,
        base: Callable[[Sequence[Schedule]], Floats] | None = None,
        peaks: PeaksOf = NO_PEAKS,
    ) -> None:
        """`base`: what labels are expected to be; the trees learn what it misses. `peaks`: those
        of targets, as features."""
        self._base = base
        self._seed = seed
        self._settings = settings or Settings()
        self._find_template = find_template
        self._table = FeatureTable(find_template, peaks)
        self._members: list[xgboost.Booster] = []
        self._columns: list[int] = []
        self._feasibility = Feasibility(seed)
        self._best_s: dict[tuple[Workload, Target], float] = {}

    @property
    def ready(self) -> bool:
        return bool(self._members)

    def fit(self, records: Sequence[TuningRecord]) -> None:
        groups = known_groups(records, self._find_template)
        self._members = []
        self._best_s = {(each.workload, each.target): each.best_s for each in groups if each.worked}
        if sum(group.worked for group in groups) < self._settings.enough:
            return
        features = stacked(self._table, groups)
        self._columns = self._informative(features)
        self._members = self._train(features[:, self._columns], groups)
        if self._settings.failures:
            self._feasibility.fit(features[:, self._columns], groups)

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        if not self._members:
            raise RuntimeError("the cost model has not learnt enough: ask `ready` first")
        if not schedules:
            return Prediction(np.zeros(0), np.zeros(0))
        features = self._table.matrix(workload, target, schedules)[:, self._columns]
        base = None if self._base is None else self._base(schedules)
        raw = np.stack(
            [member.inplace_predict(features, base_margin=base) for member in self._members]
        )
        scores = raw.astype(np.float64)
        best_s = self._best_s.get((workload, target), 1.0)
        best: float | None = None
        if self._settings.objective == "share":
            scores, best = scores / best_s, 1.0 / best_s
        elif self._settings.objective == "log":
            best = -float(np.log(best_s))
            scores += best
        return Prediction(
            scores.mean(axis=0), scores.std(axis=0), best, self._feasibility.works(features)
        )

    def _informative(self, features: Matrix) -> list[int]:
        """Columns that vary, in the order of their names: equal records, equal model."""
        names = self._table.names
        known = ~np.isnan(features)
        low = np.where(known, features, np.inf).min(axis=0)
        high = np.where(known, features, -np.inf).max(axis=0)
        varies = (low < high) | (known.any(axis=0) & ~known.all(axis=0))
        return sorted(np.flatnonzero(varies).tolist(), key=lambda column: names[column])

    def _train(self, features: Matrix, groups: Sequence[Group]) -> list[xgboost.Booster]:
        settings = self._settings
        objective = OBJECTIVES[settings.objective]
        labels = np.concatenate([objective.labels(group) for group in groups])
        data = xgboost.DMatrix(features, label=labels, nthread=settings.threads)
        if self._base is not None:
            bases = [self._base(list(group.schedules)) for group in groups]
            data.set_base_margin(np.concatenate(bases))
        if objective.ranking is not None:
            data.set_group([len(group.schedules) for group in groups])
        parameters: dict[str, object] = {
            "objective": objective.name,
            "max_depth": settings.depth,
            "learning_rate": settings.learning_rate,
            "subsample": settings.subsample,
            "colsample_bytree": settings.columns,
            "tree_method": "hist",
            "nthread": settings.threads,
            "verbosity": 0,
        }
        if objective.ranking is not None:  # its second derivatives are small numbers
            parameters |= {"min_child_weight": 0.01, **objective.ranking}
        return [
            xgboost.train(
                parameters | {"seed": self._seed * settings.members + member},
                data,
                settings.rounds,
            )
            for member in range(settings.members)
        ]


def on_log_time(seed: int = 0, find_template: FindTemplate = registry.template) -> XGBoostModel:
    return XGBoostModel(seed, Settings("log"), find_template)


def on_pairs(seed: int = 0, find_template: FindTemplate = registry.template) -> XGBoostModel:
    return XGBoostModel(seed, Settings("pairwise"), find_template)


def on_lists(seed: int = 0, find_template: FindTemplate = registry.template) -> XGBoostModel:
    return XGBoostModel(seed, Settings("ndcg"), find_template)
