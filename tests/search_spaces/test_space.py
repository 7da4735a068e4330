"""Search spaces against brute force: small random spaces are listed whole and compared."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from records import Schedule
from records.errors import InvalidInputError
from search_spaces import truth
from search_spaces.space import Constraint, SearchSpace, boolean, choice, power_of_two

NAMES = "abcde"


@pytest.fixture(scope="module", autouse=True, params=["truth tables", "diagrams"])
def representation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small spaces are written down as truth tables; as diagrams they must answer the same."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "diagrams":
            patch.setattr(truth, "CELLS", 0)
        yield


class Members:
    """A constraint given by the list of what it allows: opaque, and easy to draw at random."""

    def __init__(self, allowed: frozenset[tuple[object, ...]]) -> None:
        self.allowed = allowed

    def __call__(self, *values: object) -> bool:
        return values in self.allowed


@st.composite
def small_spaces(draw: st.DrawFn) -> SearchSpace:
    """At most 5 knobs of at most 4 values, under at most 4 random constraints."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    knobs = [choice(name, range(size)) for name, size in zip(NAMES, sizes, strict=False)]
    constraints = []
    for number in range(draw(st.integers(0, 4))):
        scope = draw(st.permutations(knobs))[: draw(st.integers(1, len(knobs)))]
        combinations = list(product(*(knob.values for knob in scope)))
        density = draw(st.sampled_from([0.3, 0.7, 0.95]))
        chance = np.random.default_rng(draw(st.integers(0, 10**6))).random(len(combinations))
        allowed = frozenset(c for c, x in zip(combinations, chance, strict=True) if x < density)
        names = tuple(knob.name for knob in scope)
        constraints.append(Constraint(names, Members(allowed), f"rule {number}"))
    return SearchSpace("small", 3, knobs, constraints)


def obeys(constraint: Constraint, values: Mapping[str, object]) -> bool:
    return constraint.holds(*(values[name] for name in constraint.knobs))


def listed(space: SearchSpace, constraints: tuple[Constraint, ...] | None = None) -> set[Schedule]:
    """All legal schedules by trying the whole product, under other `constraints` if given."""
    rules = space.constraints if constraints is None else constraints
    names = [knob.name for knob in space.knobs]
    found = set()
    for combination in product(*(knob.values for knob in space.knobs)):
        values = dict(zip(names, combination, strict=True))
        if all(obeys(rule, values) for rule in rules):
            found.add(Schedule.of("small", 3, values))
    return found


def changes(a: Schedule, b: Schedule) -> int:
    return sum(a[name] != b[name] for name in a.values)


@given(small_spaces())
def test_size_and_iteration_are_those_of_brute_force(space: SearchSpace) -> None:
    schedules = list(space)
    assert space.size == len(space) == len(schedules)
    assert len(set(schedules)) == len(schedules)
    assert set(schedules) == listed(space)
    assert bool(space) == (space.size > 0)


@given(small_spaces())
def test_ranking_and_unranking_are_inverse(space: SearchSpace) -> None:
    for index, schedule in enumerate(space):
        assert space.at(index) == schedule
        assert space.index(schedule) == index
    backwards = range(space.size - 1, -1, -1)
    assert space.take(backwards) == list(space)[::-1]
    for outside in (-1, space.size):
        with pytest.raises(IndexError, match="outside a space"):
            space.at(outside)


@given(small_spaces())
def test_membership_and_violations_agree_with_brute_force(space: SearchSpace) -> None:
    legal = listed(space)
    for schedule in listed(space, ()):
        broken = [rule.reason for rule in space.constraints if not obeys(rule, schedule.values)]
        assert space.violations(schedule.values) == broken
        assert (schedule in space) == (schedule in legal)


@given(small_spaces(), st.integers(0, 9), st.integers(0, 2**32))
def test_samples_are_legal_different_and_repeatable(space: SearchSpace, n: int, seed: int) -> None:
    schedules = space.sample(n, np.random.default_rng(seed))
    assert len(schedules) == len(set(schedules)) == min(n, space.size)
    assert set(schedules) <= listed(space)
    assert schedules == space.sample(n, np.random.default_rng(seed))


