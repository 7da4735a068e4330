"""Constraints written as Python expressions over knob names, read without trusting the text.

What is read: numbers, strings, truth values, names of knobs, arithmetic, comparisons (chained
too), `and`, `or`, `not`, `a if b else c`, tuples and lists for `in`, and `abs`, `min`, `max`.
Everything else is refused before anything is compiled: no attribute, no subscript, no other call.
A rule that divides by zero does not hold.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
from typing import Any

from records.errors import InvalidInputError
from search_spaces.constraints import Constraint

_FUNCTIONS = ("abs", "max", "min")
_LARGEST_POWER = 64
"""No rule over tile sizes needs more, and a larger one could take for ever."""

_PLAIN = frozenset((
    ast.BoolOp, ast.And, ast.Or, ast.Not, ast.IfExp, ast.Tuple, ast.List, ast.Load,
    ast.UnaryOp, ast.USub, ast.UAdd, ast.Invert,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
    ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.Name,
))  # fmt: skip
"""Forms that can do nothing but calculate."""

_UNDERSTOOD = (
    "use knobs, numbers, arithmetic, comparisons, and, or, not, if-else, in, "
    + ", ".join(_FUNCTIONS)
)
_MAY_DIVIDE = frozenset((ast.Div, ast.FloorDiv, ast.Mod, ast.Pow))
_PLAINLY = """
def holds({names}):
    return not not (
{text}
    )
"""
_DIVIDING = """
def holds({names}):
    try:
        return not not (
{text}
        )
    except ZeroDivisionError:
        return False
"""
_TOO_DEEP = (RecursionError, MemoryError)
"""What Python's parser and compiler raise for an expression of thousands of parts."""


def constraint(expression: str, knobs: Collection[str]) -> Constraint:
    """The constraint that an expression over some of `knobs` states; it is its own reason.

    `InvalidInputError` for text that is no such expression, that names another knob, or none.
    """
    try:
        text = expression.strip()
        tree = ast.parse(text, mode="eval").body
        forms = _understood(expression, tree)
        names = _names(expression, forms, knobs)
        holds = _compiled(text, tree, {type(form) for form in forms}, names)
    except InvalidInputError:
        raise
    except (SyntaxError, ValueError, *_TOO_DEEP) as error:
        raise InvalidInputError(f"{expression!r} is no Python expression: {error}") from error
    return Constraint(names, holds, expression.replace("{", "(").replace("}", ")"))


def _understood(expression: str, tree: ast.AST) -> list[ast.AST]:
    """Every part, but not the names of functions that are called; outer parts first."""
    forms = [tree]
    for form in forms:
        if not _is_understood(form):
            raise InvalidInputError(
                f"{expression!r}: {ast.unparse(form)!r} is not understood; {_UNDERSTOOD}"
            )
        for field in form._fields:
            part = getattr(form, field)
            if isinstance(part, ast.AST) and field != "func":
                forms.append(part)
            elif isinstance(part, list):
                forms.extend(part)
    return forms


def _names(expression: str, forms: Sequence[ast.AST], knobs: Collection[str]) -> tuple[str, ...]:
    found = dict.fromkeys(form.id for form in forms if isinstance(form, ast.Name))
    names = tuple(name for name in knobs if name in found)
    if len(names) < len(found) or not names:
        raise InvalidInputError(
            f"{expression!r} must name knobs, and only these: {', '.join(knobs)}; "
            f"it names {', '.join(found) or 'none'}"
        )
    return names


def _is_understood(form: ast.AST) -> bool:
    if type(form) in _PLAIN:
        return True
    match form:
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float | str)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            starred = any(isinstance(each, ast.Starred) for each in arguments)
            return name in _FUNCTIONS and not starred
    return False


def _compiled(
    text: str, tree: ast.expr, forms: Collection[type[ast.AST]], names: Sequence[str]
) -> Callable[..., bool]:
    """A function of the values of `names`. `tree`, that of `text`, has understood `forms` only.

    Compiled, for tables of a constraint take it millions of times; from the text, which takes a
    fraction of the time; without any builtin but those that rules may call.
    """
    if ast.Pow in forms:
        text = ast.unparse(_BoundedPowers().visit(tree))
    template = _PLAINLY if _MAY_DIVIDE.isdisjoint(forms) else _DIVIDING
    known: dict[str, Any] = {
        "__builtins__": {"ZeroDivisionError": ZeroDivisionError},
        "abs": abs, "max": max, "min": min, "_power": _power,
    }  # fmt: skip
    source = template.format(names=", ".join(names), text=text)
    exec(compile(source, "<constraint>", "exec", dont_inherit=True), known)
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
