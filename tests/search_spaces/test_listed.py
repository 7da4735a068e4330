"""A space given by a list answers as one given by constraints does."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import Schedule
from records.errors import InvalidInputError
from search_spaces import listed as listed_spaces
from search_spaces.listed import ListedSpace, listed_space
from search_spaces.space import Constraint, SearchSpace, boolean, choice, power_of_two

KNOBS = [power_of_two("rows", 1, 64), power_of_two("columns", 1, 64), boolean("pad")]


def ruled() -> SearchSpace:
    rule = Constraint(("rows", "columns"), lambda r, c: r * c in (64, 128), "{rows}x{columns}")
    return SearchSpace("tile", 1, KNOBS, [rule])


def listed() -> ListedSpace:
    rows = [tuple(each[knob.name] for knob in KNOBS) for each in ruled()]
    return ListedSpace("tile", 1, KNOBS, rows)


def unordered(schedules: Iterable[Schedule]) -> set[Schedule]:
    return set(schedules)


def test_it_holds_what_is_listed_in_that_order() -> None:
    space = listed()
    assert list(space) == list(ruled())
    assert space.size == len(space) == ruled().size
    for at, schedule in enumerate(space):
        assert schedule in space
        assert space.index(schedule) == at
        assert space.at(at) == schedule


def test_steps_are_those_of_the_rules() -> None:
    for schedule in ruled():
        for repair in (False, True):
            ours = listed().neighbours(schedule, repair=repair)
            assert len(ours) == len(ruled().neighbours(schedule, repair=repair))
            if not repair:
                assert unordered(ours) == unordered(ruled().neighbours(schedule))


def test_mutants_and_children_are_listed() -> None:
    rng = np.random.default_rng(0)
    space = listed()
    for a, b in zip(space.sample(20, rng), space.sample(20, rng), strict=True):
        assert space.mutate(a, rng) in space
        assert space.mutate(a, rng) != a
        child = space.crossover(a, b, rng)
        assert child in space
        assert all(child[name] in (a[name], b[name]) for name in child.values)


def test_the_nearest_keeps_what_it_must() -> None:
    wished = {"rows": 1, "columns": 1, "pad": True}
    assert listed().nearest(wished) == ruled().nearest(wished)
    kept = listed().nearest(wished, keep=["rows"])
    assert kept is not None and (kept["rows"], kept["columns"], kept["pad"]) == (1, 64, True)
    only = ListedSpace("tile", 1, KNOBS, [(2, 4, False)])
    assert only.nearest(wished, keep=["rows"]) is None


@pytest.mark.parametrize("few", [0, listed_spaces.FEW])
@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1), st.data())
def test_the_nearest_is_the_first_of_the_nearest(
    few: int, rows: set[tuple[int, ...]], data: st.DataObject
) -> None:
    """However long a list is for its costs to be added up at once."""
    knobs = [choice(name, range(4)) for name in "abc"]
    space = ListedSpace("tile", 1, knobs, sorted(rows))
    wished = dict(zip("abc", data.draw(st.tuples(*[st.integers(0, 3)] * 3)), strict=True))
    keep = data.draw(st.sets(st.sampled_from("abc")))

    def distance(schedule: Schedule) -> tuple[int, int]:
        steps = [abs(schedule[name] - value) for name, value in wished.items()]
        return sum(step > 0 for step in steps), sum(steps)

    kept = [each for each in space if all(each[name] == wished[name] for name in keep)]
    with patch.object(listed_spaces, "FEW", few):
        assert space.nearest(wished, keep=keep) == min(kept, key=distance, default=None)


def test_others_are_refused_in_words() -> None:
    space = listed()
    unlisted = Schedule.of("tile", 1, {"rows": 1, "columns": 1, "pad": True})
    assert unlisted not in space
    assert space.violations(unlisted.values) == ["it is none of the 26 listed schedules"]
    with pytest.raises(InvalidInputError, match="none of the 26 listed"):
        space.index(unlisted)


def test_a_part_of_it() -> None:
    part = listed().fixed({"rows": 2, "pad": True})
    assert unordered(part) == unordered(ruled().fixed({"rows": 2, "pad": True}))
    assert listed().violations({"rows": 2, "columns": 2}) == ["no listed schedule is so"]
    with pytest.raises(InvalidInputError, match="rows=3 is not legal"):
        listed().fixed({"rows": 3})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 1, True), (1, 1, True)], "listed twice: tile@1"),
        ([(1, 3, True)], "columns=3 is not legal"),
        ([(1, 1)], "need 3 values"),
    ],
)
def test_bad_lists_are_refused(rows: list[tuple[int | bool, ...]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ListedSpace("tile", 1, KNOBS, rows)


def test_it_pickles() -> None:
    assert list(pickle.loads(pickle.dumps(listed()))) == list(listed())


def test_knobs_are_found_in_schedules() -> None:
    schedules = [
        Schedule.of("t", 3, {"n": n, "order": order}) for n, order in ((8, "b"), (2, "a"), (4, "b"))
    ]
    space = listed_space(schedules)
    assert list(space) == schedules
    assert (space.template, space.version) == ("t", 3)
    assert space.knobs == (choice("n", (2, 4, 8)), choice("order", ("a", "b")))
    with pytest.raises(InvalidInputError, match="need the same knobs"):
        listed_space([*schedules, Schedule.of("t", 3, {"n": 1})])
