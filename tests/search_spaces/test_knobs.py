"""Knobs and constraints by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import InvalidInputError
from search_spaces.space import Constraint, Knob, boolean, choice, power_of_two, split


@given(st.integers(1, 5000), st.integers(1, 100), st.none() | st.integers(1, 6000))
def test_split_lists_divisors_in_range(extent: int, low: int, high: int | None) -> None:
    largest = extent if high is None else high
    divisors = tuple(d for d in range(low, min(extent, largest) + 1) if extent % d == 0)
    if divisors:
        assert split("tile", extent, low=low, high=high).values == divisors
    else:
        with pytest.raises(InvalidInputError, match=f"{extent} has no divisor between"):
            split("tile", extent, low=low, high=high)


def test_power_of_two_includes_both_ends() -> None:
    assert power_of_two("tile", 4, 32).values == (4, 8, 16, 32)
    assert power_of_two("tile", 5, 33).values == (8, 16, 32)
    assert power_of_two("tile", -3, 1).values == (1,)
    with pytest.raises(InvalidInputError, match="no power of two between 33 and 63"):
        power_of_two("tile", 33, 63)
    with pytest.raises(InvalidInputError, match="no power of two between 1 and 0"):
        power_of_two("tile", 1, 0)


def test_split_refuses_an_impossible_extent() -> None:
    with pytest.raises(InvalidInputError, match="cannot split an extent of 0"):
        split("tile", 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "at least one value"),
        ((1, 2, 1), "lists a value twice"),
        ((1, (2, 3)), "is a tuple"),
        ((np.int64(4),), "is a int64"),
        ((None,), "is a NoneType"),
    ],
)
def test_bad_values_are_refused(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Knob("tile", values)  # type: ignore[arg-type]


def test_values_are_told_apart_by_type() -> None:
    knob = choice("tile", (1, 2))
    assert knob.position(2) == 1
    assert knob.position(True) is None
    assert knob.position(1.0) is None
    assert knob.position([1]) is None
    assert Knob("mixed", (1, True, 1.0)).position(True) == 1


def test_values_are_read_from_text() -> None:
    assert power_of_two("tile", 1, 8).parse(" 4") == 4
    assert boolean("pad").parse("true") is True
    assert choice("order", ("row", "Column")).parse("column") == "Column"
    with pytest.raises(InvalidInputError, match="tile=3 is not legal; legal values: 1, 2, 4"):
        power_of_two("tile", 1, 4).parse("3")


def test_codes_are_ordered_numbers_or_one_hot() -> None:
    assert split("tile", 12).codes[:, 0] == pytest.approx(np.log2([1, 2, 3, 4, 6, 12]))
    assert choice("shift", (-4, 0, 4)).codes.tolist() == [[-4.0], [0.0], [4.0]]
    assert choice("scale", (0.25, 8.0)).codes.tolist() == [[0.25], [8.0]]
    assert boolean("pad").codes.tolist() == [[0.0], [1.0]]
    mixed = choice("unroll", ("full", 2, True))
    assert mixed.codes.tolist() == np.eye(3).tolist()
    assert mixed.column_names == ("unroll=full", "unroll=2", "unroll=True")


def test_reasons_are_filled_safely() -> None:
    def explain(reason: str, **values: object) -> str:
        return Constraint(("tile",), lambda tile: True, reason).explain(values)

    assert (
        explain("tile {tile} > {limit:,} bytes", tile=64, limit=49152) == "tile 64 > 49,152 bytes"
    )
    assert explain("{tile} of {other}", tile=2) == "2 of other"
    assert explain("{tile:d}", tile="wide") == "wide"
    assert explain("{tile.real} {0} {} { %s }", tile=2) == "{tile.real} 0 {} { %s }"


def test_a_constraint_needs_different_knobs() -> None:
    for knobs in ((), ("tile", "tile")):
        with pytest.raises(InvalidInputError, match="one or more different knobs"):
            Constraint(knobs, lambda *values: True, "odd")
