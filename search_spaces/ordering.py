"""Which knobs belong together, and in which order to decide them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

LARGE = 1_000_000  # remembered combinations from which a better order is worth more search


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

    A decided knob is forgotten after the last constraint that reads it; the sum of remembered
    combinations over the order bounds the size of the diagram. Greedy from every first knob,
    then single knobs moved elsewhere for as long as that helps: from the best greedy order, and
    from all of them where the diagram would still be large. Where every constraint reads all of
    `members` this is ascending sizes.
    """
    if all(len(scope) == len(members) for scope in scopes):
        return tuple(sorted(members, key=lambda at: (sizes[at], at)))
    memory = _Memory(sizes, scopes)
    starts = {_greedy(first, members, memory) for first in members}
    best = _descended(min(starts, key=memory.rating), memory)
    if memory.rating(best)[0] <= LARGE:
        return best
    return min((_descended(start, memory) for start in starts), key=memory.rating)


class _Memory:
    """How many combinations of decided knobs an unfinished constraint still reads."""

    def __init__(self, sizes: Sequence[int], scopes: Sequence[Sequence[int]]) -> None:
        self._sizes = sizes
        self._scopes = [sum(1 << at for at in scope) for scope in scopes]
        self._remembered: dict[int, int] = {}

    def remembered(self, decided: int) -> int:
        """Combinations to remember after the knobs whose bits `decided` has."""
        if decided not in self._remembered:
            read = 0
            for scope in self._scopes:
                if scope & ~decided:
                    read |= scope
            kept = (size for at, size in enumerate(self._sizes) if decided & read & (1 << at))
            self._remembered[decided] = math.prod(kept)
        return self._remembered[decided]

    def rating(self, order: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """What an order remembers in all; of equals, the same order is always preferred."""
        decided = total = 0
        for at in order:
            decided |= 1 << at
            total += self.remembered(decided)
        return total, order


def _greedy(first: int, members: Sequence[int], memory: _Memory) -> tuple[int, ...]:
    """Always the knob next that leaves the least to remember, beginning with `first`."""
    order, decided = [first], 1 << first
    rest = set(members) - {first}
    while rest:
        chosen = min((memory.remembered(decided | 1 << at), at) for at in rest)[1]
        order.append(chosen)
        decided |= 1 << chosen
        rest.remove(chosen)
    return tuple(order)


def _descended(order: tuple[int, ...], memory: _Memory) -> tuple[int, ...]:
    """The best single move, again and again, until none helps."""
    while True:
        moved = min(_moves(order), key=memory.rating, default=order)
        if memory.rating(moved)[0] >= memory.rating(order)[0]:
            return order
        order = moved


def _moves(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every order with one knob moved to another place."""
    for at, knob in enumerate(order):
        rest = order[:at] + order[at + 1 :]
        for to in range(len(order)):
            if to != at:
                yield (*rest[:to], knob, *rest[to:])