@given(small_spaces(), st.integers(0, 2**32))
def test_neighbours_are_all_legal_single_changes(space: SearchSpace, seed: int) -> None:
    assume(space.size > 0)
    legal = listed(space)
    start = space.sample(1, np.random.default_rng(seed))[0]
    found = space.neighbours(start)
    assert len(found) == len(set(found))
    assert set(found) == {other for other in legal if changes(start, other) == 1}


@given(small_spaces(), st.integers(0, 2**32))
def test_repair_gives_the_nearest_legal_schedule_for_each_blocked_change(
    space: SearchSpace, seed: int
) -> None:
    assume(space.size > 0)
    legal = listed(space)
    start = space.sample(1, np.random.default_rng(seed))[0]
    found = space.neighbours(start, repair=True)
    assert len(found) == len(set(found))
    assert set(space.neighbours(start)) <= set(found) <= legal - {start}
    for knob in space.knobs:
        for value in knob.values:
            holders = [schedule for schedule in legal if schedule[knob.name] == value]
            if value != start[knob.name] and holders:
                fewest = min(changes(start, schedule) for schedule in holders)
                got = [other for other in found if other[knob.name] == value]
                assert min(changes(start, other) for other in got) == fewest


@given(small_spaces(), st.data())
def test_nearest_changes_the_fewest_knobs_and_then_the_fewest_steps(
    space: SearchSpace, data: st.DataObject
) -> None:
    wished = {knob.name: data.draw(st.sampled_from(knob.values)) for knob in space.knobs}
    keep = data.draw(st.sets(st.sampled_from(sorted(wished))))
    legal = [s for s in listed(space) if all(s[name] == wished[name] for name in keep)]

    def far(schedule: Schedule) -> tuple[int, int]:
        steps = [abs(schedule[name] - value) for name, value in wished.items()]
        return sum(step > 0 for step in steps), sum(steps)

    found = space.nearest(wished, keep)
    if found is None:
        assert not legal
    else:
        assert found in legal
        assert far(found) == min(far(schedule) for schedule in legal)


@given(small_spaces(), st.integers(0, 2**32))
def test_mutation_is_legal_and_different_where_it_can_be(space: SearchSpace, seed: int) -> None:
    assume(space.size > 0)
    start = space.sample(1, np.random.default_rng(seed))[0]
    child = space.mutate(start, np.random.default_rng(seed))
    assert child in space
    assert (child == start) == (space.size == 1)
    assert child == space.mutate(start, np.random.default_rng(seed))


@given(small_spaces(), st.integers(0, 2**32))
def test_crossover_is_legal_and_mixes_only_the_parents(space: SearchSpace, seed: int) -> None:
    assume(space.size > 0)
    rng = np.random.default_rng(seed)
    a, b = (space.sample(1, rng)[0] for _ in range(2))
    child = space.crossover(a, b, rng)
    assert child in space
    assert all(child[name] in (a[name], b[name]) for name in child.values)


@given(small_spaces())
def test_removed_counts_are_exact(space: SearchSpace) -> None:
    alone = [(rule, space.product - len(listed(space, (rule,)))) for rule in space.constraints]
    assert space.removed() == alone
    only = [
        (rule, len(listed(space, tuple(other for other in space.constraints if other is not rule))))
        for rule in space.constraints
    ]
    assert space.removed_only() == [(rule, left - space.size) for rule, left in only]


@given(small_spaces())
def test_an_empty_space_names_constraints_that_suffice_to_empty_it(space: SearchSpace) -> None:
    reasons = space.why_empty()
    assert bool(reasons) == (space.size == 0)
    if reasons:
        blamed = tuple(
            rule for rule in space.constraints if any(r.startswith(rule.reason) for r in reasons)
        )
        assert len(blamed) == len(reasons)
        assert not listed(space, blamed)


