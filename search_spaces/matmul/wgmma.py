"""The wgmma matmul template: Hopper's tensor cores fed by TMA, in a persistent pipeline."""

from __future__ import annotations

from functools import cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch, Scratch
from search_spaces.matmul.epilogue import EpilogueCode, epilogue_code, store_code
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.row_groups import row_group_defines
from search_spaces.matmul.wgmma_maps import tensor_maps
from search_spaces.matmul.wgmma_resources import (
    LOADER_REGISTERS,
    Grid,
    Operand,
    Problem,
    consumer_registers,
)
from search_spaces.matmul.wgmma_space import constraints, knobs
from search_spaces.matmul.wgmma_stats import statistics
from search_spaces.rounding import ceil_divide
from search_spaces.space import SearchSpace
from search_spaces.warpgroup import INSTRUCTIONS, threads

_ARCH = "sm_90a"
_ALIGNMENT_BYTES = 16  # of rows that TMA loads
_MAX_EXTENT = 2**31 - 2**16  # coordinates are counted in 32 bits, to the end of the last tile
_REDUCE_THREADS = 128
_RASTERS = ("rows", "columns", "hilbert")
_TEXTS = (
    "matmul/wgmma_tiles.h",
    "matmul/wgmma_layout.h",
    "matmul/wgmma_store.h",
    "matmul/wgmma.cu",
)


class Wgmma:
    """`Template` for Hopper (sm_90a); the text is `wgmma.cu` and its headers.

    Sums of floating types are float32, also where `accumulate` allows float16: these tensor cores
    are no faster in it. Arrays must begin at a multiple of 16 bytes, as every allocation does.
    """

    op = "matmul"
    name = "wgmma"
    version = 2
    dialects = ("cuda",)

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        if target.arch != _ARCH:
            return f"{target} has no warpgroup products: their code is for {_ARCH} alone"
        if given.dtype not in INSTRUCTIONS:
            return f"tensor cores multiply {', '.join(INSTRUCTIONS)}, not {given.dtype}"
        known = target.limit("dtypes", ("float32",))
        for dtype in (given.dtype, given.epilogue_dtype):
            if dtype not in known:
                return f"{target} does not compute in {dtype}, only in {', '.join(known)}"
        return _rejected_form(given) or _rejected_sizes(Problem.of(workload))

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
        left, right = problem.sides(schedule["swap"])
        partial_bytes = Grid.of(problem, schedule).scratch_bytes(problem, schedule)
        parts = (
            dialect.prelude,
            _defines(problem, schedule, epilogue, dialect),
            _groups(problem, schedule, epilogue),
            problem.instruction.defines(schedule["tile_n"], left.along_k, right.along_k),
            store_code(workload, dialect),
            epilogue.text,
            _text("dialects/hopper.h"),
            *([_text("matmul/row_groups.h")] if problem.groups else []),
            *map(_text, _TEXTS),
        )
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(problem, schedule, epilogue),
            arrays=MATMUL.arrays(workload),
            scratch=(Scratch("partial", partial_bytes),) if partial_bytes else (),
            tensor_maps=tensor_maps(problem, schedule),
        )


WGMMA = Wgmma()


@cache
def _text(name: str) -> str:
    return resources.files("search_spaces").joinpath(name).read_text()


def _rejected_form(given: Parameters) -> str:
    if given.quantised:
        return f"it multiplies two matrices of one dtype; B is kept as {given.b_dtype}"
    return ""


def _rejected_sizes(problem: Problem) -> str:
    largest = max(problem.m, problem.n, problem.k, problem.batch)
    if largest > _MAX_EXTENT:
        return (
            f"an extent of {largest} exceeds 32-bit coordinates ({_MAX_EXTENT}); "
            "cut the product into smaller ones"
        )
    return next(filter(None, (_rejected_rows(problem, side) for side in problem.sides(False))), "")


def _rejected_rows(problem: Problem, operand: Operand) -> str:
    """TMA's rule for rows, and the tensor cores' for what has k as the slow axis."""
    name = operand.array.upper()
    if not operand.along_k and not problem.instruction.transposes:
        return (
            f"tensor cores read {problem.dtype} only with k as the fast axis, and {name} is "
            "stored with k as the slow one; use layout nt"
        )
    row = problem.k if operand.along_k else operand.extent
    row_bytes = row * problem.operand_bytes
    if row_bytes % _ALIGNMENT_BYTES:
        return (
            f"TMA loads rows that begin at multiples of {_ALIGNMENT_BYTES} bytes; those of {name} "
            f"are {row_bytes} bytes; pad them"
        )
    return ""


