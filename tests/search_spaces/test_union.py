"""A union of spaces behaves as one space."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from records import Schedule
from records.errors import InvalidInputError
from search_spaces.space import Constraint, SearchSpace, boolean, choice
from search_spaces.union import UnionSpace


def spaces() -> list[SearchSpace]:
    wide = SearchSpace(
        "wide",
        1,
        [choice("a", (1, 2, 4, 8)), choice("b", (1, 2, 4))],
        [Constraint(("a", "b"), lambda a, b: a >= b, "{b} rows need {a} lanes")],
    )
    empty = SearchSpace(
        "empty", 1, [choice("a", (1, 2))], [Constraint(("a",), lambda a: a > 2, "too small")]
    )
    tiny = SearchSpace("tiny", 2, [boolean("pad")], [])
    return [wide, empty, tiny]


def test_a_union_lists_its_spaces_in_order() -> None:
    parts = spaces()
    union = UnionSpace(parts)
    everything = [schedule for part in parts for schedule in part]
    assert union.spaces == tuple(parts)
    assert union.size == len(union) == len(everything) == 9 + 0 + 2
    assert list(union) == everything
    assert [union.at(index) for index in range(union.size)] == everything
    assert union.take([10, 0, 4, 0]) == [everything[index] for index in (10, 0, 4, 0)]
    assert [union.index(schedule) for schedule in everything] == list(range(union.size))
    assert all(schedule in union for schedule in everything)
    assert Schedule.of("empty", 1, {"a": 1}) not in union
    assert "wide" not in union
    with pytest.raises(IndexError, match="outside a union of 11"):
        union.at(11)


def test_samples_are_uniform_over_the_union_not_over_its_parts() -> None:
    union = UnionSpace(spaces())
    rng = np.random.default_rng(2)
    counts = Counter(union.sample(1, rng)[0] for _ in range(300 * union.size))
    chi_square = sum((counts[schedule] - 300) ** 2 / 300 for schedule in union)
    assert chi_square < 10 + 4 * np.sqrt(20)
    assert set(union.sample(99, rng)) == set(union)
    assert union.sample(4, np.random.default_rng(1)) == union.sample(4, np.random.default_rng(1))


def test_steps_stay_within_a_template() -> None:
    union = UnionSpace(spaces())
    rng = np.random.default_rng(0)
    wide, tiny = union.at(0), union.at(union.size - 1)
    assert union.space_of(wide) is union.spaces[0]
    assert union.neighbours(wide) == union.spaces[0].neighbours(wide)
    assert union.neighbours(wide, repair=True) == union.spaces[0].neighbours(wide, repair=True)
    assert union.neighbours(tiny) == [union.at(union.size - 2)]
    for _ in range(20):
        assert union.mutate(wide, rng).template == "wide"
        assert union.crossover(wide, union.at(5), rng) in union
        assert union.crossover(tiny, wide, rng) == union.at(union.size - 2)


def test_encoding_has_a_block_for_each_template() -> None:
    union = UnionSpace(spaces())
    assert union.column_names == (
        "template=wide@1",
        "template=empty@1",
        "template=tiny@2",
        "wide.a",
        "wide.b",
        "empty.a",
        "tiny.pad",
    )
    encoded = union.encode(
        [Schedule.of("tiny", 2, {"pad": True}), Schedule.of("wide", 1, {"a": 8, "b": 2})]
    )
    assert encoded.tolist() == [[0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 3, 1, 0, 0]]
    assert union.encode([]).shape == (0, 7)


def test_other_templates_are_refused() -> None:
    union = UnionSpace(spaces())
    for other in (Schedule.of("tiny", 1, {"pad": True}), Schedule.of("huge", 1, {"pad": True})):
        assert other not in union
        with pytest.raises(InvalidInputError, match="not in this union; there are: wide@1"):
            union.mutate(other, np.random.default_rng(0))
    part = spaces()[0]
    with pytest.raises(InvalidInputError, match="different templates"):
        UnionSpace([part, part])


def test_a_union_of_nothing_is_empty() -> None:
    union = UnionSpace([])
    assert union.size == 0
    assert not union
    assert list(union) == union.sample(3, np.random.default_rng(0)) == []
