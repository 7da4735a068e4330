"""Steps from one legal assignment to another: the neighbourhood that searches walk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.assignments import Assignments
from search_spaces.diagram import FORBIDDEN, Ints

CHANGE = 1 << 20  # the cost of changing a knob at all; how far it goes only decides between equals


def single_changes(positions: Ints, sizes: Sequence[int]) -> Ints:
    """Every assignment that differs from `positions` in one knob, legal or not."""
    rows = np.repeat(positions[None, :], sum(sizes), axis=0)
    knobs = np.repeat(np.arange(len(sizes)), sizes)
    values = np.concatenate([np.arange(0), *(np.arange(size) for size in sizes)])
    rows[np.arange(len(rows)), knobs] = values
    return np.asarray(rows[values != positions[knobs]])


def neighbours(
    legal: Assignments, positions: Ints, sizes: Sequence[int], repair: bool
) -> list[Ints]:
    """The legal ones of `single_changes`; with `repair` also what is nearest to the others."""
    rows = single_changes(positions, sizes)
    allowed = legal.allows(rows)
    found = {tuple(row): row for row in rows[allowed]}
    if repair:
        for row in rows[~allowed]:
            nearest = repaired(legal, row, _changed(row, positions), sizes)
            if nearest is not None:
                found.setdefault(tuple(nearest), nearest)
    return list(found.values())


def _changed(row: Ints, positions: Ints) -> int:
    return int(np.flatnonzero(row != positions)[0])


def distance(position: int, size: int) -> Ints:
    """Cost of each of a knob's `size` values when that at `position` is wished."""
    steps = np.abs(np.arange(size) - position)
    return np.where(steps > 0, CHANGE + steps, 0)


def only(value: int, size: int) -> Ints:
    """Costs that leave a single value."""
    costs = np.full(size, FORBIDDEN)
    costs[value] = 0
    return costs


def repaired(legal: Assignments, wished: Ints, knob: int, sizes: Sequence[int]) -> Ints | None:
    """The legal assignment nearest to `wished` that keeps its value of `knob`, if any does.

    Nearest: fewest knobs changed, then fewest steps along their values.
    """
    costs = [distance(int(at), size) for at, size in zip(wished, sizes, strict=True)]
    costs[knob] = only(int(wished[knob]), sizes[knob])
    return legal.cheapest(costs)


def mutated(
    legal: Assignments, positions: Ints, sizes: Sequence[int], rng: np.random.Generator
) -> Ints:
    """One random knob set to another random value, and what must follow for it to be legal.

    `positions` itself only if nothing else is legal.
    """
    rows = single_changes(positions, sizes)
    for row in rng.permutation(rows):
        if legal.allows(row[None, :])[0]:
            return np.asarray(row)
        nearest = repaired(legal, row, _changed(row, positions), sizes)
        if nearest is not None:
            return nearest
    return positions


def crossed(
    legal: Assignments, a: Ints, b: Ints, sizes: Sequence[int], rng: np.random.Generator
) -> Ints:
    """Each knob from `a` or `b` at random, with the fewest of them swapped to make it legal."""
    from_a = rng.random(len(a)) < 0.5
    costs = []
    for first, second, size in zip(
        np.where(from_a, a, b), np.where(from_a, b, a), sizes, strict=True
    ):
        cost = np.full(size, FORBIDDEN)
        cost[second] = CHANGE
        cost[first] = 0
        costs.append(cost)
    child = legal.cheapest(costs)
    return a if child is None else child
