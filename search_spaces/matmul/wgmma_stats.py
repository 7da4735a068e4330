"""Statistics of the wgmma template's schedules, each number with its formula."""

from __future__ import annotations

import math

from records.schedule import Schedule
from records.target import Target
from search_spaces.kernel import KernelStats
from search_spaces.matmul.wgmma_resources import Grid, Problem, sharers, sums_registers
from search_spaces.rounding import ceil_divide
from search_spaces.warpgroup import launch_registers, threads


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    Partial sums are written once and read once. `vector_lanes`: elements of 16 bytes, the unit in
    which TMA moves them. A block reuses its stages and the sums in its registers.
    """
    grid = Grid.of(problem, schedule)
    scratch_bytes = grid.scratch_bytes(problem, schedule)
    shared_bytes = _shared_bytes(problem, schedule)
    sums_bytes = 4 * schedule["tile_m"] * schedule["tile_n"]
    return KernelStats(
        groups=grid.blocks,
        threads=threads(schedule["consumers"]),
        shared_bytes=shared_bytes,
        registers=launch_registers(schedule["consumers"], schedule["resident"]),
        flops=_flops(problem, grid, schedule),
        useful_flops=useful_flops,
        dram_bytes=_dram_bytes(problem, grid, schedule, target, arrays_bytes) + 2 * scratch_bytes,
        l2_bytes=_l2_bytes(problem, grid, schedule) + 2 * scratch_bytes,
        working_set_bytes=shared_bytes + sums_bytes * (1 + schedule["pingpong"]),
        vector_lanes=16 // problem.operand_bytes,
        launches=2 if scratch_bytes else 1,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, grid, schedule, target),
    )


def _shared_bytes(problem: Problem, schedule: Schedule) -> int:
    names = ("tile_m", "tile_n", "tile_k", "stages", "consumers", "buffers", "store")
    return problem.shared_bytes(*(schedule[name] for name in names))


def _tiles(problem: Problem, grid: Grid) -> int:
    return problem.batch * grid.cluster_rows * grid.cluster_columns * grid.cluster


def _flops(problem: Problem, grid: Grid, schedule: Schedule) -> float:
    """Two a product in every tile, whole even at the edges; and the additions of the parts."""
    products = _tiles(problem, grid) * grid.steps * schedule["tile_k"]
    additions = grid.scratch_bytes(problem, schedule) // 4
    return float(2 * products * schedule["tile_m"] * schedule["tile_n"] + additions)


def _l2_bytes(problem: Problem, grid: Grid, schedule: Schedule) -> float:
    """Each block reads its share of a tile of both operands a step of k; C is written once."""
    shares = schedule["tile_m"] / schedule["cluster_n"] + schedule["tile_n"] / schedule["cluster_m"]
    read = _tiles(problem, grid) * grid.steps * schedule["tile_k"] * shares * problem.operand_bytes
    return float(read + problem.batch * problem.m * problem.n * problem.c_bytes)


def _dram_bytes(
    problem: Problem, grid: Grid, schedule: Schedule, target: Target, arrays_bytes: int
) -> float:
    """Every array once where one A and B fit the last cache together; else, for each round of
    clusters at work together, the rows and columns that their tiles span."""
    along_k = problem.k * problem.operand_bytes
    if (problem.m + problem.n) * along_k <= target.limit("cache_bytes", 0):
        return float(arrays_bytes)
    at_once = min(grid.clusters, target.limit("units", 132) * 2 // grid.cluster)
    rounds = grid.units / grid.parts / at_once
    height, width = _span(grid, schedule, at_once)
    spanned = height * schedule["cluster_m"] * schedule["tile_m"]
    spanned += width * schedule["cluster_n"] * schedule["tile_n"]
    c_bytes = problem.batch * problem.m * problem.n * problem.c_bytes
    return float(max(arrays_bytes, rounds * spanned * along_k + c_bytes))


def _span(grid: Grid, schedule: Schedule, at_once: int) -> tuple[float, float]:
    """Rows and columns of clusters that `at_once` consecutive ones cover."""
    rows, columns, group = grid.cluster_rows, grid.cluster_columns, schedule["group"]
    if schedule["raster"] == "columns":
        width = min(columns, max(group, ceil_divide(at_once, rows)))
        return min(float(rows), max(1.0, at_once / width)), float(width)
    if schedule["raster"] == "hilbert":
        group = min(group, math.isqrt(at_once))
    height = min(rows, max(group, ceil_divide(at_once, columns)))
    return float(height), min(float(columns), max(1.0, at_once / height))


def _extra(
    problem: Problem, grid: Grid, schedule: Schedule, target: Target
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `rounds`: units of work of the busiest cluster. `balance`: the mean of all over that, 1 where
    no cluster waits for others at the end. `filled`: the share of the GPU's units with a block.
    `flight_bytes`: loads that a block may have on the way. `flops_per_shared_byte`: of the
    products, whose operands the tensor cores read from shared memory, the left one once a
    consumer. `multicast`: bytes that arrive in blocks over bytes read from L2. `sums`: registers
    of a thread. `steps_per_unit`: stages that a unit of work takes. `store_bytes`: of C that a
    round writes, which only ping-pong and small tiles hide.
    """
    tile_m, tile_n, tile_k = (schedule[name] for name in ("tile_m", "tile_n", "tile_k"))
    shared_by = sharers(schedule["consumers"], schedule["pingpong"])
    stage_bytes = problem.stage_bytes(tile_m, tile_n, tile_k)
    operand_reads = (tile_m + tile_m // 64 * tile_n) * problem.operand_bytes
    read = tile_m / schedule["cluster_n"] + tile_n / schedule["cluster_m"]
    return (
        ("rounds", grid.rounds),
        ("balance", grid.units / (grid.rounds * grid.clusters)),
        ("filled", min(1.0, grid.blocks / target.limit("units", 132))),
        ("flight_bytes", float(stage_bytes * schedule["stages"])),
        ("flops_per_shared_byte", 2.0 * tile_m * tile_n / operand_reads),
        ("multicast", (tile_m + tile_n) / read),
        ("sums", float(sums_registers(tile_m, tile_n, shared_by))),
        ("steps_per_unit", float(ceil_divide(grid.steps, grid.parts))),
        ("store_bytes", float(tile_m * tile_n * problem.c_bytes)),
    )
