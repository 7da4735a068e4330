"""What rules compute of several knobs: threads of a block, elements of a tile, bytes of both.

Whoever wrote `block_size_x * block_size_y <= 1024` said that the product matters to the device. A
model that is given such products need not find them out.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces.expressions import constraint

Numbers: TypeAlias = npt.NDArray[np.float64]

_OPERATIONS: dict[type[ast.operator], Callable[[Numbers, Numbers], Numbers]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
}


@dataclass(frozen=True)
class Quantity:
    """Arithmetic on two knobs or more. `text`: as the rule has it; `knobs`: those it names."""

    text: str
    knobs: tuple[str, ...]

    def __call__(self, columns: Mapping[str, Numbers]) -> Numbers:
        """Of schedules whose knobs these are, one array a knob; 0 where it divides by zero."""
        with np.errstate(all="ignore"):
            found = _value(ast.parse(self.text, mode="eval").body, columns)
        return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


def computed_by(rules: Sequence[str], knobs: Collection[str]) -> list[Quantity]:
    """The largest such parts of rules, each once, in the order of meeting.

    `InvalidInputError` for a rule that `constraint` does not take.
    """
    found: dict[str, Quantity] = {}
    for rule in rules:
        constraint(rule, knobs)
        for part in _parts(ast.parse(rule.strip(), mode="eval").body):
            names = {each.id for each in ast.walk(part) if isinstance(each, ast.Name)}
            if len(names) > 1:
                text = ast.unparse(part)
                found[text] = Quantity(text, tuple(name for name in knobs if name in names))
    return list(found.values())


def _parts(tree: ast.AST) -> Iterator[ast.AST]:
    if _is_arithmetic(tree):
        yield tree
        return
    for part in ast.iter_child_nodes(tree):
        yield from _parts(part)


def _is_arithmetic(tree: ast.AST) -> bool:
    match tree:
        case ast.BinOp(left=left, op=op, right=right):
            return type(op) in _OPERATIONS and _is_arithmetic(left) and _is_arithmetic(right)
        case ast.Constant(value=value):
            return isinstance(value, int | float)
    return isinstance(tree, ast.Name)


def _value(tree: ast.AST, columns: Mapping[str, Numbers]) -> Numbers:
    match tree:
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATIONS[type(op)](_value(left, columns), _value(right, columns))
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=int() | float() as value):
            return np.float64(value)  # type: ignore[return-value]  # broadcasts
    raise AssertionError(f"{ast.dump(tree)} is no arithmetic")
