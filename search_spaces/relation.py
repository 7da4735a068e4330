"""A constraint seen as a set of positions: evaluated in bulk, remembered as a truth table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import compress, product, starmap
from operator import itemgetter

import numpy as np

from records.canonical import Scalar
from records.errors import InvalidInputError
from search_spaces.constraints import Constraint
from search_spaces.diagram import Bools, Ints
from search_spaces.knobs import Knob

TABLE_CELLS = 1 << 24  # the largest truth table kept, one byte a cell
TABLE_CALLS = 1 << 22  # the most calls of one constraint that fill its table: a second or two
_CHUNK = 1 << 16  # rows of arguments held at a time


class Relation:
    """One constraint over positions of knobs. `scope` lists its knobs' places, ascending."""

    def __init__(self, constraint: Constraint, knobs: Sequence[Knob]) -> None:
        place = {knob.name: at for at, knob in enumerate(knobs)}
        places = [place[name] for name in constraint.knobs]
        self.constraint = constraint
        self.scope = tuple(sorted(places))
        self.shape = tuple(len(knobs[at].values) for at in self.scope)
        self._columns = [self.scope.index(at) for at in places]
        self._values = [knobs[at].values for at in self.scope]
        kept = self.shape if self.cells <= TABLE_CELLS else (0,)
        self._known = np.zeros(kept, dtype=np.bool_)
        self._truth = np.zeros(kept, dtype=np.bool_)

    @property
    def cells(self) -> int:
        return math.prod(self.shape)

    def holds(self, rows: Ints) -> Bools:
        """Whether it holds at each row of positions, shape (rows, scope)."""
        answers = np.empty(len(rows), dtype=np.bool_)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            answers[start : start + _CHUNK] = self._answers(partial(self._at, chunk), len(chunk))
        return answers

    def _at(self, rows: Ints) -> Iterable[tuple[Scalar, ...]]:
        """The constraint's arguments at each row of positions."""
        columns = []
        for axis in self._columns:
            values = np.array(self._values[axis], dtype=object)
            columns.append(values[rows[:, axis]].tolist())
        return zip(*columns, strict=True)

    def _everywhere(self, asked: Bools) -> Iterable[tuple[Scalar, ...]]:
        """The constraint's arguments at each cell `asked` for; cheap where that is most of all."""
        combinations = compress(product(*self._values), asked.ravel().tolist())
        if self._columns == sorted(self._columns):
            return combinations
        return map(itemgetter(*self._columns), combinations)

    def _answers(self, arguments: Callable[[], Iterable[tuple[Scalar, ...]]], count: int) -> Bools:
        try:
            answers = starmap(self.constraint.holds, arguments())
            return np.fromiter(answers, dtype=np.bool_, count=count)
        except Exception:
            # Once more, slowly, to say at which values it failed.
            again = map(self.constraint.check, arguments())
            return np.fromiter(again, dtype=np.bool_, count=count)

    @property
    def broken(self) -> int:
        """How many combinations of its own knobs break it."""
        if self.cells > TABLE_CELLS:
            raise InvalidInputError(
                f"constraint {self.constraint.reason!r} spans {self.cells} combinations of its "
                f"knobs; at most {TABLE_CELLS} can be counted: split it into constraints over "
                "fewer knobs"
            )
        table = self.table(np.ones(self.shape, dtype=np.bool_))
        return self.cells - int(np.count_nonzero(table))

    def table(self, allowed: Bools) -> Bools:
        """Truth at every cell of `allowed`, false elsewhere; shape as `shape`."""
        asked = allowed & ~self._known
        if self.cells <= _CHUNK:
            count = int(np.count_nonzero(asked))
            self._truth[asked] = self._answers(partial(self._everywhere, asked), count)
        else:
            self._ask_in_chunks(np.flatnonzero(asked))
        self._known |= allowed
        return self._truth & allowed

    def _ask_in_chunks(self, asked: Ints) -> None:
        """Fill the cells at the flat indices `asked`."""
        for start in range(0, len(asked), _CHUNK):
            cells = asked[start : start + _CHUNK]
            rows = np.stack(np.unravel_index(cells, self.shape), axis=1)
            self._truth.flat[cells] = self.holds(rows)


def tabulated(relations: Iterable[Relation]) -> dict[Relation, Bools]:
    """Truth tables of those relations for which one is affordable, small ones first.

    Each is evaluated only where all tables before it leave something; elsewhere it counts as
    false, so the tables are right together, not each by itself.
    """
    tables: dict[Relation, Bools] = {}
    for relation in sorted(relations, key=lambda relation: relation.cells):
        if relation.cells > TABLE_CELLS:
            break
        allowed = np.ones(relation.shape, dtype=np.bool_)
        for other, table in tables.items():
            if not set(other.scope).isdisjoint(relation.scope):
                allowed &= _shadow(other, table, relation)
        if np.count_nonzero(allowed) <= TABLE_CALLS:
            tables[relation] = relation.table(allowed)
    return tables


def _shadow(other: Relation, table: Bools, onto: Relation) -> Bools:
    """Where `other` can still hold, seen from the scope of `onto`; broadcasts to its shape."""
    hidden = tuple(axis for axis, at in enumerate(other.scope) if at not in onto.scope)
    shape = [
        size if at in other.scope else 1 for at, size in zip(onto.scope, onto.shape, strict=True)
    ]
    return np.asarray(table.any(axis=hidden).reshape(shape))