@given(small_spaces(), st.data())
def test_partial_values_are_refused_exactly_if_no_schedule_has_them(
    space: SearchSpace, data: st.DataObject
) -> None:
    names = data.draw(st.sets(st.sampled_from([knob.name for knob in space.knobs])))
    knobs = {knob.name: knob for knob in space.knobs}
    values = {name: data.draw(st.sampled_from(knobs[name].values)) for name in sorted(names)}
    holders = [s for s in listed(space) if all(s[name] == values[name] for name in names)]
    assert bool(space.violations(values)) == (not holders)
    assert set(space.fixed(values)) == set(holders)


@given(small_spaces(), st.integers(0, 2**32))
def test_truth_tables_and_diagrams_agree_on_every_order_and_choice(
    space: SearchSpace, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        answers = []
        for cells in (0, 1 << 15):
            patch.setattr(truth, "CELLS", cells)
            same = SearchSpace("small", 3, space.knobs, space.constraints)
            rng = np.random.default_rng(seed)
            steps = [same.mutate(start, rng) for start in same.sample(5, rng)]
            answers.append((list(same), steps))
    assert answers[0] == answers[1]


def coupled() -> SearchSpace:
    """Two independent parts; within one, values differ much in how often they are legal."""
    knobs = [power_of_two("tile", 1, 16), power_of_two("step", 1, 16), boolean("pad"),
             choice("order", ("row", "column", "tiled"))]  # fmt: skip
    return SearchSpace(
        "coupled",
        1,
        knobs,
        [
            Constraint(("tile", "step"), lambda tile, step: tile % step == 0, "{step} | {tile}"),
            Constraint(("order", "pad"), lambda order, pad: order != "row" or not pad, "no pad"),
        ],
    )


def test_samples_are_uniform() -> None:
    space = coupled()
    rng = np.random.default_rng(7)
    draws = 200 * space.size
    counts = Counter(space.sample(1, rng)[0] for _ in range(draws))
    assert len(counts) == space.size == 75
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    freedom = space.size - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_every_place_of_a_sample_is_uniform() -> None:
    space = coupled()
    rng = np.random.default_rng(11)
    last = Counter(space.sample(3, rng)[-1] for _ in range(100 * space.size))
    chi_square = sum((last[schedule] - 100) ** 2 / 100 for schedule in space)
    freedom = space.size - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_mutation_reaches_every_schedule() -> None:
    space = coupled()
    rng = np.random.default_rng(0)
    schedule, seen = space.at(0), set()
    for _ in range(40 * space.size):
        schedule = space.mutate(schedule, rng)
        seen.add(schedule)
    assert len(seen) == space.size


def test_a_schedule_of_another_space_is_no_member() -> None:
    space = coupled()
    good = space.at(0)
    values = dict(good.values)
    assert good in space
    for other in (
        Schedule.of("other", 1, values),
        Schedule.of("coupled", 2, values),
        Schedule.of("coupled", 1, {**values, "extra": 1}),
        Schedule.of("coupled", 1, {name: values[name] for name in ("tile", "step", "pad")}),
        Schedule.of("coupled", 1, {**values, "pad": int(bool(values["pad"]))}),
        Schedule.of("coupled", 1, {**values, "tile": (1, 2)}),
        Schedule.of("coupled", 1, {**values, "tile": 3}),
    ):
        assert other not in space
        with pytest.raises(InvalidInputError, match="is not in the space"):
            space.neighbours(other)
    assert "coupled" not in space


def test_violations_speak_in_words() -> None:
    space = coupled()
    assert space.violations({"tile": 2, "step": 4, "order": "row", "pad": True}) == [
        "4 | 2",
        "no pad",
    ]
    assert space.violations({"tile": 3, "depth": 1}) == [
        "tile=3 is not legal; legal values: 1, 2, 4, 8, 16",
        "there is no knob 'depth'; knobs: tile, step, pad, order",
    ]
    assert space.violations({"tile": 2}) == []


def test_partial_values_without_any_completion_are_explained() -> None:
    space = SearchSpace(
        "tight",
        1,
        [power_of_two("tile", 1, 8), power_of_two("step", 4, 8)],
        [Constraint(("step", "tile"), lambda step, tile: tile % step == 0, "{step} | {tile}")],
    )
    assert space.violations({"tile": 2}) == ["step | 2 (no schedule meets this)"]


def test_a_contradiction_is_named_without_bystanders() -> None:
    knobs = [choice(name, range(4)) for name in "abc"]
    space = SearchSpace(
        "empty",
        1,
        knobs,
        [
            Constraint(("a", "b"), lambda a, b: a < b, "a must be below b"),
            Constraint(("b", "c"), lambda b, c: b != c, "b and c must differ"),
            Constraint(("a", "b"), lambda a, b: a > b, "a must be above b"),
        ],
    )
    assert space.size == 0
    assert list(space) == space.sample(3, np.random.default_rng(0)) == []
    assert space.why_empty() == [
        "a must be below b (no schedule meets this and the other 1 named)",
        "a must be above b (no schedule meets this and the other 1 named)",
    ]


def test_a_constraint_that_raises_is_named_with_its_values() -> None:
    space = SearchSpace(
        "broken",
        1,
        [choice("tile", (8, 16)), choice("vector", (0, 4))],
        [Constraint(("vector", "tile"), lambda vector, tile: tile % vector == 0, "whole vectors")],
    )
    message = "'whole vectors' cannot be evaluated for vector=0, tile=8: ZeroDivisionError"
    with pytest.raises(InvalidInputError, match=message):
        _ = space.size
    with pytest.raises(InvalidInputError, match=message):
        space.violations({"tile": 8, "vector": 0})


def test_impossible_spaces_are_refused_at_once() -> None:
    tile = choice("tile", (1, 2))
    with pytest.raises(InvalidInputError, match="two knobs of one name"):
        SearchSpace("bad", 1, [tile, tile], [])
    with pytest.raises(InvalidInputError, match="reads unknown knobs tyle"):
        SearchSpace("bad", 1, [tile], [Constraint(("tyle",), lambda tyle: True, "typo")])


def test_a_space_without_knobs_has_one_schedule() -> None:
    space = SearchSpace("fixed", 1, [], [])
    only = Schedule.of("fixed", 1, {})
    rng = np.random.default_rng(0)
    assert list(space) == space.sample(2, rng) == [only]
    assert space.mutate(only, rng) == space.crossover(only, only, rng) == only
    assert space.neighbours(only, repair=True) == []
    assert space.removed() == []
    assert space.encode([only]).shape == (1, 0)


def test_a_space_cannot_be_changed_and_pickles() -> None:
    space = SearchSpace(
        "small",
        3,
        [choice("a", range(3)), choice("b", range(3))],
        [Constraint(("a", "b"), Members(frozenset({(0, 1), (2, 2)})), "two points")],
    )
    with pytest.raises(AttributeError):
        space.version = 4  # type: ignore[misc]
    assert space.size == 2
    copy = pickle.loads(pickle.dumps(space))
    assert list(copy) == list(space)
    assert repr(copy) == "SearchSpace('small', 3, 2 knobs, 1 constraints)"


def test_encoding_has_named_columns() -> None:
    space = SearchSpace(
        "mixed",
        1,
        [
            power_of_two("tile", 1, 8),
            boolean("pad"),
            choice("ratio", (0.5, 2.5)),
            choice("offset", (-1, 0, 1)),
            choice("order", ("row", "column")),
        ],
        [],
    )
    assert space.column_names == ("tile", "pad", "ratio", "offset", "order=row", "order=column")
    values = {"tile": 8, "pad": True, "ratio": 2.5, "offset": -1, "order": "column"}
    encoded = space.encode([Schedule.of("mixed", 1, values)])
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[3.0, 1.0, 2.5, -1.0, 0.0, 1.0]]
    assert space.encode([]).shape == (0, 6)
    assert len(np.unique(space.encode(list(space)), axis=0)) == space.size
    with pytest.raises(InvalidInputError, match="tile=3 is not legal"):
        space.encode([Schedule.of("mixed", 1, {**values, "tile": 3})])
