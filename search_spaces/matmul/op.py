"""Matrix multiplication as an op: arrays, inputs, reference, tolerance, work."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.kernel import Array
from search_spaces.matmul.reference import output_shape, reference, tolerance
from search_spaces.matmul.steps import STEPS
from search_spaces.matmul.workload import EPILOGUE_DTYPES, matmul
from search_spaces.op import Arrays


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
        """a, b, what each step of the epilogue needs in order, c."""
        m, n, k, dtype = (workload[name] for name in ("m", "n", "k", "dtype"))
        batched = output_shape(workload)[:-2]
        a_letter, b_letter = workload["layout"]
        a_shape, b_shape = (
            ((k, m) if a_letter == "t" else (m, k)),
            ((n, k) if b_letter == "t" else (k, n)),
        )
        arrays = [
            Array("a", batched + a_shape, dtype, "input"),
            Array("b", batched + b_shape, dtype, "input"),
        ]
        for step in (STEPS[name] for name in workload["epilogue"]):
            arrays += [Array(name, (), EPILOGUE_DTYPES[dtype], "scalar") for name in step.scalars]
            arrays += [Array(name, batched + (m, n), dtype, "input") for name in step.matrices]
            arrays += [Array(name, (n,), dtype, "input") for name in step.vectors]
        return (*arrays, Array("c", batched + (m, n), dtype, "output"))

    def inputs(self, workload: Workload, seed: int) -> Arrays:
        """Normal variates; A and B are scaled so that sums have variance 1 for every k.

        Sums thus reach the curved part of every activation, and float16 does not overflow.
        Scalars lie between 0.5 and 1.5.
        """
        spread = {"a": workload["k"] ** -0.25, "b": workload["k"] ** -0.25}
        given = [array for array in self.arrays(workload) if array.role != "output"]
        return {
            array.name: _random(array, spread.get(array.name, 1.0), [seed, index])
            for index, array in enumerate(given)
        }

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
        """2 m n k for each element of the batch; the epilogue is not counted, as is customary."""
        return 2.0 * float(math.prod(workload[name] for name in ("batch", "m", "n", "k")))

    def bytes(self, workload: Workload) -> int:
        """Every array once."""
        return sum(
            math.prod(array.shape) * np.dtype(array.dtype).itemsize
            for array in self.arrays(workload)
        )


def _random(array: Array, spread: float, seed: list[int]) -> npt.NDArray[Any]:
    generator = np.random.default_rng(seed)
    if array.role == "scalar":
        return np.asarray(generator.uniform(0.5, 1.5), dtype=array.dtype)
    drawn = np.float64 if array.dtype == "float64" else np.float32
    values = generator.standard_normal(array.shape, dtype=drawn)
    values *= drawn(spread)
    stored = values.astype(array.dtype, copy=False)
    stored[stored == 0] = spread  # a zero would hide a wrong factor
    return stored


MATMUL = Matmul()
