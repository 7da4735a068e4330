"""A user's own template of attention: one work-item for each query, and two outputs."""

from __future__ import annotations

from records.measurement import Measurement
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.attention.parameters import Parameters
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch
from search_spaces.space import SearchSpace

_TEXT = """\
// Float32, bhsd, every sequence with its own number of keys.
__kernel void attend(__global const float *q, __global const float *k, __global const float *v,
                     __global const int *kv_lengths, __global float *out, __global float *lse)
{
    const int row = get_global_id(0), head = row / Q_LEN, batch = head / HEADS;
    const __global float *keys = k + (size_t)head * KV_LEN * DIM;
    const __global float *values = v + (size_t)head * KV_LEN * DIM;
    float total = 0.0f, sums[DIM] = {0.0f};
    for (int key = 0; key < kv_lengths[batch]; ++key) {
        float score = 0.0f;
        for (int i = 0; i < DIM; ++i)
            score += q[row * DIM + i] * keys[key * DIM + i];
        const float weight = exp(score * SCALE);
        total += weight;
        for (int i = 0; i < DIM; ++i)
            sums[i] += weight * values[key * DIM + i];
    }
    for (int i = 0; i < DIM; ++i)
        out[row * DIM + i] = total > 0.0f ? sums[i] / total : 0.0f;
    lse[row] = log(total);
}
"""


class NaiveAttention:
    op = "attention"
    name = "naive"
    version = 1
    dialects = ("opencl",)

    def rejects(self, workload: Workload, target: Target) -> str:
        return ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        raise NotImplementedError

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        return KernelStats()

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        given, arrays = Parameters.of(workload), registry.op("attention").arrays(workload)
        sizes = {"Q_LEN": given.q_len, "KV_LEN": given.kv_len, "HEADS": given.heads}
        constants = {**sizes, "DIM": given.head_dim, "SCALE": f"{given.scale!r}f"}
        defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
        rows = given.batch * given.heads * given.q_len
        names = tuple(array.name for array in arrays)
        launch = Launch("attend", (rows, 1, 1), (1, 1, 1), names)
        return KernelSource(dialect.name, defines + _TEXT, (launch,), arrays)


def naive_attention_record(
    workload: Workload, target: Target, time_s: float = 1e-3
) -> TuningRecord:
    return TuningRecord(
        workload,
        target,
        Schedule.of("naive", 1, {}),
        Measurement.ok((time_s,), environment={"compiler_options": "-cl-std=CL1.2"}),
        "2026-01-02T03:04:05+00:00",
    )
