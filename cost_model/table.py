"""Features of many schedules as one matrix whose columns go by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from cost_model.features import context_features, knob_features, stats_features
from records.errors import InvalidInputError
from records.peaks import NO_PEAKS, PeaksOf
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.kernel import KernelStats
from search_spaces.quantities import Quantity

Matrix: TypeAlias = npt.NDArray[np.float32]


class StatsSource(Protocol):
    """The part of a `Template` that the cost model needs."""

    @property
    def version(self) -> int: ...

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats: ...


@runtime_checkable
class QuantitySource(Protocol):
    """A `StatsSource` whose rules say which quantities matter beside the knobs."""

    @property
    def quantities(self) -> Sequence[Quantity]: ...


FindTemplate: TypeAlias = Callable[[str, str], StatsSource]
"""Finds a template by the names of op and template; raises `InvalidInputError` for none."""


def quantities_of(find_template: FindTemplate, op: str, name: str) -> Sequence[Quantity]:
    """None of a template that is not known, or has no such rules."""
    try:
        source = find_template(op, name)
    except InvalidInputError:
        return ()
    return source.quantities if isinstance(source, QuantitySource) else ()


class FeatureTable:
    """Rows of features, computed once a schedule and kept; columns only ever grow.

    A matrix has a column for every name met so far, in the order of meeting; NaN is "unknown".
    That of a tuple of schedules is kept until the next tuple.
    """

    def __init__(
        self, find_template: FindTemplate, peaks: PeaksOf = NO_PEAKS, keep_rows: int = 100_000
    ) -> None:
        self._find_template = find_template
        self._peaks = peaks
        self._keep_rows = keep_rows
        self._positions: dict[str, int] = {}
        self._rows: dict[tuple[Workload, Target], dict[Schedule, Matrix]] = {}
        self._last: tuple[Workload, Target, tuple[Schedule, ...], Matrix] | None = None

    @property
    def names(self) -> list[str]:
        return list(self._positions)

    def matrix(self, workload: Workload, target: Target, schedules: Sequence[Schedule]) -> Matrix:
        """(len(schedules), len(self.names)) features, rows in the order given."""
        if not isinstance(schedules, tuple):
            return self._matrix(workload, target, schedules)
        last = self._last
        if (
            last is None
            or last[2] is not schedules
            or last[:2] != (workload, target)
            or last[3].shape[1] != len(self._positions)
        ):
            last = workload, target, schedules, self._matrix(workload, target, schedules)
            self._last = last
        return last[3]

    def _matrix(self, workload: Workload, target: Target, schedules: Sequence[Schedule]) -> Matrix:
        rows = self._kept(workload, target)
        self._add(rows, workload, target, [each for each in schedules if each not in rows])
        context = context_features(workload, target, self._peaks)
        positions = self._at(context)
        matrix = np.full((len(schedules), len(self._positions)), np.nan, dtype=np.float32)
        for place, schedule in enumerate(schedules):
            row = rows[schedule]
            matrix[place, : len(row)] = row
        matrix[:, positions] = np.array(list(context.values()), dtype=np.float32)
        return matrix

    def _kept(self, workload: Workload, target: Target) -> dict[Schedule, Matrix]:
        if sum(map(len, self._rows.values())) > self._keep_rows:
            self._rows.clear()
        return self._rows.setdefault((workload, target), {})

    def _add(
        self,
        rows: dict[Schedule, Matrix],
        workload: Workload,
        target: Target,
        schedules: Sequence[Schedule],
    ) -> None:
        by_template: dict[str, list[Schedule]] = {}
        for schedule in dict.fromkeys(schedules):
            by_template.setdefault(schedule.template, []).append(schedule)
        for name, group in by_template.items():
            template = self._find_template(workload.op, name)
            stats = [_stats(template, workload, each, target) for each in group]
            columns = stats_features(workload, target, stats)
            knobs = [knob_features(schedule) for schedule in group]
            shared = self._at(columns)
            own = [self._at(each) for each in knobs]
            block = np.full((len(group), len(self._positions)), np.nan, dtype=np.float32)
            block[:, shared] = np.stack(list(columns.values()), axis=1)
            for place, values in enumerate(knobs):
                block[place, own[place]] = list(values.values())
            rows.update(zip(group, block, strict=True))

    def _at(self, features: Mapping[str, object]) -> list[int]:
        """Positions of the named columns, new ones appended."""
        known = self._positions
        return [known.setdefault(name, len(known)) for name in features]


def _stats(
    template: StatsSource, workload: Workload, schedule: Schedule, target: Target
) -> KernelStats:
    """Unknown where a template fails to say: predictions get worse, and the search goes on."""
    try:
        return template.stats(workload, schedule, target)
    except Exception:
        return KernelStats()
