"""All legal assignments of a space's knobs, by position: independent groups side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.conjunction import conjunction
from search_spaces.diagram import Bools, Diagram, Ints
from search_spaces.ordering import components, decision_order
from search_spaces.relation import Relation, tabulated
from search_spaces.truth import TruthTable


@dataclass(frozen=True, eq=False)
class Assignments:
    """`groups` are knob places with their legal values; each knob is in one."""

    groups: tuple[tuple[Ints, Diagram | TruthTable], ...]

    @classmethod
    def of(cls, sizes: Sequence[int], relations: Sequence[Relation]) -> Assignments:
        """Those at which all `relations` hold; `sizes` counts the values of each knob."""
        tables = tabulated(relations)
        groups = []
        for members in components(len(sizes), [relation.scope for relation in relations]):
            own = [relation for relation in relations if relation.scope[0] in members]
            order = decision_order(members, sizes, [relation.scope for relation in own])
            groups.append((np.array(order), _together(order, sizes, own, tables)))
        return cls(tuple(groups))

    @cached_property
    def size(self) -> int:
        return math.prod(group.size for _, group in self.groups)

    def unrank(self, indices: Sequence[int] | npt.NDArray[Any]) -> Ints:
        """Positions at `indices`, shape (indices, knobs)."""
        left = np.asarray(indices, dtype=np.int64 if self.size < 1 << 62 else object)
        rows = np.empty((len(left), sum(len(places) for places, _ in self.groups)), np.int64)
        for places, group in reversed(self.groups):
            rows[:, places] = group.unrank(left % group.size)
            left = left // group.size
        return rows

    def rank(self, positions: Ints) -> int:
        """Inverse of `unrank` for one legal assignment."""
        index = 0
        for places, group in self.groups:
            index = index * group.size + group.rank(positions[places])
        return index

    def allows(self, rows: Ints) -> Bools:
        """Which rows, shape (rows, knobs), are legal."""
        legal = np.ones(len(rows), dtype=np.bool_)
        for places, group in self.groups:
            legal &= group.allows(rows[:, places])
        return legal

    def cheapest(self, costs: Sequence[Ints]) -> Ints | None:
        """The legal assignment of least total cost, see `Diagram.cheapest`."""
        positions = np.empty(len(costs), dtype=np.int64)
        for places, group in self.groups:
            best = group.cheapest([costs[at] for at in places])
            if best is None:
                return None
            positions[places] = best
        return positions


def _together(
    order: Sequence[int],
    sizes: Sequence[int],
    relations: Sequence[Relation],
    tables: Mapping[Relation, Bools],
) -> Diagram | TruthTable:
    """Where all `relations`, over the knobs `order` only, hold."""
    known = [(each.scope, tables[each]) for each in relations if each in tables]
    if len(known) == len(relations) and TruthTable.fits([sizes[at] for at in order]):
        return TruthTable.of(order, sizes, known)
    return conjunction(order, sizes, relations, tables)
