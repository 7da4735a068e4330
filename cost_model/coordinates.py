"""Schedules of one template as points of a space in which near means alike.

A knob of numbers is one coordinate: its logarithm where it is positive and wide (tile sizes double
rather than step), scaled to what was measured: 0 to 1. One whose whole numbers are divisible by
more or fewer twos has that as a coordinate too: hardware works in warps, banks and lines, so
that 64 may be nearer to 128 than to 80. A category has a coordinate for each value met, so that any
two values are at a distance of 1; so have the numbers 0, 1, 2 … of things that are only numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cost_model.base import Floats
from cost_model.features import context_features
from cost_model.kept import KeptOfTuple
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.quantities import Quantity

Column: TypeAlias = npt.NDArray[Any]

WIDE = 4.0
"""Largest over smallest value from which on a knob is seen by its logarithm."""

NUMBERED = 6
"""Values 0, 1, 2 … up to which a knob is taken for a numbering of variants, not for an amount."""

UNLIKE = -1.0
"""For text where a knob had only numbers so far: far from them."""


class KnobTable:
    """Knobs of one template's schedules as columns, and `quantities` computed of them.

    A tuple's are kept until the next tuple.
    """

    def __init__(self, quantities: Sequence[Quantity] = ()) -> None:
        self._quantities = quantities
        self._factors = {name for each in quantities for name in each.knobs}
        self._kept = KeptOfTuple(self._columns)

    def columns(self, schedules: Sequence[Schedule]) -> list[Column]:
        """An array for each knob, in the order of the knobs' names: of numbers or of text.

        Quantities follow: 0 where a knob is text, so that there are as many whatever is asked for.
        """
        return self._kept(schedules)

    def _columns(self, schedules: Sequence[Schedule]) -> list[Column]:
        rows = ([value for _, value in schedule.knobs] for schedule in schedules)
        columns = [_column(values) for values in zip(*rows, strict=True)]
        names = [name for name, _ in schedules[0].knobs] if schedules else []
        numbers = {
            name: _numbers(column, text=np.nan)
            for name, column in zip(names, columns, strict=True)
            if name in self._factors
        }
        computed = [each for each in self._quantities if numbers.keys() >= set(each.knobs)]
        return [*columns, *(quantity(numbers) for quantity in computed)]


@dataclass(frozen=True)
class NumberAxis:
    """`shift` is added before the logarithm; `None`: no logarithm."""

    shift: float | None
    low: float = 0.0
    span: float = 1.0

    def __call__(self, column: Column) -> Floats:
        values = _numbers(column)
        if self.shift is not None:
            values = np.log2(np.maximum(values + self.shift, 1e-9))
        return np.asarray(((values - self.low) / self.span)[:, None], dtype=np.float64)


@dataclass(frozen=True)
class TwosAxis:
    """How often 2 divides a whole number."""

    low: float
    span: float

    def __call__(self, column: Column) -> Floats:
        coordinates: Floats = (_twos(_numbers(column)) - self.low) / self.span
        return coordinates[:, None]


@dataclass(frozen=True)
class CategoryAxis:
    """A value never met is equally far from all others, and nearer than they are."""

    values: tuple[str, ...]

    def __call__(self, column: Column) -> Floats:
        text = column.astype(str)
        hot = np.stack([text == value for value in self.values], axis=1)
        coordinates: Floats = hot * np.sqrt(0.5)
        return coordinates


Axis: TypeAlias = NumberAxis | TwosAxis | CategoryAxis


class Coordinates:
    """Made from the columns of what was measured; the last `context` of them are no knobs.

    `groups`: the dimension that each coordinate belongs to: every axis is one.
    """

    def __init__(self, measured: Sequence[Column], context: int = 0) -> None:
        knobs = len(measured) - context
        self._axes = [_axes(column) for column in measured[:knobs]]
        self._axes += [[_axis(column)] for column in measured[knobs:]]
        widths = [_width(axis) for axes in self._axes for axis in axes]
        self.groups = np.repeat(np.arange(len(widths)), widths)

    def __call__(self, columns: Sequence[Column]) -> Floats:
        """(schedules, coordinates)"""
        blocks = [
            axis(column) for axes, column in zip(self._axes, columns, strict=True) for axis in axes
        ]
        return np.hstack(blocks) if blocks else np.zeros((0, 0))


class Context:
    """Sizes of the workload and limits of the target as columns, where records differ in them."""

    def __init__(self, met: Sequence[tuple[Workload, Target]]) -> None:
        rows = [context_features(workload, target) for workload, target in met]
        names = sorted({name for row in rows for name in row})
        values = {name: [row.get(name, _absent(name)) for row in rows] for name in names}
        self._unknown = {
            name: float(np.nanmean(column))
            for name, column in values.items()
            if not np.isnan(column).all() and len({repr(value) for value in column}) > 1
        }

    def __len__(self) -> int:
        return len(self._unknown)

    def columns(self, workload: Workload, target: Target, count: int) -> list[Column]:
        """For `count` schedules; what is not known of the workload is taken for average."""
        if not self._unknown:
            return []
        row = context_features(workload, target)
        values = [row.get(name, _absent(name)) for name in self._unknown]
        known = np.where(np.isnan(values), list(self._unknown.values()), values)
        return [np.full(count, value) for value in known]


def _absent(name: str) -> float:
    """A number that is not there is unknown; a category ("name=value") is another one."""
    return 0.0 if "=" in name else np.nan


def _axes(knob: Column) -> list[Axis]:
    if knob.dtype.kind != "f":
        return [_axis(knob)]
    met = np.unique(knob)
    if (met != np.rint(met)).any() or len(met) < 3:
        return [_axis(knob)]
    if np.array_equal(met, np.arange(len(met))) and len(met) <= NUMBERED:
        return [CategoryAxis(tuple(met.astype(str).tolist()))]
    twos = _twos(met)
    if met[0] <= 0.0 or met[-1] <= WIDE or (np.diff(twos) >= 0.0).all():
        return [_axis(knob)]
    return [_axis(knob), TwosAxis(float(twos.min()), float(np.ptp(twos)))]


def _axis(column: Column) -> NumberAxis | CategoryAxis:
    if column.dtype.kind != "f":
        return CategoryAxis(tuple(sorted(set(column.tolist()))))
    low, high = float(column.min()), float(column.max())
    shift = None
    if low > 0.0 and high >= WIDE * low:
        shift = 0.0
    elif low == 0.0 and high >= WIDE:
        shift = 1.0
    ends = NumberAxis(shift)(np.array([low, high]))[:, 0]
    return NumberAxis(shift, float(ends[0]), float(ends[1] - ends[0]) or 1.0)


def _width(axis: Axis) -> int:
    return len(axis.values) if isinstance(axis, CategoryAxis) else 1


def _column(values: Sequence[object]) -> Column:
    if all(isinstance(value, (bool, int, float)) for value in values):
        return np.array(values, dtype=np.float64)
    return np.array([str(value) for value in values])


def _numbers(column: Column, text: float = UNLIKE) -> Floats:
    """A column of numbers as it is; in one of text what is no number becomes `text`."""
    if column.dtype.kind == "f":
        return column
    return np.array([_number(value, text) for value in column])


def _twos(values: Floats) -> Floats:
    """How often 2 divides each; 0 for what is no whole number above 0."""
    whole = np.where((values >= 1.0) & (values == np.rint(values)), values, 1.0).astype(np.int64)
    twos: Floats = np.log2(whole & -whole)
    return twos


def _number(value: object, text: float) -> float:
    try:
        return float(str(value))
    except ValueError:
        return text
