"""Decision diagrams: every legal assignment of some knobs as paths through a layered graph.

A knob's value is here its position, 0 to n-1. Equal remainders of the search are stored once
(ordered multi-valued decision diagrams: Srinivasan, Kam, Malik and Brayton, "Algorithms for
discrete function manipulation", ICCAD 1990), so the diagram stays small where the listed space
would not fit any memory, and counting takes one pass over it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DEAD = 0  # the node from which nothing legal is reached, in every layer
ALIVE = 1  # the only other node after the last layer; also the root of a satisfiable diagram
FORBIDDEN = 1 << 40  # a cost that no sum of ordinary costs reaches


def same_rows(columns: Sequence[Ints], count: int) -> tuple[Ints, Ints]:
    """Which of `count` rows are equal, given by their columns of small non-negative integers.

    Returns the first row of each kind, and the kind of each row; kinds are numbered in
    lexicographic order of the rows.
    """
    keys = np.zeros(count, dtype=np.int64)
    kinds = 1
    for column in columns:
        radix = int(column.max(initial=0)) + 1
        if kinds * radix >= 1 << 62:
            seen, keys = np.unique(keys, return_inverse=True)
            kinds = len(seen)
        keys = keys * radix + column
        kinds *= radix
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    return first, kind


def _merged(children: Ints) -> tuple[Ints, Ints]:
    """A layer with equal nodes stored once and `DEAD` first, and the new number of each node."""
    rows = np.vstack([np.full((1, children.shape[1]), DEAD), children])
    first, kind = same_rows(list(rows.T), len(rows))
    return rows[first], kind[1:]


@dataclass(frozen=True, eq=False)
class Diagram:
    """`layers[i][node, value]` is the node reached in layer i+1; the last layer leads to
    `DEAD` or `ALIVE`. Each layer's node 0 is dead; `root` is a node of the first layer.
    """

    layers: tuple[Ints, ...]
    root: int

    @classmethod
    def of_table(cls, table: Bools) -> Diagram:
        """The assignments at which `table`, one axis a knob, is true."""
        nodes = table.astype(np.int64).ravel()
        layers = []
        for values in reversed(table.shape):
            layer, nodes = _merged(nodes.reshape(-1, values))
            layers.append(layer)
        return cls(tuple(reversed(layers)), int(nodes[0]))

    def reduced(self) -> Diagram:
        """The same assignments with equal nodes merged and dead ends cut."""
        renumbered = np.array([DEAD, ALIVE])
        layers = []
        for layer in reversed(self.layers):
            merged, renumbered = _merged(renumbered[layer])
            layers.append(merged)
        return Diagram(tuple(reversed(layers)), int(renumbered[self.root]))

    @cached_property
    def _counted(self) -> tuple[int, tuple[npt.NDArray[Any], ...]]:
        """The number of paths, and for each edge the paths through smaller values beside it."""
        exact = math.prod(layer.shape[1] for layer in self.layers) < 1 << 62
        paths = np.array([0, 1], dtype=np.int64 if exact else object)
        before = []
        for layer in reversed(self.layers):
            through = paths[layer]
            upto = np.cumsum(through, axis=1)
            before.append(upto - through)
            paths = upto[:, -1]
        return int(paths[self.root]), tuple(reversed(before))

    @property
    def size(self) -> int:
        """How many assignments, exactly."""
        return self._counted[0]

    def unrank(self, indices: npt.NDArray[Any]) -> Ints:
        """The assignments at `indices` (each below `size`), shape (indices, knobs)."""
        before = self._counted[1]
        left = indices.astype(before[0].dtype)
        node = np.full(len(left), self.root)
        assignment = np.empty((len(left), len(self.layers)), dtype=np.int64)
        for depth, layer in enumerate(self.layers):
            starts = before[depth][node]
            value = (starts <= left[:, None]).sum(axis=1).astype(np.int64) - 1
            left = left - starts[np.arange(len(left)), value]
            node = layer[node, value]
            assignment[:, depth] = value
        return assignment

    def rank(self, assignment: Ints) -> int:
        """Inverse of `unrank` for one legal assignment."""
        node, index = self.root, 0
        for layer, before, value in zip(self.layers, self._counted[1], assignment, strict=True):
            index += int(before[node, value])
            node = layer[node, value]
        return index

    def allows(self, assignments: Ints) -> Bools:
        """Which rows of `assignments`, shape (rows, knobs), are legal."""
        node = np.full(len(assignments), self.root)
        for depth, layer in enumerate(self.layers):
            node = layer[node, assignments[:, depth]]
        return np.asarray(node == ALIVE)

    def cheapest(self, costs: Sequence[Ints]) -> Ints | None:
        """The legal assignment of the least total cost; the first of several.

        `costs[i][value]` is what a value of the i-th knob costs; `FORBIDDEN` rules it out.
        `None` if every assignment is ruled out.
        """
        best = np.array([FORBIDDEN, 0])
        picks = []
        for layer, cost in zip(reversed(self.layers), reversed(costs), strict=True):
            total = cost + best[layer]
            picks.append(total.argmin(axis=1))
            best = np.minimum(total.min(axis=1), FORBIDDEN)
        if best[self.root] >= FORBIDDEN:
            return None
        node, assignment = self.root, []
        for layer, pick in zip(self.layers, reversed(picks), strict=True):
            assignment.append(pick[node])
            node = layer[node, pick[node]]
        return np.array(assignment)
