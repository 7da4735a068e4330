"""Statistics of the portable template's schedules, each number with its formula."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from search_spaces.kernel import KernelStats
from search_spaces.matmul.portable_resources import (
    Problem,
    bank_conflicts,
    threads,
)
from search_spaces.matmul.tiling import Grid
from search_spaces.rounding import ceil_divide


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    Partial sums are written once and read once. A group reuses its local memory and its tile of
    C; `vector_lanes` is the narrower of both operands' global reads.
    """
    grid = Grid.of(problem, schedule)
    tile = schedule["block_m"], schedule["block_n"], schedule["block_k"]
    owned = schedule["thread_m"], schedule["thread_n"]
    groups = grid.tiles * grid.parts * problem.batch
    shared_bytes = problem.shared_bytes(*tile, schedule["stages"], schedule["pad"])
    scratch_bytes = problem.partial_sums_bytes(grid.parts)
    return KernelStats(
        groups=groups,
        threads=threads(*tile[:2], *owned),
        shared_bytes=shared_bytes,
        registers=problem.registers(
            *tile, *owned, schedule["vector_a"], schedule["vector_b"], schedule["prefetch"]
        ),
        flops=_flops(problem, grid, tile),
        useful_flops=useful_flops,
        dram_bytes=_dram_bytes(problem, grid, schedule, target, arrays_bytes) + 2 * scratch_bytes,
        l2_bytes=_l2_bytes(problem, grid, tile) + 2 * scratch_bytes,
        working_set_bytes=shared_bytes + tile[0] * tile[1] * 4 * problem.sum_words,
        vector_lanes=min(schedule["vector_a"], schedule["vector_b"]),
        launches=1 if grid.parts == 1 else 2,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, grid, schedule, groups / max(1, target.limit("units", 1))),
    )


def _flops(problem: Problem, grid: Grid, tile: tuple[int, int, int]) -> float:
    """Two a product in every tile, whole even at the edges; and the additions of the parts."""
    products = problem.batch * grid.tiles * grid.steps * tile[0] * tile[1] * tile[2]
    additions = problem.batch * problem.m * problem.n * (grid.parts if grid.parts > 1 else 0)
    return 2.0 * products + additions


def _l2_bytes(problem: Problem, grid: Grid, tile: tuple[int, int, int]) -> float:
    """Each group reads one tile of A and of B a step of k; C is written once."""
    read = grid.tiles * grid.steps * (tile[0] + tile[1]) * tile[2]
    return float(problem.batch * (read + problem.m * problem.n) * problem.stored_bytes)


def _dram_bytes(
    problem: Problem, grid: Grid, schedule: Schedule, target: Target, arrays_bytes: int
) -> float:
    """Every array once where A and B fit the last cache together; else B once for each band.

    A band is the rows of tiles whose groups run at the same time: `raster` of them, or as many as
    the units reach, one group each. Its rows of A stay in cache while B streams past.
    """
    b_bytes = problem.k * problem.n * problem.stored_bytes
    a_bytes = problem.m * problem.k * problem.stored_bytes
    if a_bytes + b_bytes <= target.limit("cache_bytes", 0):
        return float(arrays_bytes)
    reach = ceil_divide(target.limit("units", 1), grid.columns)
    bands = ceil_divide(grid.rows, max(schedule["raster"], reach))
    return float(arrays_bytes + problem.batch * (bands - 1) * b_bytes)


def _extra(
    problem: Problem, grid: Grid, schedule: Schedule, waves: float
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `conflicts`: the worse of both tiles' bank conflicts when stashed, 1 where none is transposed.
    `flops_per_local_byte`: of the inner loop, 2 products over the row and column read for them.
    `steps_per_part`: tiles of k that a group walks. `waves`: groups for each unit.
    """
    products = 2.0 * schedule["thread_m"] * schedule["thread_n"]
    read_bytes = (schedule["thread_m"] + schedule["thread_n"]) * problem.stored_bytes
    return (
        ("conflicts", float(_conflicts(problem, schedule))),
        ("flops_per_local_byte", products / read_bytes),
        ("steps_per_part", float(ceil_divide(grid.steps, grid.parts))),
        ("waves", waves),
    )


def _conflicts(problem: Problem, schedule: Schedule) -> int:
    block_k, pad, size = schedule["block_k"], schedule["pad"], problem.stored_bytes
    transposed = [
        (schedule["block_m"] + pad, schedule["vector_a"], problem.a_along_k),
        (schedule["block_n"] + pad, schedule["vector_b"], problem.b_along_k),
    ]
    return max(
        (
            bank_conflicts(pitch, lanes, block_k, size)
            for pitch, lanes, along in transposed
            if along
        ),
        default=1,
    )
