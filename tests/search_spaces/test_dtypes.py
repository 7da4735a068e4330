"""Every number format: exact both ways, rounded as the hardware rounds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import InvalidInputError
from search_spaces import dtypes

FLOATS = [name for name, dtype in dtypes.DTYPES.items() if not dtype.is_integer]
SMALL = ["float16", "bfloat16", "float8_e4m3", "float8_e5m2"]  # few enough to list every value
SATURATING = ["float8_e4m3", "float8_e5m2"]


def every_code(name: str) -> npt.NDArray[Any]:
    storage = dtypes.storage(name)
    unsigned = np.dtype(f"u{storage.itemsize}")
    return np.arange(2 ** dtypes.dtype(name).bits).astype(unsigned).view(storage)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("name", SMALL)
def test_every_value_survives_a_round_trip(name: str, precision: type) -> None:
    codes = every_code(name)
    values = dtypes.decode(name, codes)
    assert values.dtype == np.float64
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):  # signalling NaN
        narrow = values.astype(precision)
    again = dtypes.encode(name, narrow)
    np.testing.assert_array_equal(again[finite].view("u1"), codes[finite].view("u1"))
    assert np.isnan(dtypes.decode(name, again)[np.isnan(values)]).all()


@pytest.mark.parametrize("name", FLOATS)
def test_the_table_describes_the_values(name: str) -> None:
    dtype = dtypes.dtype(name)
    for value in (dtype.largest, dtype.smallest, 1 + 2 * dtype.unit_roundoff):
        assert dtypes.decode(name, dtypes.encode(name, value)) == value
    assert dtypes.decode(name, dtypes.encode(name, 1 + dtype.unit_roundoff)) == 1  # tie to even
    if name in SMALL:
        values = dtypes.decode(name, every_code(name))
        assert values[np.isfinite(values)].max() == dtype.largest


@pytest.mark.parametrize("name", SMALL)
@given(value=st.floats(-1e5, 1e5), narrow=st.booleans())
def test_the_nearest_value_and_of_two_the_even_one(name: str, value: float, narrow: bool) -> None:
    """Against exact fractions of all values there are."""
    value = float(np.float32(value)) if narrow else value
    largest = dtypes.dtype(name).largest
    if abs(value) > largest and name not in SATURATING:
        return
    table = dtypes.decode(name, every_code(name))
    codes = np.flatnonzero(np.isfinite(table))
    near = codes[np.argsort(np.abs(table[codes] - value), kind="stable")[:6]]
    distances = {int(code): abs(Fraction(table[code]) - Fraction(value)) for code in near}
    closest = min(distances.values())
    best = {code for code, distance in distances.items() if distance == closest}
    if len({table[code] for code in best}) > 1:
        best = {code for code in best if code % 2 == 0}
    given_value = np.float32(value) if narrow else value
    stored = np.asarray(dtypes.encode(name, given_value)).reshape(1)
    code = int(stored.view(f"u{stored.itemsize}")[0])
    assert table[code] in {table[each] for each in best}


@given(st.floats(width=64, allow_nan=False, allow_infinity=False))
def test_tf32_has_ten_bits_of_mantissa(value: float) -> None:
    stored = dtypes.encode("tf32", value)
    assert stored.dtype == np.float32
    bits = np.asarray(stored).reshape(1).view(np.uint32)
    assert bits & 0x1FFF == 0
    if 2.0**-126 <= abs(value) <= dtypes.dtype("tf32").largest:
        assert abs(float(stored) - value) <= abs(value) * 2.0**-11


@pytest.mark.parametrize("name", SMALL)
def test_beyond_the_largest_value(name: str) -> None:
    largest = dtypes.dtype(name).largest
    got = dtypes.decode(name, dtypes.encode(name, [1e39, -1e39, np.inf, -np.inf, np.nan]))
    limit = largest if name in SATURATING else np.inf
    np.testing.assert_array_equal(got, [limit, -limit, limit, -limit, np.nan])
    assert np.signbit(dtypes.decode(name, dtypes.encode(name, -0.0)))


@pytest.mark.parametrize(
    ("name", "least", "largest"),
    [("int8", -128, 127), ("uint8", 0, 255), ("int32", -(2**31), 2**31 - 1), ("int4", -8, 7)],
)
def test_integers_round_and_saturate(name: str, least: int, largest: int) -> None:
    stored = dtypes.encode(name, [0.5, 1.5, 2.4999, 3.0, -1e12, 1e12])
    got = dtypes.decode(name, stored)
    assert got.dtype == np.int64
    assert got.tolist() == [0, 2, 2, 3, least, largest]


def test_int4_holds_two_in_a_byte_the_low_nibble_first() -> None:
    stored = dtypes.encode("int4", [[1, -1, 7, -8]])
    assert stored.tolist() == [[0xF1, 0x87]]
    assert stored.dtype == np.uint8
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(dtypes.encode("int4", dtypes.decode("int4", codes)), codes)
    assert dtypes.storage_shape("int4", (3, 10)) == (3, 5)
    assert dtypes.size_bytes("int4", (3, 10)) == 15
    with pytest.raises(InvalidInputError, match="even last axis.*pad"):
        dtypes.encode("int4", [1, 2, 3])


def test_sizes_follow_the_storage() -> None:
    assert dtypes.size_bytes("bfloat16", (3, 5)) == 30
    assert dtypes.size_bytes("float32", ()) == 4
    assert dtypes.storage_shape("float8_e4m3", (3, 5)) == (3, 5)


def test_large_arrays_are_converted_in_parts() -> None:
    values = np.random.default_rng(0).standard_normal((1025, 1024), dtype=np.float32)
    halves = [dtypes.encode("bfloat16", values[:500]), dtypes.encode("bfloat16", values[500:])]
    np.testing.assert_array_equal(dtypes.encode("bfloat16", values), np.concatenate(halves))
    columns = values.T  # not contiguous
    np.testing.assert_array_equal(
        dtypes.encode("bfloat16", columns), dtypes.encode("bfloat16", values).T
    )


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="no dtype 'float128'; there are: float16, bfloat1"):
        dtypes.storage("float128")


class TestMlDtypes:
    """The same formats by another hand."""

    NAMES = {
        "bfloat16": "bfloat16",
        "float8_e4m3": "float8_e4m3fn",
        "float8_e5m2": "float8_e5m2",
    }

    @pytest.mark.parametrize("name", NAMES)
    def test_agrees_on_every_code_and_on_rounding(self, name: str) -> None:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        theirs = np.dtype(getattr(ml_dtypes, self.NAMES[name]))
        codes = every_code(name)
        with np.errstate(invalid="ignore"):
            expected = codes.view(theirs).astype(np.float64)
        np.testing.assert_array_equal(dtypes.decode(name, codes), expected)
        largest = min(dtypes.dtype(name).largest, 1e30)
        exponents = np.linspace(-40, np.log2(largest), 20_000)
        values = (2.0**exponents).astype(np.float32) * np.tile([1, -1], 10_000)
        got = dtypes.encode(name, values.astype(np.float32))
        np.testing.assert_array_equal(got, values.astype(theirs).view(got.dtype))

    @pytest.mark.parametrize("name", NAMES)
    def test_its_arrays_are_taken_as_they_are(self, name: str) -> None:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        array = np.ones(3, getattr(ml_dtypes, self.NAMES[name]))
        assert dtypes.accepts(name, array.dtype.name)
        stored = dtypes.as_storage(name, array)
        assert stored.dtype == dtypes.storage(name) and np.shares_memory(stored, array)
        assert dtypes.decode(name, stored).tolist() == [1, 1, 1]

    def test_a_format_of_almost_the_same_name_is_not(self) -> None:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        assert not dtypes.accepts("float8_e4m3", np.dtype(ml_dtypes.float8_e4m3).name)
        assert not dtypes.accepts("int4", np.dtype(ml_dtypes.int4).name)
