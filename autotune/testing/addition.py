"""The smallest op, c = a + b, for tests of backends and runners; and kernels for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.runners import Job
from records.schedule import Schedule
from records.workload import Workload
from search_spaces import registry
from search_spaces.kernel import Array, KernelSource, Launch
from search_spaces.op import Arrays

GROUP = 64  # work-items
_HEADS: Mapping[str, str] = {
    "opencl": "__kernel void add(__global const float* a, __global const float* b,"
    " __global float* c)\n{\n    int i = get_global_id(0);\n",
    "cuda": 'extern "C" __global__ void add(const float* a, const float* b, float* c)\n'
    "{\n    int i = blockIdx.x * blockDim.x + threadIdx.x;\n",
}


class Addition:
    """c = a + b, vectors of `n` float32, `n` a multiple of 64. Implements `Op`."""

    name = "addition"

    def workload(self, **params: Any) -> Workload:
        return Workload.of(self.name, params)

    def arrays(self, workload: Workload) -> tuple[Array, ...]:
        shape = (workload["n"],)
        return (
            Array("a", shape, "float32", "input"),
            Array("b", shape, "float32", "input"),
            Array("c", shape, "float32", "output"),
        )

    def inputs(self, workload: Workload, seed: int) -> Arrays:
        random = np.random.default_rng(seed)
        return {name: random.uniform(1, 2, workload["n"]).astype(np.float32) for name in "ab"}

    def reference(self, workload: Workload, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        return {"c": inputs["a"].astype(np.float64) + inputs["b"]}

    def tolerance(
        self,
        workload: Workload,
        inputs: Mapping[str, npt.NDArray[Any]],
        reference: Mapping[str, npt.NDArray[Any]],
    ) -> dict[str, npt.NDArray[np.float64]]:
        """One rounding to float32: half a unit in the last place."""
        return {"c": np.abs(reference["c"]) * 2.0**-24}

    def flops(self, workload: Workload) -> float:
        return float(workload["n"])

    def bytes(self, workload: Workload) -> int:
        return int(workload["n"]) * 12


ADDITION = Addition()


def register() -> None:
    """Make the op known to this process; worker processes get it with their jobs."""
    registry.OPS.setdefault(ADDITION.name, ADDITION)


def job(
    body: str = "c[i] = a[i] + b[i];", number: int = 0, n: int = 1024, dialect: str = "opencl"
) -> Job:
    """A kernel for one element `i`, with `a`, `b`, `c`; a `number` makes it another."""
    register()
    workload = ADDITION.workload(n=n)
    text = f"#define NUMBER {number}\n{_HEADS[dialect]}    {body}\n}}\n"
    launch = Launch("add", (n // GROUP, 1, 1), (GROUP, 1, 1), ("a", "b", "c"))
    source = KernelSource(dialect, text, (launch,), ADDITION.arrays(workload))
    return Job(workload, Schedule.of("addition", 1, {"number": number, "body": body}), source)


def too_large_a_group(number: int = 0) -> Job:
    """A job whose work-group no device takes."""
    legal = job(number=number)
    launch = replace(legal.source.launches[0], groups=(1, 1, 1), group_size=(1 << 20, 1, 1))
    return replace(legal, source=replace(legal.source, launches=(launch,)))
