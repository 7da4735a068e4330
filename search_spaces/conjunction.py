"""The diagram of several constraints together, built layer by layer from each one's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from records.errors import InvalidInputError
from search_spaces.diagram import DEAD, Bools, Diagram, Ints, same_rows
from search_spaces.relation import Relation

EDGES = 1 << 24  # the most edges of one layer: some hundred MiB while it is built


def conjunction(
    order: Sequence[int],
    sizes: Sequence[int],
    relations: Sequence[Relation],
    tables: Mapping[Relation, Bools],
) -> Diagram:
    """Assignments of the knobs `order` at which all `relations`, over these knobs only, hold.

    `sizes` counts the values of every knob. A relation without a table is called for each
    combination of its knobs that the others leave. Raises `InvalidInputError` where a layer
    would have more than `EDGES` edges.
    """
    readers: list[_Reader] = [
        _TableReader(relation, order, tables[relation])
        if relation in tables
        else _CallReader(relation, order)
        for relation in relations
    ]
    nodes, layers = 1, []
    for at in order:
        if nodes * sizes[at] > EDGES:
            raise _too_entangled(relations)
        alive = np.ones((nodes, sizes[at]), dtype=np.bool_)
        for reader in readers:
            alive &= reader.advance(at, nodes, sizes[at])
        readers = [reader for reader in readers if reader.unread]
        kept = np.flatnonzero(alive)
        columns = [column[kept] for reader in readers for column in reader.states]
        first, kind = same_rows(columns, len(kept))
        layer = np.full((1 + nodes, sizes[at]), DEAD)
        layer[1:][alive] = 1 + kind
        layers.append(layer)
        for reader in readers:
            reader.states = [column[kept[first]] for column in reader.states]
        nodes = len(first)
    return Diagram(tuple(layers), root=1).reduced()


class _Reader(ABC):
    """What one constraint must remember of the knobs decided so far, at each node of a layer.

    `states` are columns of small integers, a row for each node; none before its first knob.
    """

    def __init__(self, relation: Relation, order: Sequence[int]) -> None:
        self.relation = relation
        self.unread = sorted(relation.scope, key=order.index)
        self.states: list[Ints] = []

    def advance(self, at: int, nodes: int, values: int) -> Bools:
        """Go from nodes to their edges, deciding knob `at`; which edges may live."""
        if at in self.unread:
            alive = self._read(nodes, values)
            self.unread.remove(at)
            return alive
        self.states = [np.repeat(column, values) for column in self.states]
        return np.ones((nodes, values), dtype=np.bool_)

    @abstractmethod
    def _read(self, nodes: int, values: int) -> Bools: ...


class _TableReader(_Reader):
    """Remembers which remainder of its truth table is left: one number."""

    def __init__(self, relation: Relation, order: Sequence[int], table: Bools) -> None:
        super().__init__(relation, order)
        axes = [relation.scope.index(at) for at in self.unread]
        self._diagram = Diagram.of_table(table.transpose(axes))

    def _read(self, nodes: int, values: int) -> Bools:
        state = self.states[0] if self.states else np.full(nodes, self._diagram.root)
        edges = self._diagram.layers[-len(self.unread)][state]
        self.states = [edges.ravel()]
        return np.asarray(edges != DEAD)


class _CallReader(_Reader):
    """Too wide for a table: remembers every value, and calls when all are known."""

    def __init__(self, relation: Relation, order: Sequence[int]) -> None:
        super().__init__(relation, order)
        self._known = tuple(self.unread)

    def _read(self, nodes: int, values: int) -> Bools:
        seen = [np.repeat(column, values) for column in self.states]
        self.states = [*seen, np.tile(np.arange(values), nodes)]
        if len(self.unread) > 1:
            return np.ones((nodes, values), dtype=np.bool_)
        first, kind = same_rows(self.states, nodes * values)
        columns = [self.states[self._known.index(at)][first] for at in self.relation.scope]
        return self.relation.holds(np.stack(columns, axis=1))[kind].reshape(nodes, values)


def _too_entangled(relations: Sequence[Relation]) -> InvalidInputError:
    widest = max(relations, key=lambda relation: relation.cells)
    return InvalidInputError(
        f"a search space needs more than {EDGES} edges in one layer of its diagram; the widest "
        f"constraint, {widest.constraint.reason!r}, spans {widest.cells} combinations of "
        f"{', '.join(widest.constraint.knobs)}: split it, or give these knobs fewer values"
    )
