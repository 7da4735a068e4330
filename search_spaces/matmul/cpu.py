"""The CPU matmul template: explicit vectors, register tiles, panels packed by who uses them."""

from __future__ import annotations

from functools import cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch
from search_spaces.matmul.cpu_blocks import Blocks, Problem, busy_share, ceil_divide
from search_spaces.matmul.cpu_space import constraints, knobs
from search_spaces.matmul.epilogue import epilogue_code
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.workload import EPILOGUE_DTYPES
from search_spaces.space import SearchSpace

_MAX_OFFSET = 2**31 - 1


class Cpu:
    """`Template` for OpenCL on CPUs; the text is `cpu.cl`."""

    op = "matmul"
    name = "cpu"
    version = 1
    dialects = ("opencl",)

    def rejects(self, workload: Workload, target: Target) -> str:
        problem = Problem.of(workload)
        if target.backend not in ("opencl", "sim") or not target.is_cpu:
            return "made for CPUs, whose vectors a single work-item uses"
        sums = EPILOGUE_DTYPES[workload["dtype"]]
        if workload["accumulate"] != sums:
            return f"it sums {workload['dtype']} in {sums} only, not in {workload['accumulate']}"
        known = target.limit("dtypes", ("float32",))
        if sums not in known:
            return f"{target} does not compute in {sums}, only in {', '.join(known)}"
        largest = max(problem.m * problem.k, problem.k * problem.n, problem.m * problem.n)
        if largest > _MAX_OFFSET:
            return (
                f"a matrix of {largest} elements exceeds 32-bit offsets ({_MAX_OFFSET}); "
                "cut the product into smaller ones"
            )
        return ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        problem = Problem.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(problem, target), constraints(problem, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        """Traffic: each block reads its rows of A and columns of B once, C once a block of k.

        `l2_bytes` is what the cores take from the shared cache. The working set is what must
        stay in a core's second-level cache: the panels, a tile's rows of A.
        """
        problem = Problem.of(workload)
        blocks = Blocks.of(problem, schedule)
        tile_m, vectors, lanes = (schedule[name] for name in ("tile_m", "tile_vectors", "lanes"))
        groups = blocks.count * problem.batch
        panels_bytes = (
            problem.panels_bytes(lanes, vectors, schedule["column_tiles"], schedule["k_blocks"])
            if schedule["pack_b"]
            else 0
        )
        columns = ceil_divide(problem.n, lanes) * lanes
        block_bytes = (blocks.block_m + blocks.block_n) * problem.k * problem.stored_bytes
        c_bytes = problem.m * problem.n * problem.stored_bytes * problem.batch
        rows_bytes = problem.a_panel_bytes(tile_m, schedule["k_blocks"])
        return KernelStats(
            groups=groups,
            threads=1,
            shared_bytes=0 if schedule["panels_on_stack"] else panels_bytes,
            registers=(tile_m * vectors + vectors + 1) * lanes * problem.sum_bytes // 4,
            flops=2.0 * problem.m * columns * problem.k * problem.batch,
            useful_flops=MATMUL.flops(workload),
            dram_bytes=float(MATMUL.bytes(workload)),
            l2_bytes=float(groups * block_bytes + (2 * schedule["k_blocks"] - 1) * c_bytes),
            working_set_bytes=float(panels_bytes + rows_bytes),
            vector_lanes=lanes,
            extra=(
                ("busy_share", busy_share(groups, target.limit("units", 1))),
                ("loads_per_fma", (tile_m + vectors) / (tile_m * vectors)),
                ("pack_per_fma", 1.0 / blocks.block_m if schedule["pack_b"] else 0.0),
                ("panel_bytes", lanes * vectors * blocks.block_k * problem.sum_bytes),
                ("rows_bytes", rows_bytes),
                ("row_tail", (problem.m % tile_m) / tile_m),
                ("column_tail", (problem.n % (lanes * vectors)) / (lanes * vectors)),
                ("block_k", blocks.block_k),
                ("block_m", blocks.block_m),
                ("block_n", blocks.block_n),
            ),
        )

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        problem = Problem.of(workload)
        blocks = Blocks.of(problem, schedule)
        epilogue = epilogue_code(workload, dialect, lanes=schedule["lanes"])
        arguments = "".join(f", {name}" for name in epilogue.arguments)
        parts = (
            dialect.prelude,
            _defines(workload, problem, schedule, blocks, dialect),
            f"{epilogue.text}#define EPILOGUE_ARGUMENTS {arguments}".rstrip() + "\n",
            _kernel_text(),
        )
        launch = Launch(
            "matmul",
            (blocks.count, 1, problem.batch),
            (1, 1, 1),
            ("a", "b", "c", *epilogue.arguments),
        )
        return KernelSource(dialect.name, "\n".join(parts), (launch,), MATMUL.arrays(workload))


CPU = Cpu()


@cache
def _kernel_text() -> str:
    return resources.files("search_spaces.matmul").joinpath("cpu.cl").read_text()


def _defines(
    workload: Workload, problem: Problem, schedule: Schedule, blocks: Blocks, dialect: Dialect
) -> str:
    named = ("lanes", "tile_m", "tile_vectors", "unroll", "pack_a", "pack_b", "panels_on_stack")
    values = {
        "M": problem.m,
        "N": problem.n,
        "K": problem.k,
        "A_ALONG_K": int(problem.a_along_k),
        "B_ALONG_K": int(problem.b_along_k),
        "STORED": dialect.stored(workload["dtype"]),
        "STORED_IS_HALF": int(workload["dtype"] == "float16"),
        "SUM": dialect.scalar(workload["accumulate"]),
        **{name.upper(): int(schedule[name]) for name in named},
        "BLOCK_M": blocks.block_m,
        "BLOCK_N": blocks.block_n,
        "BLOCK_K": blocks.block_k,
        "ROWS_FIRST": int(schedule["rows_first"]),
        "PREFETCH_A": int(schedule["prefetch_a"]),
        "PREFETCH_C": int(schedule["prefetch_c"]),
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())
