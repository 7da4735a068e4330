"""The CPU attention template: explicit vectors along the queries, K and V read as they lie."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention.cpu_blocks import Blocks
from search_spaces.attention.cpu_decode import CPU_DECODE_ATTENTION
from search_spaces.attention.cpu_space import constraints, knobs
from search_spaces.attention.cpu_stats import statistics
from search_spaces.attention.cpu_vectors import (
    kernel_source,
    kernel_text,
    lanes_of,
    row_count,
    unserved_reason,
)
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats
from search_spaces.space import SearchSpace

FEW_LANES = 4  # so many times the lanes in use are more than the other template's overhead


class Cpu:
    """`Template` for OpenCL on CPUs; the text is `cpu.cl`. Arithmetic is float32 throughout."""

    op = "attention"
    name = "cpu"
    version = 1
    dialects = ("opencl",)

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        if reason := unserved_reason(given, target):
            return reason
        rows, lanes = row_count(given), lanes_of(target)
        if rows <= lanes // FEW_LANES and not CPU_DECODE_ATTENTION.rejects(workload, target):
            return f"{rows} rows would use {rows} of {lanes} lanes: made for these is cpu_decode"
        return ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        given = Parameters.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(given, target), constraints(given, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        blocks = Blocks.of(Parameters.of(workload), schedule)
        work, traffic_bytes = ATTENTION.flops(workload), ATTENTION.bytes(workload)
        return statistics(blocks, schedule, target, work, traffic_bytes)

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        given = Parameters.of(workload)
        blocks = Blocks.of(given, schedule)
        text = kernel_text(given, dialect, _defines(schedule, blocks), *_FILES)
        return kernel_source(workload, schedule, dialect, blocks.count, text)


CPU_ATTENTION = Cpu()

_FILES = ("cpu_panels.h", "cpu.cl")


def _defines(schedule: Schedule, blocks: Blocks) -> dict[str, int]:
    knobs = {name.upper(): int(schedule[name]) for name in schedule.values}
    return knobs | {"BLOCK_KEYS": blocks.keys}
