"""Matrix multiplication as an op: arrays, inputs, reference, tolerance, work."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.kernel import Array
from search_spaces.matmul.inputs import random_inputs
from search_spaces.matmul.parameters import Parameters, stored
from search_spaces.matmul.reference import reference
from search_spaces.matmul.steps import STEPS, Step
from search_spaces.matmul.tolerance import tolerance
from search_spaces.matmul.workload import matmul
from search_spaces.op import Arrays


def _scales(given: Parameters) -> Iterator[Array]:
    """Of a quantised B; or of the sums of float8 and int8."""
    if given.quantised:
        yield Array("b_scale", given.b_scale_shape, given.dtype, "input")
        if given.zero_point:
            yield Array("b_zero", given.b_scale_shape, given.dtype, "input")
    elif given.scale == "tensor":
        yield Array("a_scale", (), given.epilogue_dtype, "scalar")
        yield Array("b_scale", (), given.epilogue_dtype, "scalar")
    elif given.scale == "row_column":
        yield Array("a_scale", (*given.batch_shape, given.m), given.epilogue_dtype, "input")
        yield Array("b_scale", (*given.products_shape, given.n), given.epilogue_dtype, "input")


def _operands(given: Parameters, step: Step) -> Iterator[Array]:
    lengths = {"row_scale": given.m, "column_scale": given.n}
    dtype = stored(given.operand_dtype)
    for name in step.scalars:
        yield Array(name, (), given.epilogue_dtype, "scalar")
    for name in step.matrices:
        yield Array(name, given.c_shape, dtype, "input")
    for name in step.vectors:
        yield Array(name, (given.n,), dtype, "input")
    for name in step.scales:
        yield Array(name, (lengths[name],), given.epilogue_dtype, "input")


class Matmul:
    """C = epilogue(A B); see `matmul` for the parameters. Implements `Op`."""

    name = "matmul"

    def workload(self, **params: Any) -> Workload:
        try:
            inspect.signature(matmul).bind(**params)
        except TypeError as error:
            raise InvalidInputError(
                f"matmul: {error}; it takes {', '.join(inspect.signature(matmul).parameters)}"
            ) from None
        return matmul(**params)

    def arrays(self, workload: Workload) -> tuple[Array, ...]:
        """a, b, what scales them, what each step of the epilogue needs in order, c."""
        given = Parameters.of(workload)
        return (
            Array("a", given.a_shape, stored(given.dtype), "input"),
            Array("b", given.b_shape, stored(given.b_dtype), "input"),
            *_scales(given),
            *(array for name in given.epilogue for array in _operands(given, STEPS[name])),
            Array("c", given.c_shape, stored(given.out_dtype), "output"),
        )

    def inputs(self, workload: Workload, seed: int) -> Arrays:
        """Normal variates, never zero; A and B are such that sums have variance 1 for every k.

        Sums thus reach the curved part of every activation, and float16 does not overflow.
        float8 with scales has a spread of 16, which uses the format, and scales that make up for
        it. tf32 has no more than its 10 bits, so that rounding and cutting off multiply alike.
        int8, and the integers of a quantised B, take every value of the type, 0 too, unless sums
        would exceed a float16 output. Scalars lie between 0.5 and 1.5; so do scales, times what
        gives the sums their variance.
        """
        given = [array for array in self.arrays(workload) if array.role != "output"]
        return random_inputs(Parameters.of(workload), given, seed)

    def reference(self, workload: Workload, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        return {"c": reference(workload, inputs)}

    def tolerance(
        self,
        workload: Workload,
        inputs: Mapping[str, npt.NDArray[Any]],
        reference: Mapping[str, npt.NDArray[Any]],
    ) -> dict[str, npt.NDArray[np.float64]]:
        return {"c": tolerance(workload, inputs, reference["c"])}

    def flops(self, workload: Workload) -> float:
        """2 m n k for each element of the batch; the epilogue is not counted, as is customary.

        For groups m is the sum of their rows.
        """
        return 2.0 * float(math.prod(workload[name] for name in ("batch", "m", "n", "k")))

    def bytes(self, workload: Workload) -> int:
        """Every array once; no matrix B of a group without rows."""
        given = Parameters.of(workload)
        return sum(_traffic_bytes(given, array) for array in self.arrays(workload))


def _traffic_bytes(given: Parameters, array: Array) -> int:
    per_group = given.groups and array.name in ("b", "b_scale", "b_zero") and array.shape
    if not per_group:
        return array.size_bytes
    return array.size_bytes // given.products * (given.products - given.groups.count(0))


MATMUL = Matmul()
