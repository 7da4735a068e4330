"""The portable matmul template: tiles in local memory, register tiles, one text for every GPU."""

from __future__ import annotations

from functools import cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch, Scratch
from search_spaces.matmul.epilogue import EpilogueCode, epilogue_code
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.plain import plain_reason
from search_spaces.matmul.portable_resources import Problem, threads
from search_spaces.matmul.portable_space import GROUPS_AXIS, constraints, knobs
from search_spaces.matmul.portable_stats import statistics
from search_spaces.matmul.tiling import Grid
from search_spaces.matmul.workload import EPILOGUE_DTYPES
from search_spaces.rounding import ceil_divide
from search_spaces.space import SearchSpace

_MAX_OFFSET = 2**31 - 2**16  # rows are counted in 32 bits, to the end of the last tile
_REDUCE_THREADS = 64


class Portable:
    """`Template` for every OpenCL device and for CUDA; the text is `portable.cl`.

    Arrays must begin at a multiple of 16 bytes, as every allocation does.
    """

    op = "matmul"
    name = "portable"
    version = 1
    dialects = ("opencl", "cuda")

    def rejects(self, workload: Workload, target: Target) -> str:
        if reason := plain_reason(workload):
            return reason
        problem = Problem.of(workload)
        known = target.limit("dtypes", ("float32",))
        for dtype in (workload["accumulate"], EPILOGUE_DTYPES[workload["dtype"]]):
            if dtype not in known:
                return f"{target} does not compute in {dtype}, only in {', '.join(known)}"
        largest = max(problem.m * problem.k, problem.k * problem.n, problem.m * problem.n)
        if largest > _MAX_OFFSET:
            return (
                f"a matrix of {largest} elements exceeds 32-bit offsets ({_MAX_OFFSET}); "
                "cut the product into smaller ones"
            )
        if problem.batch > GROUPS_AXIS:
            return (
                f"a batch of {problem.batch} exceeds the third axis of a grid ({GROUPS_AXIS}); "
                "cut the batch into smaller ones"
            )
        return ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        problem = Problem.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(problem, target), constraints(problem, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        problem = Problem.of(workload)
        work, traffic = MATMUL.flops(workload), MATMUL.bytes(workload)
        return statistics(problem, schedule, target, work, traffic)

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        problem = Problem.of(workload)
        epilogue = epilogue_code(workload, dialect)
        parts = (
            dialect.prelude,
            _defines(workload, problem, schedule, dialect),
            epilogue.text,
            _kernel_text(),
        )
        partial_bytes = problem.partial_sums_bytes(schedule["split_k"])
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(problem, schedule, epilogue),
            arrays=MATMUL.arrays(workload),
            scratch=(Scratch("partial", partial_bytes),) if partial_bytes else (),
        )


PORTABLE = Portable()


@cache
def _kernel_text() -> str:
    return resources.files("search_spaces.matmul").joinpath("portable.cl").read_text()


def _defines(workload: Workload, problem: Problem, schedule: Schedule, dialect: Dialect) -> str:
    values = {
        "M": problem.m,
        "N": problem.n,
        "K": problem.k,
        "A_ALONG_K": int(problem.a_along_k),
        "B_ALONG_K": int(problem.b_along_k),
        **_types(workload, dialect),
        **{name.upper(): int(schedule[name]) for name in schedule.values},
        "REDUCE_THREADS": _REDUCE_THREADS,
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())


def _types(workload: Workload, dialect: Dialect) -> dict[str, str]:
    """The types of the kernel, and how float16, kept as bits, becomes a number and back."""
    half = workload["dtype"] == "float16"
    half_sums = workload["accumulate"] == "float16"
    widened = "HALF_OF_BITS(x)" if half_sums else "half_to_float(x)"
    return {
        "STORED": dialect.stored(workload["dtype"]),
        "SUM": dialect.scalar(workload["accumulate"]),
        "VALUE": dialect.scalar(EPILOGUE_DTYPES[workload["dtype"]]),
        "STORED_TO_SUM(x)": widened if half else "(x)",
        "VALUE_TO_STORED(x)": "float_to_half(x)" if half else "(x)",
    }


def _launches(problem: Problem, schedule: Schedule, epilogue: EpilogueCode) -> tuple[Launch, ...]:
    grid = Grid.of(problem, schedule)
    tile = [schedule[name] for name in ("block_m", "block_n", "thread_m", "thread_n")]
    groups = (grid.tiles, grid.parts, problem.batch)
    group_size = (threads(*tile), 1, 1)
    finish = ("c", *epilogue.arguments)
    if grid.parts == 1:
        return (Launch("matmul", groups, group_size, ("a", "b", *finish)),)
    elements = ceil_divide(problem.m * problem.n, _REDUCE_THREADS)
    return (
        Launch("matmul", groups, group_size, ("a", "b", "partial")),
        Launch(
            "reduce", (elements, 1, problem.batch), (_REDUCE_THREADS, 1, 1), ("partial", *finish)
        ),
    )
