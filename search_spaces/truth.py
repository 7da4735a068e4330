"""The legal assignments of a few knobs, written down as a truth table.

Answers what a `Diagram` answers, in the same order, and costs less where the knobs have few
combinations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.diagram import FORBIDDEN, Bools, Ints

CELLS = 1 << 15
"""The most combinations written down: listing them takes as long as a diagram of a few rules."""

AXES = 32
"""As many as arrays of numpy 1 have."""


@dataclass(frozen=True, eq=False)
class TruthTable:
    """`legal` has an axis for each knob; a knob's value is its position."""

    legal: Bools

    @classmethod
    def fits(cls, sizes: Sequence[int]) -> bool:
        """Whether knobs with so many values each are few enough."""
        return len(sizes) <= AXES and math.prod(sizes) <= CELLS

    @classmethod
    def of(
        cls,
        order: Sequence[int],
        sizes: Sequence[int],
        tables: Iterable[tuple[Sequence[int], Bools]],
    ) -> TruthTable:
        """Where all `tables` hold, each with the knobs of its axes; axes in the order `order`.

        `sizes` counts the values of every knob.
        """
        legal = np.ones([sizes[at] for at in order], dtype=np.bool_)
        for scope, table in tables:
            ranked = sorted(range(len(scope)), key=lambda axis: order.index(scope[axis]))
            shape = [sizes[at] if at in scope else 1 for at in order]
            legal &= table.transpose(ranked).reshape(shape)
        return cls(legal)

    @cached_property
    def size(self) -> int:
        """How many assignments, exactly."""
        return int(np.count_nonzero(self.legal))

    @cached_property
    def _rows(self) -> Ints:
        """Every assignment, in lexicographic order."""
        return np.argwhere(self.legal)

    @cached_property
    def _before(self) -> Ints:
        """How many assignments stand before each."""
        return np.asarray(np.cumsum(self.legal).reshape(self.legal.shape) - 1)

    def unrank(self, indices: npt.NDArray[Any]) -> Ints:
        """The assignments at `indices` (each below `size`), shape (indices, knobs)."""
        return self._rows[indices.astype(np.int64)]

    def rank(self, assignment: Ints) -> int:
        """Inverse of `unrank` for one legal assignment."""
        return int(self._before[tuple(assignment)])

    def allows(self, assignments: Ints) -> Bools:
        """Which rows of `assignments`, shape (rows, knobs), are legal."""
        return np.asarray(self.legal[tuple(assignments.T)])

    def cheapest(self, costs: Sequence[Ints]) -> Ints | None:
        """The legal assignment of the least total cost, see `Diagram.cheapest`."""
        totals = np.zeros(self.size, dtype=np.int64)
        for column, cost in zip(self._rows.T, costs, strict=True):
            totals += cost[column]
        if not self.size or totals.min() >= FORBIDDEN:
            return None
        return np.asarray(self._rows[totals.argmin()])
