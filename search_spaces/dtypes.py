"""The number formats: how each is stored on the host, its precision, and conversion both ways.

| dtype | one element | stored in numpy as |
|---|---|---|
| float16, float32, float64 | IEEE 754 binary16, 32, 64 | itself |
| bfloat16 | the upper half of a float32 | its bits, uint16 |
| tf32 | a float32 that tensor cores use to 10 bits of mantissa | float32 |
| float8_e4m3 | 1-4-3 bits, bias 7, largest 448, no infinity (OCP OFP8) | its bits, uint8 |
| float8_e5m2 | 1-5-2 bits, bias 15, the upper half of a float16 (OCP OFP8) | its bits, uint8 |
| int8, uint8, int32 | two's complement | itself |
| int4 | -8 to 7, two's complement; two a byte along the last axis, low nibble first | uint8 |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from records.errors import InvalidInputError
from search_spaces.threads import in_threads, slices

Stored = npt.NDArray[Any]

_BLOCK_ELEMENTS = 1 << 20  # converted at a time, so that temporaries stay in the caches


@dataclass(frozen=True)
class DType:
    """A number format.

    `bits` of one element in memory; `storage` is numpy's type of what holds one element (of
    int4: two). `unit_roundoff` is the largest relative error of rounding to nearest, 0 for
    integers; `largest` the largest finite value, `smallest` the smallest normal one (1 for
    integers). `names` are those of the same format in other libraries (the e4m3 of ml_dtypes that
    is not called `fn` is another format, and its int4 is not packed).
    """

    name: str
    bits: int
    storage: np.dtype[Any]
    unit_roundoff: float
    largest: float
    smallest: float
    names: tuple[str, ...] = ()

    @property
    def is_integer(self) -> bool:
        return self.unit_roundoff == 0.0

    @property
    def packed(self) -> int:
        """Elements in one element of the storage."""
        return self.storage.itemsize * 8 // self.bits


def _float(
    name: str,
    bits: int,
    storage: str,
    mantissa: int,
    largest: float,
    least_exponent: int,
    *names: str,
) -> DType:
    """`mantissa` counts the stored bits; `least_exponent` is that of the smallest normal."""
    unit_roundoff, smallest = 2.0 ** (-mantissa - 1), 2.0**least_exponent
    return DType(name, bits, np.dtype(storage), unit_roundoff, largest, smallest, names)


def _integer(name: str, bits: int, storage: str, largest: int) -> DType:
    return DType(name, bits, np.dtype(storage), 0.0, float(largest), 1.0)


_FLOAT32_LARGEST = (2 - 2.0**-23) * 2.0**127
DTYPES: Mapping[str, DType] = {
    dtype.name: dtype
    for dtype in (
        _float("float16", 16, "float16", 10, 65504.0, -14, "float16"),
        _float("bfloat16", 16, "uint16", 7, (2 - 2.0**-7) * 2.0**127, -126, "bfloat16"),
        _float("float32", 32, "float32", 23, _FLOAT32_LARGEST, -126),
        _float("tf32", 32, "float32", 10, (2 - 2.0**-10) * 2.0**127, -126),
        _float("float64", 64, "float64", 52, float(np.finfo(np.float64).max), -1022),
        _float("float8_e4m3", 8, "uint8", 3, 448.0, -6, "float8_e4m3fn"),
        _float("float8_e5m2", 8, "uint8", 2, 57344.0, -14, "float8_e5m2"),
        _integer("int4", 4, "uint8", 7),
        _integer("int8", 8, "int8", 127),
        _integer("uint8", 8, "uint8", 255),
        _integer("int32", 32, "int32", 2**31 - 1),
    )
}


def dtype(name: str) -> DType:
    """The format of that name, or `InvalidInputError` listing the names there are."""
    try:
        return DTYPES[name]
    except KeyError:
        raise InvalidInputError(f"no dtype {name!r}; there are: {', '.join(DTYPES)}") from None


def storage(name: str) -> np.dtype[Any]:
    """numpy's type of the arrays that hold it."""
    return dtype(name).storage


def unit_roundoff(name: str) -> float:
    return dtype(name).unit_roundoff


def storage_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the numpy array that holds `shape` elements: packed along the last axis."""
    packed = dtype(name).packed
    return (*shape[:-1], -(-shape[-1] // packed)) if shape and packed > 1 else shape


def size_bytes(name: str, shape: tuple[int, ...]) -> int:
    """Bytes of an array of `shape` elements, or of one scalar."""
    return math.prod(storage_shape(name, shape)) * storage(name).itemsize


def accepts(name: str, given: str) -> bool:
    """Whether arrays whose dtype goes by the name `given`, anywhere, hold this format."""
    known = dtype(name)
    return given == known.storage.name or given in known.names


def as_storage(name: str, array: Stored) -> Stored:
    """The same memory with the dtype of our storage, for arrays of ml_dtypes' types."""
    known = dtype(name)
    is_ours = array.dtype == known.storage or array.dtype.name not in known.names
    return array if is_ours else np.asarray(array.view(known.storage))


def decode(name: str, stored: Stored) -> Stored:
    """The values: float64 for floating types (exact), int64 for integers; int4 is unpacked."""
    decoder = _DECODERS.get(name)
    with np.errstate(invalid="ignore"):  # signalling NaN
        if decoder is not None:
            return decoder(np.asarray(stored))
        return np.asarray(stored).astype(np.int64 if dtype(name).is_integer else np.float64)


