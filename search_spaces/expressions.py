"""Constraints written as Python expressions over knob names, read without running any code.

What is read: numbers, strings, truth values, names of knobs, arithmetic, comparisons (chained
too), `and`, `or`, `not`, `a if b else c`, tuples and lists for `in`, and `abs`, `min`, `max`.
Everything else is refused. A rule that divides by zero does not hold.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from records.errors import InvalidInputError
from search_spaces.constraints import Constraint

Values: TypeAlias = Mapping[str, Any]
Evaluate: TypeAlias = Callable[[Values], Any]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_POWERS = 64
"""Largest exponent: no rule over tile sizes needs more, and a larger one could take for ever."""

_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, several: one in several,
    ast.NotIn: lambda one, several: one not in several,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "max": max, "min": min}


def constraint(expression: str, knobs: Collection[str]) -> Constraint:
    """The constraint that an expression over some of `knobs` states; it is its own reason.

    `InvalidInputError` for text that is no such expression, that names another knob, or none.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise InvalidInputError(f"{expression!r} is no Python expression: {error}") from error
    found = dict.fromkeys(_names(tree))
    names = tuple(name for name in knobs if name in found)
    if len(names) < len(found) or not names:
        raise InvalidInputError(
            f"{expression!r} must name knobs, and only these: {', '.join(knobs)}; "
            f"it names {', '.join(found) or 'none'}"
        )
    try:
        evaluate = _compiled(tree)
    except InvalidInputError as refusal:
        raise InvalidInputError(f"{expression!r}: {refusal}") from None

    def holds(*values: Any) -> bool:
        try:
            return bool(evaluate(dict(zip(names, values, strict=True))))
        except ZeroDivisionError:
            return False

    return Constraint(names, holds, expression.replace("{", "(").replace("}", ")"))


def _names(tree: ast.AST) -> list[str]:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called
    ]


def _compiled(node: ast.expr) -> Evaluate:
    """A function that evaluates `node`; only forms known here become one."""
    match node:
        case ast.Constant(value=value) if isinstance(value, bool | int | float | str):
            return lambda _: value
        case ast.Name(id=name):
            return lambda values: values[name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            several = [_compiled(part) for part in parts]
            return lambda values: [each(values) for each in several]
        case ast.BoolOp():
            return _boolean(node)
        case ast.Compare():
            return _comparison(node)
        case ast.UnaryOp(op=op, operand=operand):
            apply, inner = _UNARY[type(op)], _compiled(operand)
            return lambda values: apply(inner(values))
        case ast.BinOp():
            return _arithmetic(node)
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            condition, then, other = _compiled(test), _compiled(body), _compiled(otherwise)
            return lambda values: then(values) if condition(values) else other(values)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            function, inputs = _FUNCTIONS[name], [_compiled(each) for each in arguments]
            return lambda values: function(*(each(values) for each in inputs))
    raise InvalidInputError(f"{ast.unparse(node)!r} is not understood; {_UNDERSTOOD}")


_UNDERSTOOD = (
    "use knobs, numbers, arithmetic, comparisons, and, or, not, if-else, in, "
    + ", ".join(_FUNCTIONS)
)


def _boolean(node: ast.BoolOp) -> Evaluate:
    parts = [_compiled(part) for part in node.values]
    if isinstance(node.op, ast.And):
        return lambda values: all(part(values) for part in parts)
    return lambda values: any(part(values) for part in parts)


def _comparison(node: ast.Compare) -> Evaluate:
    for each in node.ops:
        if type(each) not in _COMPARISONS:
            raise InvalidInputError(f"{ast.unparse(node)!r} is not understood; {_UNDERSTOOD}")
    compares = [_COMPARISONS[type(each)] for each in node.ops]
    first, *others = (_compiled(each) for each in (node.left, *node.comparators))
    if len(others) == 1:
        compare, other = compares[0], others[0]
        return lambda values: compare(first(values), other(values))

    def chain(values: Values) -> bool:
        left = first(values)
        for compare, other in zip(compares, others, strict=True):
            right = other(values)
            if not compare(left, right):
                return False
            left = right
        return True

    return chain


def _arithmetic(node: ast.BinOp) -> Evaluate:
    left, right = _compiled(node.left), _compiled(node.right)
    if isinstance(node.op, ast.Pow):
        return lambda values: left(values) ** min(right(values), _POWERS)
    if type(node.op) not in _BINARY:
        raise InvalidInputError(f"{ast.unparse(node)!r} is not understood; {_UNDERSTOOD}")
    apply = _BINARY[type(node.op)]
    return lambda values: apply(left(values), right(values))
