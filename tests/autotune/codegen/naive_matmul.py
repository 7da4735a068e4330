"""A user's own template, small enough to read: one work-item for each element of C."""

from __future__ import annotations

from records.measurement import Measurement
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch, Scratch
from search_spaces.space import SearchSpace

_TEXT = """\
// C = epilogue(A B), row-major. A is copied to scratch first where STAGED is 1.
#ifndef STAGED
#define STAGED 0
#endif

__kernel void stage(__global const float *a, __global float *copy)
{
    copy[get_global_id(0)] = a[get_global_id(0)];
}

__kernel void multiply({parameters})
{
    const int row = get_global_id(1), column = get_global_id(0);
    float sum = 0.0f;
    for (int i = 0; i < K; ++i)
        sum += {a}[row * K + i] * b[i * N + column];
    {epilogue}
    c[row * N + column] = sum;
}
"""
_STEPS = {
    "alpha": "sum *= alpha;",
    "bias": "sum += bias[column];",
    "relu": "sum = fmax(sum, 0.0f);",
}


class Naive:
    op = "matmul"
    name = "naive"
    dialects = ("opencl",)

    def __init__(self, version: int = 1) -> None:
        self.version = version

    def rejects(self, workload: Workload, target: Target) -> str:
        return "" if workload["layout"] == "nn" and workload["batch"] == 1 else "nn, no batch"

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        raise NotImplementedError

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        return KernelStats()

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        arrays = registry.op("matmul").arrays(workload)
        m, n, k, staged = workload["m"], workload["n"], workload["k"], schedule["staged"]
        parameters = [
            f"float {array.name}"
            if array.role == "scalar"
            else f"__global {'const ' if array.role == 'input' else ''}float *{array.name}"
            for array in arrays
        ]
        names = tuple(array.name for array in arrays)
        if staged:
            parameters.append("__global const float *copy")
            names += ("copy",)
        text = _TEXT.replace("{parameters}", ", ".join(parameters))
        text = text.replace("{a}", "copy" if staged else "a")
        text = text.replace("{epilogue}", " ".join(_STEPS[s] for s in workload["epilogue"]))
        defines = f"#define STAGED {int(staged)}\n#define N {n}\n#define K {k}\n"
        stage = Launch("stage", (m * k, 1, 1), (1, 1, 1), ("a", "copy"))
        multiply = Launch("multiply", (n, m, 1), (1, 1, 1), names)
        return KernelSource(
            dialect.name,
            defines + text,
            (stage, multiply) if staged else (multiply,),
            arrays,
            (Scratch("copy", m * k * 4),) if staged else (),
        )


def naive_record(
    workload: Workload,
    target: Target,
    *,
    time_s: float = 1e-3,
    staged: bool = False,
    version: int = 1,
    template: str = "naive",
    created_at: str = "2026-01-02T03:04:05+00:00",
    compiler_options: str = "-cl-std=CL1.2",
) -> TuningRecord:
    return TuningRecord(
        workload,
        target,
        Schedule.of(template, version, {"staged": staged}),
        Measurement.ok((time_s,), environment={"compiler_options": compiler_options}),
        created_at,
    )