def encode(name: str, values: npt.ArrayLike) -> Stored:
    """Values in storage, as `cvt.rn` of PTX converts them.

    Rounded once, to nearest, ties to even. Beyond the largest value integers and float8
    saturate (`satfinite`), the others become infinite. NaN stays NaN; it has no integer.
    For int4 the last axis must be even.
    """
    given = np.asarray(values)
    if given.dtype not in (np.float32, np.float64):
        given = given.astype(np.float64)
    known, encoder = dtype(name), _ENCODERS.get(name, _encode_integer)
    if known.packed > 1:
        return encoder(known, given)
    flat = np.ascontiguousarray(given).reshape(-1)
    stored = np.empty(flat.size, known.storage)

    def convert(block: slice) -> None:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            stored[block] = encoder(known, flat[block])

    in_threads(convert, slices(flat.size, _BLOCK_ELEMENTS))
    return stored.reshape(given.shape)


def _decode_bfloat16(stored: Stored) -> Stored:
    bits = stored.astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32).astype(np.float64)


def _float8_table(exponent_bits: int, mantissa_bits: int, infinities: bool) -> Stored:
    """The value of each byte, from the definition of the format."""
    bits = np.arange(256)
    bias = (1 << (exponent_bits - 1)) - 1
    exponent = (bits & 0x7F) >> mantissa_bits
    mantissa = bits & ((1 << mantissa_bits) - 1)
    implied = np.where(exponent > 0, 1 << mantissa_bits, 0)
    size = np.ldexp((implied + mantissa) * 1.0, np.maximum(exponent, 1) - bias - mantissa_bits)
    if infinities:
        special = exponent == (1 << exponent_bits) - 1
        size[special] = np.where(mantissa[special] == 0, np.inf, np.nan)
    else:
        size[(bits & 0x7F) == 0x7F] = np.nan
    return np.asarray(np.where(bits & 0x80, -size, size))


_E4M3 = _float8_table(4, 3, infinities=False)
_E5M2 = _float8_table(5, 2, infinities=True)


def _decode_int4(stored: Stored) -> Stored:
    nibbles = np.stack([stored & 0xF, stored >> 4], axis=-1).astype(np.int64)
    return ((nibbles ^ 8) - 8).reshape(*stored.shape[:-1], -1)


_DECODERS: Mapping[str, Callable[[Stored], Stored]] = {
    "bfloat16": _decode_bfloat16,
    "float8_e4m3": lambda stored: _E4M3[stored],
    "float8_e5m2": lambda stored: _E5M2[stored],
    "int4": _decode_int4,
}


def _encode_numpy(known: DType, values: Stored) -> Stored:
    return values.astype(known.storage)


def _rounded(known: DType, values: Stored) -> Stored:
    """Values of the format nearest to the given ones, still in their own type, unsaturated."""
    _, exponents = np.frexp(np.where(np.isfinite(values), values, 1))
    least = round(math.log2(known.smallest))
    mantissa_bits = round(-math.log2(known.unit_roundoff)) - 1
    steps = np.maximum(exponents - 1, least) - mantissa_bits
    rounded = np.ldexp(np.rint(np.ldexp(values, -steps)), steps)
    return np.where(np.isfinite(values), rounded, values)


def _encode_tf32(known: DType, values: Stored) -> Stored:
    return _rounded(known, values).astype(np.float32)


def _encode_bfloat16(known: DType, values: Stored) -> Stored:
    if values.dtype == np.float64:
        values = _rounded(known, values).astype(np.float32)
    bits = values.view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FFF), nearest).astype(np.uint16)


def _encode_e5m2(known: DType, values: Stored) -> Stored:
    """The format is the upper half of a float16."""
    saturated = np.clip(_rounded(known, values), -known.largest, known.largest)
    bits = saturated.astype(np.float16).view(np.uint16) >> 8
    return np.where(np.isnan(values), np.uint16(0x7F), bits).astype(np.uint8)


def _encode_e4m3(known: DType, values: Stored) -> Stored:
    """Divided by 2^8, the difference of the biases, its fields stand in those of a float16."""
    saturated = np.clip(_rounded(known, values), -known.largest, known.largest)
    bits = (saturated / 256).astype(np.float16).view(np.uint16)
    fields = ((bits >> 7) & 0x7F) | ((bits >> 8) & 0x80)
    return np.where(np.isnan(values), np.uint16(0x7F), fields).astype(np.uint8)


def _encode_integer(known: DType, values: Stored) -> Stored:
    least = 0.0 if known.storage.kind == "u" else -known.largest - 1
    exact = values.astype(np.float64)  # float32 does not hold the largest int32
    return np.clip(np.rint(exact), least, known.largest).astype(known.storage)


def _encode_int4(known: DType, values: Stored) -> Stored:
    if not values.shape or values.shape[-1] % 2:
        raise InvalidInputError(
            f"int4 packs two in a byte: need an even last axis, got shape {values.shape}; pad it"
        )
    codes = np.clip(np.rint(values), -8, 7).astype(np.int8).view(np.uint8) & 0xF
    return np.asarray(codes[..., 0::2] | (codes[..., 1::2] << 4))


_ENCODERS: Mapping[str, Callable[[DType, Stored], Stored]] = {
    "float16": _encode_numpy,
    "float32": _encode_numpy,
    "float64": _encode_numpy,
    "tf32": _encode_tf32,
    "bfloat16": _encode_bfloat16,
    "float8_e4m3": _encode_e4m3,
    "float8_e5m2": _encode_e5m2,
    "int4": _encode_int4,
}
