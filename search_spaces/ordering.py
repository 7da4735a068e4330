"""Which knobs belong together, and in which order to decide them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def components(knobs: int, scopes: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """Groups of knobs that no constraint ties to another group; ascending, by first knob."""
    group = {at: {at} for at in range(knobs)}
    for scope in scopes:
        united = set().union(*(group[at] for at in scope))
        for at in united:
            group[at] = united
    return [tuple(sorted(group[at])) for at in range(knobs) if at == min(group[at])]


def decision_order(
    members: Sequence[int], sizes: Sequence[int], scopes: Sequence[Sequence[int]]
) -> tuple[int, ...]:
    """An order of `members` in which few decided values must be remembered at a time.

    A decided knob is forgotten after the last constraint that reads it. Greedy from every
    first knob; the order whose remembered combinations sum to the least is kept.
    """
    orders = (_greedy(first, members, sizes, scopes) for first in members)
    return min(orders)[1]


def _greedy(
    first: int, members: Sequence[int], sizes: Sequence[int], scopes: Sequence[Sequence[int]]
) -> tuple[float, tuple[int, ...]]:
    """Total of remembered combinations, and the order, beginning with `first`."""
    order, total = [first], _remembered({first}, sizes, scopes)
    rest = set(members) - {first}
    while rest:
        cost, chosen = min((_remembered({*order, at}, sizes, scopes), at) for at in rest)
        total += cost
        order.append(chosen)
        rest.remove(chosen)
    return total, tuple(order)


def _remembered(decided: set[int], sizes: Sequence[int], scopes: Sequence[Sequence[int]]) -> float:
    """Combinations of the decided knobs that an unfinished constraint still reads."""
    read = set().union(*(scope for scope in scopes if not decided.issuperset(scope)))
    return float(math.prod(sizes[at] for at in decided & read))
