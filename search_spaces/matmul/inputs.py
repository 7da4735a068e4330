"""Random inputs of a matmul, suited to each dtype."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces import draws, dtypes
from search_spaces.dtypes import Stored
from search_spaces.kernel import Array
from search_spaces.matmul.parameters import Parameters
from search_spaces.op import Arrays

_FLOAT8_SPREAD = 16.0  # of A and B where scales follow: most values normal, none saturated
_ZERO_SHARE = 8  # zero points reach to this part of the range of a quantised B


def random_inputs(given: Parameters, arrays: Sequence[Array], seed: int) -> Arrays:
    """See `Matmul.inputs`; `arrays` are the inputs and scalars."""
    return {
        array.name: _Draw(given, array, np.random.default_rng([seed, index])).values()
        for index, array in enumerate(arrays)
    }


class _Draw:
    """The values of one array."""

    def __init__(self, given: Parameters, array: Array, generator: np.random.Generator) -> None:
        self._given, self._array, self._random = given, array, generator

    def values(self) -> Stored:
        given, array = self._given, self._array
        match array.name:
            case "a":
                return self._integers() if given.dtype == "int8" else self._normal(self._spread())
            case "b" if given.quantised or given.dtype == "int8":
                return self._integers()
            case "b":
                return self._normal(self._spread())
            case "b_zero":
                return self._zeros()
            case "a_scale" | "b_scale":
                return self._uniform(self._target() / self._typical())
            case "row_scale" | "column_scale":
                return self._uniform(1.0)
        return self._uniform(1.0) if array.role == "scalar" else self._normal(1.0)

    def _target(self) -> float:
        """The spread of A and B that gives sums of variance 1."""
        return float(self._given.k**-0.25)

    def _spread(self) -> float:
        scaled = self._given.scale != "none"
        return _FLOAT8_SPREAD if scaled else self._target()

    def _typical(self) -> float:
        """The spread of what a scale multiplies."""
        integers = self._given.b_dtype if self._given.quantised else self._given.dtype
        if dtypes.dtype(integers).is_integer:
            return float(dtypes.dtype(integers).largest / np.sqrt(3.0))
        return _FLOAT8_SPREAD

    def _integers(self) -> Stored:
        """Every code of the type, but where sums of float16 would overflow."""
        array, given = self._array, self._given
        if array.dtype == "int4":
            return self._random.integers(0, 256, array.storage_shape, dtype=np.uint8)
        if given.dtype == "int8" and given.scale == "none" and given.out_dtype == "float16":
            reach = max(1, min(127, int(100 * given.k**-0.25)))
            return self._random.integers(-reach, reach + 1, array.shape, dtype=np.int8)
        return self._random.integers(-128, 128, array.shape, dtype=np.int8)

    def _zeros(self) -> Stored:
        """Whole numbers, as quantisers choose them."""
        reach = int(dtypes.dtype(self._given.b_dtype).largest + 1) // _ZERO_SHARE * 2
        drawn = self._random.integers(1, reach + 1, self._array.shape)
        signs = self._random.integers(0, 2, self._array.shape) * 2 - 1
        return dtypes.encode(self._array.dtype, drawn * signs)

    def _uniform(self, typical: float) -> Stored:
        drawn = self._random.uniform(0.5, 1.5, self._array.shape) * typical
        return np.asarray(dtypes.encode(self._array.dtype, drawn))

    def _normal(self, spread: float) -> Stored:
        return draws.normal(self._array.shape, self._format(), spread, self._random)

    def _format(self) -> str:
        is_tf32 = self._given.dtype == "tf32" and self._array.name in ("a", "b")
        return "tf32" if is_tf32 else self._array.dtype
