"""A search space given by its schedules, one by one, where no constraint is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from records.canonical import Scalar
from records.errors import InvalidInputError
from records.schedule import Schedule
from search_spaces.assignments import Assignments
from search_spaces.diagram import FORBIDDEN, Bools, Ints
from search_spaces.knobs import Knob
from search_spaces.space import SearchSpace

FEW = 4096
"""Rows whose costs are added up at once."""


class ListedSpace(SearchSpace):
    """The listed schedules of one template, in the order of the list.

    `rows` are their values in the order of `knobs`. Answers as a `SearchSpace` does; questions
    that a diagram answers take a pass over the list. `InvalidInputError` for a value that is not
    its knob's and for a row that is there twice.
    """

    def __init__(
        self, template: str, version: int, knobs: Sequence[Knob], rows: Iterable[Sequence[Scalar]]
    ) -> None:
        super().__init__(template, version, knobs, ())
        self._list([self._row(values) for values in rows])

    def _row(self, values: Sequence[Scalar]) -> tuple[int, ...]:
        if len(values) != len(self.knobs):
            raise InvalidInputError(
                f"space of {self.template!r}: need {len(self.knobs)} values, got {list(values)}"
            )
        row = []
        for knob, value in zip(self.knobs, values, strict=True):
            position = knob.position(value)
            if position is None:
                raise InvalidInputError(
                    f"{knob.name}={value!r} is not legal; legal values: {knob.listed}"
                )
            row.append(position)
        return tuple(row)

    def _list(self, rows: Sequence[tuple[int, ...]]) -> None:
        places = {row: at for at, row in enumerate(rows)}
        if len(places) < len(rows):
            twice = next(row for at, row in enumerate(rows) if places[row] != at)
            raise InvalidInputError(f"listed twice: {self._schedule(np.array(twice))}")
        shaped = np.array(rows, dtype=np.int64).reshape(len(rows), len(self.knobs))
        object.__setattr__(self, "_listed", ListedAssignments((), shaped))

    @property
    def _legal(self) -> Assignments:
        legal: Assignments = self.__dict__["_listed"]
        return legal

    def __reduce__(self) -> tuple[type[SearchSpace], tuple[Any, ...]]:
        rows = [tuple(each[knob.name] for knob in self.knobs) for each in self]
        return type(self), (self.template, self.version, self.knobs, rows)

    def __repr__(self) -> str:
        return (
            f"ListedSpace({self.template!r}, {self.version}, {len(self.knobs)} knobs, "
            f"{self.size} schedules)"
        )

    def violations(self, values: Mapping[str, Any]) -> list[str]:
        """As of `SearchSpace`; the only constraint is to be listed."""
        messages = super().violations(values)
        if messages or len(values) < len(self.knobs):
            return messages
        row = np.array([knob.position(values[knob.name]) for knob in self.knobs], dtype=np.int64)
        return [] if self._legal.allows(row[None, :])[0] else [self._unlisted]

    @property
    def _unlisted(self) -> str:
        return f"it is none of the {self.size:,} listed schedules"

    def fixed(self, values: Mapping[str, Scalar]) -> ListedSpace:
        """The listed schedules in which knobs named in `values` have that value."""
        knobs = super().fixed(values).knobs
        known = {knob.name: knob for knob in knobs}
        rows = [
            tuple(each[knob.name] for knob in self.knobs)
            for each in self
            if all(known[name].position(each[name]) is not None for name in values)
        ]
        return ListedSpace(self.template, self.version, knobs, rows)

    def why_empty(self) -> list[str]:
        return [] if self.size else ["no listed schedule is so"]


@dataclass(frozen=True, eq=False)
class ListedAssignments(Assignments):
    """Assignments as the rows of a table, shape (assignments, knobs)."""

    rows: Ints

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {row.tobytes(): at for at, row in enumerate(self.rows)}

    @cached_property
    def _columns(self) -> Ints:
        """Each knob's positions side by side, as small as they are: what passes over them read."""
        smallest = np.min_scalar_type(self.rows.max(initial=0))
        return np.ascontiguousarray(self.rows.T.astype(smallest))

    @cached_property
    def _places_of(self) -> list[list[Ints]]:
        """Where each value of each knob occurs."""
        found = []
        for column in self._columns:
            order = np.argsort(column, kind="stable")
            ends = np.cumsum(np.bincount(column))
            found.append(np.split(order, ends[:-1]))
        return found

    @cached_property
    def size(self) -> int:
        return len(self.rows)

    def unrank(self, indices: Sequence[int] | npt.NDArray[Any]) -> Ints:
        return self.rows[np.asarray(indices, dtype=np.int64)]

    def rank(self, positions: Ints) -> int:
        return self._places[np.ascontiguousarray(positions).tobytes()]

    def allows(self, rows: Ints) -> Bools:
        return np.array(
            [row.tobytes() in self._places for row in np.ascontiguousarray(rows)], dtype=np.bool_
        )

    def cheapest(self, costs: Sequence[Ints]) -> Ints | None:
        """The first of least total cost."""
        left = self._possible([cost < FORBIDDEN for cost in costs])
        if not len(left):
            return None
        if len(left) > FEW:
            left = self._promising(left, costs)
        return np.asarray(self.rows[left[self._totals(left, costs).argmin()]])

    def _totals(self, places: Ints, costs: Sequence[Ints]) -> Ints:
        totals = np.zeros(len(places), dtype=np.int64)
        for column, cost in zip(self._columns, costs, strict=True):
            totals += cost[column[places]]
        return totals

    def _promising(self, places: Ints, costs: Sequence[Ints]) -> Ints:
        """Those of `places` that may be the cheapest, by how many values are not the cheapest.

        Each of these costs at least the smallest step from the cheapest value of a knob to the
        next, which bounds the total from below. Bytes are compared in no time, costs are not.
        """
        dearer = np.zeros(self.size, dtype=np.min_scalar_type(len(costs)))
        least, step = 0, FORBIDDEN
        for column, cost in zip(self._columns, costs, strict=True):
            low = int(cost.min())
            above = cost[(cost > low) & (cost < FORBIDDEN)]
            least += low
            if len(above):
                cheap = np.flatnonzero(cost == low)
                if len(cheap) == 1:
                    others = column != int(cheap[0])  # a plain int leaves the column as bytes
                else:
                    others = (cost > low)[column]
                dearer += others.view(np.uint8)
                step = min(step, int(above.min()) - low)
        counts = dearer[places].astype(np.int64)
        best = self._totals(places[counts == counts.min()], costs).min() - least
        return np.asarray(places[counts * step <= best])

    def _possible(self, allowed: Sequence[Bools]) -> Ints:
        """Places, in order, of the rows that have allowed values alone.

        The knob that leaves the fewest is asked first: a pass over the whole list is slow.
        """
        shares = zip(self._places_of, allowed, strict=True)
        counts = [sum(map(len, compress(places, values))) for places, values in shares]
        first, *others = np.argsort(counts, kind="stable").tolist()
        if not 0 < counts[first] < self.size:
            return np.arange(counts[first])
        runs = [*compress(self._places_of[first], allowed[first])]
        left = np.sort(np.concatenate(runs), kind="stable")  # sorted runs: a merge
        for knob in others:
            if counts[knob] < self.size:
                left = left[allowed[knob][self._columns[knob][left]]]
        return left


def listed_space(schedules: Sequence[Schedule]) -> ListedSpace:
    """A space of schedules of one template, which all have the same knobs.

    Each knob's values are those that occur, numbers sorted. `InvalidInputError` where knobs
    differ.
    """
    first = schedules[0]
    names = [name for name, _ in first.knobs]
    for schedule in schedules:
        if [name for name, _ in schedule.knobs] != names:
            raise InvalidInputError(
                f"need the same knobs in all schedules of {first.template}, found "
                f"{', '.join(names)} and {', '.join(name for name, _ in schedule.knobs)}"
            )
    rows: list[tuple[Any, ...]] = [tuple(value for _, value in each.knobs) for each in schedules]
    columns = zip(*rows, strict=True)
    knobs = [Knob(name, _values(column)) for name, column in zip(names, columns, strict=True)]
    return ListedSpace(first.template, first.version, knobs, rows)


def _values(column: Sequence[Any]) -> tuple[Scalar, ...]:
    values = {(type(value), value): value for value in column}.values()
    numbers = all(isinstance(value, int | float) for value in values)
    return tuple(sorted(values, key=(lambda value: value) if numbers else str))
