"""The CPU matmul template: explicit vectors, register tiles, panels packed by who uses them."""

from __future__ import annotations

from functools import cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch, Scratch
from search_spaces.matmul.cpu_blocks import Blocks, Problem
from search_spaces.matmul.cpu_space import constraints, knobs
from search_spaces.matmul.cpu_stats import statistics
from search_spaces.matmul.epilogue import epilogue_code
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.plain import plain_reason
from search_spaces.matmul.workload import EPILOGUE_DTYPES
from search_spaces.space import SearchSpace

_MAX_EXTENT = 2**27  # a tile's rows times this stay below 2**31; other offsets have 64 bits


class Cpu:
    """`Template` for OpenCL on CPUs; the text is `cpu.cl`."""

    op = "matmul"
    name = "cpu"
    version = 1
    dialects = ("opencl",)

    def rejects(self, workload: Workload, target: Target) -> str:
        if reason := plain_reason(workload):
            return reason
        problem = Problem.of(workload)
        if target.backend not in ("opencl", "sim") or not target.is_cpu:
            return "made for CPUs, whose vectors a single work-item uses"
        sums = EPILOGUE_DTYPES[workload["dtype"]]
        if workload["accumulate"] != sums:
            return f"it sums {workload['dtype']} in {sums} only, not in {workload['accumulate']}"
        known = target.limit("dtypes", ("float32",))
        if sums not in known:
            return f"{target} does not compute in {sums}, only in {', '.join(known)}"
        largest = max(problem.m, problem.n, problem.k)
        if largest > _MAX_EXTENT:
            return (
                f"an extent of {largest} exceeds the {_MAX_EXTENT} that it counts in 32 bits; "
                "cut the product into smaller ones"
            )
        return ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        problem = Problem.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(problem, target), constraints(problem, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        problem = Problem.of(workload)
        work, traffic_bytes = MATMUL.flops(workload), MATMUL.bytes(workload)
        return statistics(problem, schedule, target, work, traffic_bytes)

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        problem = Problem.of(workload)
        blocks = Blocks.of(problem, schedule)
        epilogue = epilogue_code(workload, dialect, lanes=schedule["lanes"])
        further = "".join(f", {name}" for name in epilogue.arguments)
        parts = (
            dialect.prelude,
            _defines(workload, problem, schedule, blocks, dialect),
            f"{epilogue.text}#define EPILOGUE_ARGUMENTS {further}".rstrip() + "\n",
            _kernel_text(),
        )
        partial_bytes = problem.partial_bytes(schedule["k_blocks"])
        partial = (Scratch("partial", partial_bytes),) if partial_bytes else ()
        arguments = ("a", "b", "c", *(scratch.name for scratch in partial), *epilogue.arguments)
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=(Launch("matmul", (blocks.count, 1, problem.batch), (1, 1, 1), arguments),),
            arrays=MATMUL.arrays(workload),
            scratch=partial,
        )


CPU = Cpu()

_DEFINED_KNOBS = (  # the others are defined as the sizes of blocks
    "lanes",
    "tile_m",
    "tile_vectors",
    "unroll",
    "pack_a",
    "pack_b",
    "panels_on_stack",
    "rows_first",
    "prefetch_a",
    "prefetch_c",
)


@cache
def _kernel_text() -> str:
    return resources.files("search_spaces.matmul").joinpath("cpu.cl").read_text()


def _defines(
    workload: Workload, problem: Problem, schedule: Schedule, blocks: Blocks, dialect: Dialect
) -> str:
    values = {
        "M": problem.m,
        "N": problem.n,
        "K": problem.k,
        "A_ALONG_K": int(problem.a_along_k),
        "B_ALONG_K": int(problem.b_along_k),
        "STORED": dialect.stored(workload["dtype"]),
        "STORED_IS_HALF": int(workload["dtype"] == "float16"),
        "SUM": dialect.scalar(workload["accumulate"]),
        "BLOCK_M": blocks.block_m,
        "BLOCK_N": blocks.block_n,
        "BLOCK_K": blocks.block_k,
        **{name.upper(): int(schedule[name]) for name in _DEFINED_KNOBS},
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())
