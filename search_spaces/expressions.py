"""Constraints written as Python expressions over knob names, read without trusting the text.

What is read: numbers, strings, truth values, names of knobs, arithmetic, comparisons (chained
too), `and`, `or`, `not`, `a if b else c`, tuples and lists for `in`, and `abs`, `min`, `max`.
Everything else is refused before anything is compiled: no attribute, no subscript, no other call.
A rule that divides by zero does not hold.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from typing import Any

from records.errors import InvalidInputError
from search_spaces.constraints import Constraint

_FUNCTIONS = ("abs", "max", "min")
_LARGEST_POWER = 64
"""No rule over tile sizes needs more, and a larger one could take for ever."""

_PLAIN = (
    ast.BoolOp, ast.And, ast.Or, ast.Not, ast.IfExp, ast.Tuple, ast.List, ast.Load,
    ast.UnaryOp, ast.USub, ast.UAdd, ast.Invert,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
    ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.Name,
)  # fmt: skip
"""Forms that can do nothing but calculate."""

_UNDERSTOOD = (
    "use knobs, numbers, arithmetic, comparisons, and, or, not, if-else, in, "
    + ", ".join(_FUNCTIONS)
)
_TEMPLATE = """
def holds():
    try:
        return not not None
    except ZeroDivisionError:
        return False
"""


def constraint(expression: str, knobs: Collection[str]) -> Constraint:
    """The constraint that an expression over some of `knobs` states; it is its own reason.

    `InvalidInputError` for text that is no such expression, that names another knob, or none.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise InvalidInputError(f"{expression!r} is no Python expression: {error}") from error
    for node in ast.walk(tree):
        if not _is_understood(node):
            raise InvalidInputError(
                f"{expression!r}: {ast.unparse(node)!r} is not understood; {_UNDERSTOOD}"
            )
    found = dict.fromkeys(_names(tree))
    names = tuple(name for name in knobs if name in found)
    if len(names) < len(found) or not names:
        raise InvalidInputError(
            f"{expression!r} must name knobs, and only these: {', '.join(knobs)}; "
            f"it names {', '.join(found) or 'none'}"
        )
    reason = expression.replace("{", "(").replace("}", ")")
    return Constraint(names, _compiled(tree, names), reason)


def _is_understood(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float | str)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            starred = any(isinstance(each, ast.Starred) for each in arguments)
            return name in _FUNCTIONS and not starred
    return isinstance(node, _PLAIN)


def _names(tree: ast.AST) -> list[str]:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called
    ]


def _compiled(tree: ast.expr, names: Collection[str]) -> Callable[..., bool]:
    """A function of the values of `names`. `tree` holds nothing but forms understood here.

    Compiled, for tables of a constraint take it millions of times; without any builtin but those
    that rules may call.
    """
    module = ast.parse(_TEMPLATE)
    [function] = module.body
    assert isinstance(function, ast.FunctionDef)
    function.args.args = [ast.arg(name) for name in names]
    for node in ast.walk(function):
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            node.operand = _BoundedPowers().visit(tree)
            break
    known: dict[str, Any] = {
        "__builtins__": {"ZeroDivisionError": ZeroDivisionError},
        "abs": abs, "max": max, "min": min, "_power": _power,
    }  # fmt: skip
    exec(compile(ast.fix_missing_locations(module), "<constraint>", "exec"), known)
    holds: Callable[..., bool] = known["holds"]
    return holds


class _BoundedPowers(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Pow):
            return ast.Call(ast.Name("_power", ast.Load()), [node.left, node.right], [])
        return node


def _power(base: Any, exponent: Any) -> Any:
    return base ** min(exponent, _LARGEST_POWER)
