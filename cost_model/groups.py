"""Records as a model learns from them: grouped by workload and target, with comparable labels.

Only times of one workload on one target compare. A label is relative to the fastest of its group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cost_model.base import Floats
from cost_model.table import FeatureTable, FindTemplate, Matrix
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload

CLIP = math.log(4.0)
"""Slower than the best by more than this factor (natural logarithm) is all the same: slow.

What separates the slow from the slowest would otherwise take most of what a model can express.
"""


def times_s(measurements: Sequence[Measurement]) -> Floats:
    """Seconds; infinite for a failure."""
    times = [measurement.time_s for measurement in measurements]
    return np.array([math.inf if each is None else each for each in times], dtype=np.float64)


def fastest_first(records: Iterable[TuningRecord]) -> list[TuningRecord]:
    """Those that worked; of equally fast ones the earlier first."""
    worked = [record for record in records if record.measurement.is_ok]
    return sorted(worked, key=lambda record: record.measurement.time_s or math.inf)


def shares(times_s: Floats) -> Floats:
    """Speeds as shares of the best, 0 for a failure."""
    best_s = times_s.min(initial=math.inf)
    return best_s / times_s if math.isfinite(best_s) else np.zeros(len(times_s))


def log_speeds(times_s: Floats) -> Floats:
    """Natural logarithms of the speeds relative to the best: 0 down to -`CLIP`."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(shares(times_s)), -CLIP)


@dataclass(frozen=True)
class Group:
    """What was measured of one workload on one target: of each schedule the latest."""

    workload: Workload
    target: Target
    schedules: tuple[Schedule, ...]
    measurements: tuple[Measurement, ...]

    @property
    def records(self) -> list[TuningRecord]:
        measured = zip(self.schedules, self.measurements, strict=True)
        return [TuningRecord(self.workload, self.target, *each, created_at="") for each in measured]

    @property
    def times_s(self) -> Floats:
        """Seconds; infinite for a failure."""
        return times_s(self.measurements)

    @property
    def best_s(self) -> float:
        """Seconds of the fastest; infinite where everything failed."""
        return float(self.times_s.min(initial=math.inf))

    @property
    def worked(self) -> int:
        return sum(measurement.is_ok for measurement in self.measurements)

    @property
    def shares(self) -> Floats:
        """Speed as a share of the best, 0 for a failure."""
        return shares(self.times_s)

    @property
    def log_speeds(self) -> Floats:
        """As the function of that name."""
        return log_speeds(self.times_s)

    @property
    def log_variances(self) -> Floats:
        """Variance of each time's logarithm as its own runs tell; 0 where they do not."""
        return np.array([_log_variance(measurement.times_s) for measurement in self.measurements])


def _log_variance(times_s: Sequence[float]) -> float:
    """Of the median: π/2 times that of the mean, for many normal samples."""
    if len(times_s) < 3:
        return 0.0
    logs = np.log(times_s)
    return float(math.pi / 2.0 * logs.var(ddof=1) / len(times_s))


def known_groups(records: Sequence[TuningRecord], find_template: FindTemplate) -> list[Group]:
    """Groups in the order of meeting, without records of unknown or changed templates."""
    found: dict[tuple[Workload, Target], dict[Schedule, Measurement]] = {}
    versions: dict[tuple[str, str], int | None] = {}
    for record in records:
        name = record.workload.op, record.schedule.template
        if name not in versions:
            versions[name] = _version(find_template, *name)
        if versions[name] == record.schedule.version:
            group = found.setdefault((record.workload, record.target), {})
            group[record.schedule] = record.measurement
    return [
        Group(workload, target, tuple(measured), tuple(measured.values()))
        for (workload, target), measured in found.items()
    ]


def _version(find_template: FindTemplate, op: str, name: str) -> int | None:
    try:
        return find_template(op, name).version
    except InvalidInputError:
        return None


def stacked(table: FeatureTable, groups: Sequence[Group]) -> Matrix:
    """Features of all groups, one below the other, with a column for each of `table.names`."""
    blocks = [table.matrix(group.workload, group.target, list(group.schedules)) for group in groups]
    features = np.full((sum(map(len, blocks)), len(table.names)), np.nan, np.float32)
    start = 0
    for block in blocks:
        features[start : start + len(block), : block.shape[1]] = block
        start += len(block)
    return features
