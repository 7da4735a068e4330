"""What constraints do to a space: how much each removes, and which contradict each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.assignments import Assignments
from search_spaces.constraints import Constraint
from search_spaces.relation import Relation


def removed_by_each(relations: Sequence[Relation], product: int) -> list[tuple[Constraint, int]]:
    """How many of the `product` combinations of all knobs break each constraint."""
    return [
        (relation.constraint, relation.broken * (product // relation.cells))
        for relation in relations
    ]


def removed_only_by(
    relations: Sequence[Relation], sizes: Sequence[int], legal: int
) -> list[tuple[Constraint, int]]:
    """How many would join the `legal` combinations without each constraint."""
    return [
        (relation.constraint, _size(sizes, _without(relation, relations)) - legal)
        for relation in relations
    ]


def contradiction(
    relations: Sequence[Relation], sizes: Sequence[int], known: Mapping[str, object]
) -> list[str]:
    """Reasons of constraints that leave nothing: each by itself, or else an irreducible few.

    `known` fills the fields of the reasons.
    """
    alone = [relation for relation in relations if _size(sizes, [relation]) == 0]
    if alone:
        return [
            f"{relation.constraint.explain(known)} (no schedule meets this)" for relation in alone
        ]
    core = list(relations)
    for relation in relations:
        rest = _without(relation, core)
        if _size(sizes, rest) == 0:
            core = rest
    return [
        f"{relation.constraint.explain(known)} (no schedule meets this and the other "
        f"{len(core) - 1} named)"
        for relation in core
    ]


def _without(relation: Relation, relations: Sequence[Relation]) -> list[Relation]:
    return [other for other in relations if other is not relation]


def _size(sizes: Sequence[int], relations: Sequence[Relation]) -> int:
    return Assignments.of(sizes, relations).size
