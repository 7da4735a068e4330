"""Large products stay cheap: counted in calls of constraints and nodes, not in seconds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest

from records.errors import InvalidInputError
from search_spaces import conjunction, relation
from search_spaces.space import (
    Constraint,
    SearchSpace,
    boolean,
    choice,
    power_of_two,
    split,
)

SHARED_BYTES = 48 * 1024


class Calls:
    """Constraints that count how often each is asked."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def constraint(self, knobs: str, holds: Callable[..., bool], reason: str) -> Constraint:
        def counted(*values: Any) -> bool:
            self.made[reason] += 1
            return holds(*values)

        return Constraint(tuple(knobs.split()), counted, reason)


def gpu_matmul(calls: Calls) -> SearchSpace:
    """Knobs and limits as a tiled GPU matmul has them: 18 knobs, a product above 10^10."""
    rule = calls.constraint
    knobs = [
        *(power_of_two(name, 8, 256) for name in ("bm", "bn")),
        *(power_of_two(name, 1, 16) for name in ("tm", "tn")),
        power_of_two("bk", 4, 64),
        *(choice(name, (1, 2, 4, 8)) for name in ("vector_a", "vector_b", "unroll", "group")),
        *(choice(name, (0, 1, 4)) for name in ("pad_a", "pad_b")),
        choice("stages", (1, 2, 3)),
        power_of_two("split_k", 1, 16),
        power_of_two("warps", 1, 8),
        choice("raster", ("row", "column", "hilbert")),
        *(boolean(name) for name in ("swizzle", "cache", "fast")),
    ]
    return SearchSpace(
        "gpu",
        1,
        knobs,
        [
            rule("bm tm", lambda bm, tm: bm % tm == 0, "rows"),
            rule("bn tn", lambda bn, tn: bn % tn == 0, "columns"),
            rule(
                "bm bn tm tn",
                lambda bm, bn, tm, tn: 32 <= (bm * bn) // (tm * tn) <= 1024,
                "threads",
            ),
            rule(
                "bm bn bk pad_a pad_b stages",
                lambda bm, bn, bk, a, b, stages: (
                    4 * stages * bk * (bm + a + bn + b) <= SHARED_BYTES
                ),
                "shared",
            ),
            rule("tm tn vector_a vector_b", lambda m, n, a, b: m * n + m * a + n * b < 200, "regs"),
            rule(
                "bm bn bk tm tn vector_a",
                lambda m, n, k, tm, tn, a: m * k * tm * tn % (a * m * n) == 0,
                "loads of a",
            ),
            rule("unroll bk", lambda unroll, bk: bk % unroll == 0, "unroll"),
            rule("split_k bk", lambda parts, bk: 1024 % (parts * bk) == 0, "split k"),
            rule("warps bm tm", lambda warps, bm, tm: bm // tm % warps == 0, "warps"),
            rule("swizzle pad_a pad_b", lambda s, a, b: not s or a == b == 0, "swizzle"),
            rule("raster group", lambda r, group: r != "row" or group == 1, "raster"),
        ],
    )


def test_a_large_product_is_counted_with_few_calls() -> None:
    calls = Calls()
    space = gpu_matmul(calls)
    assert not calls.made
    assert space.product > 10**10
    assert 10**7 < space.size < space.product
    for rule in space.constraints:
        combinations = np.prod([len(k.values) for k in space.knobs if k.name in rule.knobs])
        assert 0 < calls.made[rule.reason] <= combinations
    assert calls.made.total() < 50_000


def test_small_constraints_spare_calls_of_wide_ones() -> None:
    calls = Calls()
    space = gpu_matmul(calls)
    assert space.size > 0
    wide = next(rule for rule in space.constraints if rule.reason == "loads of a")
    combinations = np.prod([len(k.values) for k in space.knobs if k.name in wide.knobs])
    assert calls.made["loads of a"] < 0.8 * combinations


def test_no_question_asks_a_constraint_twice_for_the_same_values() -> None:
    calls = Calls()
    space = gpu_matmul(calls)
    rng = np.random.default_rng(0)
    removed = dict(space.removed())
    complete = calls.made.copy()
    assert space.size > 0
    space.removed_only()
    schedules = space.sample(1000, rng)
    assert calls.made == complete
    assert all(schedule in space for schedule in schedules)
    assert all(0 <= count < space.product for count in removed.values())


def test_samples_of_a_large_space_match_its_exact_marginals() -> None:
    space = gpu_matmul(Calls())
    schedules = space.sample(4000, np.random.default_rng(3))
    for name, value in (("bm", 256), ("stages", 3), ("swizzle", True), ("raster", "row")):
        expected = space.fixed({name: value}).size / space.size
        share = np.mean([schedule[name] == value for schedule in schedules])
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)


