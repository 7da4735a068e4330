"""Statistics of the mma_sync template's schedules, each number with its formula."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from search_spaces.kernel import KernelStats
from search_spaces.matmul.mma_sync_resources import WARP, Problem, warps
from search_spaces.matmul.mma_sync_resources import grid as grid_of
from search_spaces.matmul.tiling import Grid
from search_spaces.rounding import ceil_divide

_MAX_RESIDENT_WARPS = 64  # of a unit, sm_80 and sm_90; 48 of sm_86 and sm_89
_RESERVED_SHARED_BYTES = 1 << 10  # of each block, by CUDA itself


def threads(schedule: Schedule) -> int:
    """Of a block."""
    names = ("block_m", "block_n", "warp_m", "warp_n")
    return WARP * warps(*(schedule[name] for name in names))


def shared_bytes(problem: Problem, schedule: Schedule) -> int:
    names = ("block_m", "block_n", "block_k", "warp_m", "warp_n", "stages", "staged_store")
    return problem.shared_bytes(*(schedule[name] for name in names))


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    Partial sums are written once and read once. `vector_lanes`: elements in the narrower of both
    operands' copies.
    """
    grid = grid_of(problem, schedule)
    scratch_bytes = problem.partial_sums_bytes(grid.parts)
    groups = grid.tiles * grid.parts * problem.batch
    registers = problem.registers(*(schedule[name] for name in ("warp_m", "warp_n", "fragments")))
    kept_bytes = shared_bytes(problem, schedule)
    return KernelStats(
        groups=groups,
        threads=threads(schedule),
        shared_bytes=kept_bytes,
        registers=registers,
        flops=_flops(problem, grid, schedule),
        useful_flops=useful_flops,
        dram_bytes=_dram_bytes(problem, grid, schedule, target, arrays_bytes) + 2 * scratch_bytes,
        l2_bytes=_l2_bytes(problem, grid, schedule) + 2 * scratch_bytes,
        working_set_bytes=kept_bytes + schedule["block_m"] * schedule["block_n"] * 4,
        vector_lanes=_vector_lanes(problem),
        launches=1 if grid.parts == 1 else 2,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, grid, schedule, target, groups, registers),
    )


def _vector_lanes(problem: Problem) -> int:
    b_lanes = problem.b_copy_bytes * 8 // problem.b_bits
    return max(1, min(problem.a_copy_bytes // problem.element_bytes, b_lanes))


def _flops(problem: Problem, grid: Grid, schedule: Schedule) -> float:
    """Two a product in every tile, whole even at the edges; and the additions of the parts."""
    tile = schedule["block_m"] * schedule["block_n"] * schedule["block_k"]
    additions = problem.m * problem.n * (grid.parts if grid.parts > 1 else 0)
    return float(problem.batch * (2 * grid.tiles * grid.steps * tile + additions))


def _l2_bytes(problem: Problem, grid: Grid, schedule: Schedule) -> float:
    """Each block reads one tile of A and of B a step of k; C is written once."""
    tile = problem.tile_bytes(schedule["block_m"], schedule["block_n"], schedule["block_k"])
    c_bytes = problem.m * problem.n * problem.c_bytes
    return float(problem.batch * (grid.tiles * grid.steps * tile + c_bytes))


def _dram_bytes(
    problem: Problem, grid: Grid, schedule: Schedule, target: Target, arrays_bytes: int
) -> float:
    """Every array once where A and its B fit the last cache together; else B once for each band.

    A band is the rows of tiles whose blocks run at the same time: `raster` of them, or as many as
    the units reach, one block each. Its rows of A stay in cache while B streams past.
    """
    b_bytes = problem.k * problem.n * problem.b_bits // 8
    a_bytes = problem.largest * problem.k * problem.element_bytes
    if a_bytes + b_bytes <= target.limit("cache_bytes", 0):
        return float(arrays_bytes)
    reach = ceil_divide(target.limit("units", 1), grid.columns)
    band = schedule["block_m"] * max(schedule["raster"], reach)
    again = sum(ceil_divide(rows, band) - 1 for rows in problem.row_parts if rows)
    return float(arrays_bytes + problem.batch * again * b_bytes)


def _resident(problem: Problem, schedule: Schedule, target: Target, registers: int) -> int:
    """Blocks that a unit holds at a time: as shared memory, registers and warps allow."""
    own_shared = shared_bytes(problem, schedule) + _RESERVED_SHARED_BYTES
    limits: tuple[int, ...] = (
        (target.limit("shared_bytes", 48 << 10) + _RESERVED_SHARED_BYTES) // own_shared,
        target.limit("registers", 65536) // (registers * threads(schedule)),
        _MAX_RESIDENT_WARPS // (threads(schedule) // WARP),
    )
    return max(1, min(limits))


def _extra(
    problem: Problem,
    grid: Grid,
    schedule: Schedule,
    target: Target,
    groups: int,
    registers: int,
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `flops_per_fragment_byte`: products of a warp over what it reads from shared memory for them;
    an H200 multiplies about 8 times as many float16 as it loads this way. `flight_bytes`: copies
    under way on a unit, which must cover bandwidth times latency (Little's law): about 30 KiB from
    DRAM. `copy_bytes`: of the narrower operand's copies, 0 if elements pass through registers.
    `resident_warps`: of a unit. `tail`: share of the last wave of blocks that has work.
    """
    warp_m, warp_n = schedule["warp_m"], schedule["warp_n"]
    tile_bytes = problem.tile_bytes(schedule["block_m"], schedule["block_n"], schedule["block_k"])
    resident = _resident(problem, schedule, target, registers)
    waves = groups / (max(1, target.limit("units", 1)) * resident)
    operands_bytes = warp_m * problem.element_bytes + warp_n * problem.b_bits / 8
    return (
        ("flops_per_fragment_byte", 2.0 * warp_m * warp_n / operands_bytes),
        ("flight_bytes", float(resident * (schedule["stages"] - 1) * tile_bytes)),
        ("copy_bytes", float(min(problem.a_copy_bytes, problem.b_copy_bytes))),
        ("resident_warps", float(resident * threads(schedule) // WARP)),
        ("steps_per_part", float(ceil_divide(grid.steps, grid.parts))),
        ("waves", waves),
        ("tail", waves / ceil_divide(groups, max(1, target.limit("units", 1)) * resident)),
    )
