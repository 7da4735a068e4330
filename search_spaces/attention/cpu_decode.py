"""The CPU attention template for few queries: every byte of K and V is read once, in order."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention.combine import partial_bytes
from search_spaces.attention.cpu_decode_space import (
    MOST_ROWS,
    all_rows,
    constraints,
    knobs,
    private_bytes,
)
from search_spaces.attention.cpu_vectors import (
    kernel_source,
    kernel_text,
    kv_sequences,
    lanes_of,
    row_count,
    unserved_reason,
)
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats
from search_spaces.rounding import ceil_divide
from search_spaces.space import SearchSpace


class CpuDecode:
    """`Template` for OpenCL on CPUs; the text is `cpu_decode.cl`. Arithmetic is float32."""

    op = "attention"
    name = "cpu_decode"
    version = 1
    dialects = ("opencl",)

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        if reason := unserved_reason(given, target):
            return reason
        if row_count(given) > MOST_ROWS:
            return (
                f"made for up to {MOST_ROWS} rows that share a head of K and V, not "
                f"{row_count(given)}"
            )
        lanes = lanes_of(target)
        if min(given.head_dim, given.v_dim) < lanes:
            return f"made for rows of at least a vector, {lanes} elements"
        return ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        given = Parameters.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(given, target), constraints(given, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        """`flops` counts whole tiles of rows; K and V are read once, partial results twice."""
        given = Parameters.of(workload)
        work, traffic_bytes = ATTENTION.flops(workload), ATTENTION.bytes(workload)
        rows, splits = row_count(given), schedule["splits"]
        scratch_bytes = partial_bytes(given, splits)
        return KernelStats(
            groups=kv_sequences(given) * splits,
            threads=1,
            registers=_registers(schedule),
            flops=work * all_rows(rows, schedule["tile_rows"]) / rows,
            useful_flops=work,
            dram_bytes=float(traffic_bytes + 2 * scratch_bytes),
            l2_bytes=float(traffic_bytes + 2 * scratch_bytes),
            working_set_bytes=float(_private_bytes(given, schedule)),
            vector_lanes=schedule["lanes"],
            launches=1 if splits == 1 else 2,
            scratch_bytes=scratch_bytes,
            extra=_extra(given, schedule, target),
        )

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        given = Parameters.of(workload)
        defines = {name.upper(): int(schedule[name]) for name in schedule.values}
        text = kernel_text(given, dialect, defines, "cpu_decode.cl")
        groups = kv_sequences(given) * schedule["splits"]
        return kernel_source(workload, schedule, dialect, groups, text)


CPU_DECODE_ATTENTION = CpuDecode()


def _registers(schedule: Schedule) -> int:
    size = max(schedule["tile_keys"], schedule["tile_vectors"])
    vectors: int = schedule["tile_rows"] * size + size + 1
    return vectors * int(schedule["lanes"])


def _private_bytes(given: Parameters, schedule: Schedule) -> int:
    return private_bytes(given, schedule["lanes"], schedule["tile_rows"], schedule["block_keys"])


def _extra(given: Parameters, schedule: Schedule, target: Target) -> tuple[tuple[str, float], ...]:
    rows, keys, vectors = (schedule[f"tile_{name}"] for name in ("rows", "keys", "vectors"))
    groups, units = kv_sequences(given) * schedule["splits"], target.limit("units", 1)
    row_bytes = dtypes.size_bytes(given.kv_dtype, (given.v_dim,))
    return (
        # share of the cores' time that is work
        ("busy_share", groups / (ceil_divide(groups, units) * units)),
        # vectors loaded for a vector multiplication, of products and of sums
        ("score_loads_per_fma", (rows + keys) / (rows * keys)),
        ("value_loads_per_fma", (rows + vectors) / (rows * vectors)),
        # times that a block of V is read, all but the first from a cache, and its size
        ("value_passes", float(ceil_divide(given.v_dim, vectors * schedule["lanes"]))),
        ("value_block_bytes", float(schedule["block_keys"] * row_bytes)),
    )