def _defines(problem: Problem, schedule: Schedule, epilogue: EpilogueCode, dialect: Dialect) -> str:
    left, right = problem.sides(schedule["swap"])
    consumers, resident = schedule["consumers"], schedule["resident"]
    plain = ("swap", "tile_m", "tile_n", "tile_k", "stages", "cluster_m", "cluster_n", "split_k")
    own = ("stream_k", "group", "consumers", "pingpong", "resident", "buffers")
    values = {
        "M": problem.m,
        "N": problem.n,
        "K": problem.k,
        "BATCH": problem.batch,
        "OPERAND_BYTES": problem.operand_bytes,
        "C_BYTES": problem.c_bytes,
        "SUM": problem.instruction.sum_scalar,
        "VALUE": dialect.scalar(epilogue.dtype),
        "LEFT_ALONG_K": int(left.along_k),
        "RIGHT_ALONG_K": int(right.along_k),
        "EPILOGUE_ARGUMENTS": "".join(f", {name}" for name in epilogue.arguments),
        **{name.upper(): int(schedule[name]) for name in (*plain, *own)},
        "RASTER": _RASTERS.index(schedule["raster"]),
        "CLUSTERS": Grid.of(problem, schedule).clusters,
        "LOADER_REGISTERS": LOADER_REGISTERS if consumer_registers(consumers, resident) else 0,
        "CONSUMER_REGISTERS": consumer_registers(consumers, resident),
        "STORE_TMA": int(schedule["store"] == "tma"),
        "CHUNK": problem.chunk(schedule["tile_n"]),
        "REDUCE_LANES": _reduce_lanes(problem),
        "REDUCE_THREADS": _REDUCE_THREADS,
    }
    return "".join(f"#define {name} {value}".rstrip() + "\n" for name, value in values.items())


def _groups(problem: Problem, schedule: Schedule, epilogue: EpilogueCode) -> str:
    """The table of groups of rows; and how an epilogue that asks for one finds it: by the unit."""
    side = "n" if schedule["swap"] else "m"
    rows = schedule[f"tile_{side}"] * schedule[f"cluster_{side}"]
    asked = problem.groups and "EPILOGUE_GROUP" in epilogue.text
    how = "#define EPILOGUE_GROUP(row) (unit.product)\n" if asked else ""
    return row_group_defines(problem.groups, rows) + how


def _reduce_lanes(problem: Problem) -> int:
    return 4 if problem.n % 4 == 0 else 1


def _launches(problem: Problem, schedule: Schedule, epilogue: EpilogueCode) -> tuple[Launch, ...]:
    grid = Grid.of(problem, schedule)
    finish = ("c", *epilogue.arguments)
    to = ("c_map", *epilogue.arguments) if schedule["store"] == "tma" else finish
    names = ("tile_m", "tile_n", "tile_k", "stages", "consumers", "buffers", "store")
    shares = ("partial",) if grid.stream_tiles else ()
    main = Launch(
        "matmul",
        (grid.blocks, 1, 1),
        (threads(schedule["consumers"]), 1, 1),
        ("left_map", "right_map", *(("partial",) if grid.parts > 1 else (*to, *shares))),
        problem.shared_bytes(*(schedule[name] for name in names)),
    )
    blocks = _reduce_blocks(problem, schedule, grid)
    reduce = Launch("reduce", (blocks, 1, 1), (_REDUCE_THREADS, 1, 1), ("partial", *finish))
    return (main, reduce) if blocks else (main,)


def _reduce_blocks(problem: Problem, schedule: Schedule, grid: Grid) -> int:
    """Blocks that add partial sums: of elements of C, or of 64 rows by 8 columns of tiles."""
    if grid.stream_tiles:
        tile = schedule["tile_m"] // 64 * schedule["tile_n"] // 8
        return int(grid.stream_tiles * grid.cluster * tile)
    elements = problem.batch * problem.m * problem.n
    each = _REDUCE_THREADS * _reduce_lanes(problem)
    return ceil_divide(elements, each) if grid.parts > 1 else 0
