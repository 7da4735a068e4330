"""Training on records of many workloads and devices; how long is decided by workloads held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import numpy.typing as npt
import xgboost
from sklearn.model_selection import GroupKFold

from cost_model.base import Floats
from cost_model.groups import Group, known_groups, stacked
from cost_model.pretrained.header import Header
from cost_model.pretrained.model import PretrainedModel
from cost_model.table import FeatureTable, FindTemplate, Matrix
from records.canonical import canonical_json
from records.errors import InvalidInputError
from records.peaks import NO_PEAKS, PeaksOf
from records.record import Kind, TuningRecord
from records.workload import Workload
from search_spaces import registry

ENOUGH = 8
"""Schedules of a workload on a target that worked, for them to count."""

WORKLOADS = 3
"""Fewer teach nothing that could be judged."""

MOST_ROUNDS = 400
PATIENCE = 25
PARTS = 5
"""Workloads are held out in so many parts, or one by one where they are fewer."""


@dataclass(frozen=True)
class Rows:
    """Schedules of all groups, one below the other. `names` of the columns are sorted."""

    groups: Sequence[Group]
    names: tuple[str, ...]
    features: Matrix
    labels: Floats
    weights: Floats
    workloads: npt.NDArray[np.int64]

    @classmethod
    def of(cls, groups: Sequence[Group], find_template: FindTemplate, peaks: PeaksOf) -> Rows:
        """Every workload on a target weighs the same, however often it was measured."""
        table = FeatureTable(find_template, peaks)
        features = stacked(table, groups)
        order = np.argsort(table.names)
        numbers: dict[Workload, int] = {}
        for group in groups:
            numbers.setdefault(group.workload, len(numbers))
        counts = [len(group.schedules) for group in groups]
        return cls(
            groups,
            tuple(table.names[place] for place in order),
            features[:, order],
            np.concatenate([group.log_speeds for group in groups]),
            np.repeat([np.mean(counts) / count for count in counts], counts),
            np.repeat([numbers[group.workload] for group in groups], counts),
        )

    def take(self, places: npt.NDArray[np.int64]) -> xgboost.DMatrix:
        return xgboost.DMatrix(
            self.features[places],
            label=self.labels[places],
            weight=self.weights[places],
            nthread=1,
        )


def usable(
    records: Sequence[TuningRecord], find_template: FindTemplate = registry.template
) -> list[Group]:
    """Groups of search trials, of templates as they are today, that say enough.

    `InvalidInputError` where they are of fewer than `WORKLOADS` workloads.
    """
    searched = [record for record in records if record.kind is Kind.SEARCH]
    groups = [each for each in known_groups(searched, find_template) if each.worked >= ENOUGH]
    found = len({group.workload for group in groups})
    if found < WORKLOADS:
        raise InvalidInputError(
            f"need search trials of {WORKLOADS} workloads or more, {ENOUGH} schedules or more of "
            f"each that worked, of templates at their present versions; found {found}: tune "
            "others, or name more files"
        )
    return groups


def train(
    groups: Sequence[Group],
    find_template: FindTemplate = registry.template,
    seed: int = 0,
    peaks: PeaksOf = NO_PEAKS,
) -> PretrainedModel:
    """A model of the groups, as `usable` gives them, and of what `peaks` are known of targets.

    The same groups and peaks give the same model.
    """
    rows = Rows.of(groups, find_template, peaks)
    everything = np.arange(len(rows.labels))
    rounds = _rounds(rows, seed)
    booster = xgboost.train(_parameters(seed), rows.take(everything), rounds)
    return PretrainedModel(_header(rows, rounds), booster, find_template, peaks)


def _rounds(rows: Rows, seed: int) -> int:
    """As many as are best for workloads held out: the median over the parts."""
    parts = min(PARTS, len(set(rows.workloads.tolist())))
    if parts < 2:
        return MOST_ROUNDS // 4
    found = []
    for known, held_out in GroupKFold(parts).split(rows.features, groups=rows.workloads):
        booster = xgboost.train(
            _parameters(seed),
            rows.take(known),
            MOST_ROUNDS,
            evals=[(rows.take(held_out), "unseen")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )
        found.append(booster.best_iteration + 1)
    return max(1, int(np.median(found)))


def _parameters(seed: int) -> dict[str, object]:
    return {
        "objective": "reg:squarederror",
        "eval_metric": "rmse",
        "max_depth": 5,
        "learning_rate": 0.08,
        "subsample": 0.8,
        "colsample_bytree": 0.6,
        "min_child_weight": 3.0,
        "tree_method": "hist",
        "nthread": 1,
        "seed": seed,
        "verbosity": 0,
    }


def _header(rows: Rows, rounds: int) -> Header:
    templates: dict[str, dict[str, int]] = {}
    for group in rows.groups:
        for schedule in group.schedules:
            versions = templates.setdefault(group.workload.op, {})
            versions[schedule.template] = schedule.version
    targets = {(each.target.backend, each.target.device, each.target.arch) for each in rows.groups}
    return Header(
        features=rows.names,
        templates=templates,
        targets=tuple(sorted(targets)),
        workloads=dict(Counter(each.op for each in {group.workload for group in rows.groups})),
        records=len(rows.labels),
        digest=_digest(rows.groups),
        made_by=_own_version(),
        rounds=rounds,
    )


def _digest(groups: Sequence[Group]) -> str:
    """Of what was learnt from, in whatever order it came."""
    lines = sorted(
        canonical_json(
            [group.workload.to_json(), group.target.to_json(), schedule.to_json(), list(times_s)]
        )
        for group in groups
        for schedule, times_s in zip(
            group.schedules, (each.times_s for each in group.measurements), strict=True
        )
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _own_version() -> str:
    try:
        return version("autotune-kernels")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
