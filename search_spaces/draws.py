"""Random values of large arrays, drawn in threads and yet the same on any number of cores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import dtypes
from search_spaces.threads import in_threads, slices

_PART_ELEMENTS = 1 << 20  # drawn at a time, each part with a generator of its own


def normal(
    shape: tuple[int, ...], dtype: str, spread: float, generator: np.random.Generator
) -> npt.NDArray[Any]:
    """Normal variates of standard deviation `spread`, as arrays of `dtype` store them.

    None is zero, which would hide a wrong factor: `spread` stands in its place.
    """
    drawn: Any = np.float64 if dtype == "float64" else np.float32
    values = np.empty(math.prod(shape), dtypes.storage(dtype))
    parts = slices(values.size, _PART_ELEMENTS)
    instead = dtypes.encode(dtype, spread)

    def fill(part: tuple[slice, np.random.Generator]) -> None:
        where, own = part
        count = where.stop - where.start
        encoded = dtypes.encode(dtype, own.standard_normal(count, dtype=drawn) * drawn(spread))
        encoded[_are_zero(encoded)] = instead
        values[where] = encoded

    in_threads(fill, list(zip(parts, generator.spawn(len(parts)), strict=True)))
    return values.reshape(shape)


def _are_zero(encoded: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Zeros of either sign, also of types that are stored as bits."""
    if encoded.dtype.kind == "f":
        return np.asarray(encoded == 0)
    return np.asarray(encoded & (np.iinfo(encoded.dtype).max >> 1) == 0)