def test_steps_in_a_large_space_are_legal() -> None:
    space = gpu_matmul(Calls())
    rng = np.random.default_rng(5)
    for a, b in zip(space.sample(20, rng), space.sample(20, rng), strict=True):
        assert space.mutate(a, rng) in space
        assert space.crossover(a, b, rng) in space
        single = space.neighbours(a)
        assert all(schedule in space for schedule in single)
        assert len(space.neighbours(a, repair=True)) >= len(single)


def test_many_divisors_and_a_product_beyond_10_to_the_12() -> None:
    knobs = [*(split(name, 5040) for name in "abcd"), *(split(name, 4096) for name in "efgh")]
    space = SearchSpace(
        "splits",
        1,
        knobs,
        [
            Constraint(("a", "b"), lambda a, b: 5040 % (a * b) == 0, "a and b split the rows"),
            Constraint(("c", "d"), lambda c, d: 5040 % (c * d) == 0, "c and d split the columns"),
            Constraint(("a", "c", "e"), lambda a, c, e: a * c * e <= 1024, "accumulators"),
            Constraint(("e", "f", "g"), lambda e, f, g: 4096 % (e * f * g) == 0, "depth"),
            Constraint(("g", "h"), lambda g, h: g >= h, "order"),
        ],
    )
    assert space.product > 10**11
    by_part = sum(space.fixed({"e": value}).size for value in space.knobs[4].values)
    assert space.size == by_part
    last = space.at(space.size - 1)
    assert last in space
    assert space.index(last) == space.size - 1


def test_constraints_too_wide_for_a_table_are_called_where_others_leave_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = gpu_matmul(Calls())
    monkeypatch.setattr(relation, "TABLE_CELLS", 500)
    calls = Calls()
    space = gpu_matmul(calls)
    assert space.size == complete.size
    assert {schedule in complete for schedule in space.sample(100, np.random.default_rng(1))} == {
        True
    }
    assert calls.made.total() < 50_000
    with pytest.raises(InvalidInputError, match="at most 500 can be counted: split it"):
        space.removed()


def test_a_space_too_entangled_for_memory_says_what_to_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conjunction, "EDGES", 100)
    with pytest.raises(InvalidInputError, match=r"more than 100 edges.*'loads of a'.*split it"):
        _ = gpu_matmul(Calls()).size


def test_iteration_is_lazy() -> None:
    space = SearchSpace("wide", 1, [choice(f"knob{i}", range(10)) for i in range(30)], [])
    assert space.size == space.product == 10**30
    assert len(set(islice(space, 3000))) == 3000


def test_numbers_beyond_machine_integers_stay_exact() -> None:
    knobs = [choice(f"knob{i:02}", range(10)) for i in range(30)]
    ordered = [
        Constraint((f"knob{i:02}", f"knob{i + 1:02}"), lambda a, b: a <= b, "ascending")
        for i in range(0, 30, 2)
    ]
    space = SearchSpace("wide", 1, knobs, ordered)
    assert space.size == 55**15
    for index in (0, 55**15 - 1, 123456789**3):
        assert space.index(space.at(index)) == index
    rng = np.random.default_rng(0)
    schedules = space.sample(100, rng)
    assert all(schedule in space for schedule in schedules)
    ranks = [space.index(schedule) / space.size for schedule in schedules]
    assert 0.4 < np.mean(ranks) < 0.6
    chain = SearchSpace(
        "chain", 1, knobs,
        [
            Constraint((f"knob{i:02}", f"knob{i + 1:02}"), lambda a, b: a <= b, "ascending")
            for i in range(29)
        ],
    )  # fmt: skip
    assert chain.size == math.comb(30 + 9, 9)
    assert chain.index(chain.at(chain.size // 3)) == chain.size // 3
