"""Statistics of the wgmma attention's schedules, each number with its formula."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np

from records.schedule import Schedule
from records.target import Target
from search_spaces.attention.combine import COMBINE_THREADS, partial_bytes
from search_spaces.attention.parameters import Parameters, Sequence, visible_bounds
from search_spaces.attention.wgmma_resources import (
    ELEMENT_BYTES,
    ROWS,
    SLICE,
    Grid,
    Problem,
    shared_bytes,
)
from search_spaces.kernel import KernelStats
from search_spaces.rounding import ceil_divide
from search_spaces.warpgroup import launch_registers, threads


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    Partial results are written once and read once. `vector_lanes`: elements of 16 bytes, the unit
    in which TMA moves them. A block reuses its tile of Q and its sums.
    """
    grid = Grid.of(problem, schedule)
    scratch_bytes = partial_bytes(problem.given, schedule["splits"])
    steps = _steps(problem, schedule)
    return KernelStats(
        groups=grid.blocks,
        threads=threads(schedule["consumers"]),
        shared_bytes=shared_bytes(problem, schedule),
        registers=launch_registers(schedule["consumers"], schedule["resident"]),
        flops=max(useful_flops, steps * _step_flops(problem, schedule)) + scratch_bytes // 4,
        useful_flops=useful_flops,
        dram_bytes=float(_dram_bytes(problem, schedule, target, arrays_bytes) + 2 * scratch_bytes),
        l2_bytes=_l2_bytes(problem, schedule, grid, steps) + 2 * scratch_bytes,
        working_set_bytes=float(shared_bytes(problem, schedule)),
        vector_lanes=16 // ELEMENT_BYTES,
        launches=2 if scratch_bytes else 1,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, schedule, target, grid, steps),
    )


def _tile_rows(problem: Problem, schedule: Schedule) -> int:
    return ROWS * int(schedule["consumers"])


def _steps(problem: Problem, schedule: Schedule) -> float:
    """Tiles of keys that all tiles of queries together walk through, as clusters do."""
    packed = problem.packed_heads(schedule["pack_heads"])
    heads = problem.given.heads // packed
    cluster = schedule["cluster"]
    rows = cluster * _tile_rows(problem, schedule)
    steps = _steps_of_head(problem.given, rows, schedule["tile_n"], packed)
    return float(heads * cluster * steps)


@lru_cache(maxsize=4096)
def _steps_of_head(given: Parameters, tile_m: int, tile_n: int, packed: int) -> int:
    return sum(
        count * _steps_of_sequence(given, sequence, tile_m, tile_n, packed)
        for sequence, count in Counter(given.sequences).items()
    )


def _steps_of_sequence(
    given: Parameters, sequence: Sequence, tile_m: int, tile_n: int, packed: int
) -> int:
    if not sequence.q_len:
        return 0
    first, end = visible_bounds(given, sequence, slice(0, sequence.q_len))
    rows = np.arange(0, sequence.q_len * packed, tile_m)
    begins = first[rows // packed] // tile_n
    last = np.minimum((rows + tile_m - 1) // packed, sequence.q_len - 1)
    return int(np.maximum(0, -(-end[last] // tile_n) - begins).sum())


def _step_flops(problem: Problem, schedule: Schedule) -> float:
    """Two a product, whole tiles, rows of Q and K padded to whole slices."""
    columns = problem.query_slices * SLICE + problem.given.v_dim
    return 2.0 * _tile_rows(problem, schedule) * int(schedule["tile_n"]) * columns


def _row_bytes(problem: Problem) -> int:
    return (problem.given.head_dim + problem.given.v_dim) * ELEMENT_BYTES


def _l2_bytes(problem: Problem, schedule: Schedule, grid: Grid, steps: float) -> float:
    """A block's share of a tile of K and V a step; Q and the output once for each part of keys."""
    row_bytes = _row_bytes(problem)
    rows = problem.given.total_q * problem.given.heads
    read = steps / grid.cluster * int(schedule["tile_n"])
    return float((read + rows * grid.splits) * row_bytes)


def _dram_bytes(problem: Problem, schedule: Schedule, target: Target, arrays_bytes: int) -> float:
    """Every array once where K and V of the heads in turn fit the last cache; else as many times
    more for K and V as they exceed it, at most once for each tile of queries."""
    given = problem.given
    lines = schedule["together"] * problem.packed_heads(schedule["pack_heads"])
    kv_heads = ceil_divide(lines, given.queries_per_kv_head)
    in_turn = kv_heads * given.kv_len * _row_bytes(problem)
    excess = in_turn / max(1, target.limit("cache_bytes", 50 << 20)) - 1
    tiles = problem.row_tiles(schedule["consumers"], schedule["pack_heads"])
    again = min(max(0.0, excess), 1.0) * (tiles - 1)
    keys = sum(sequence.kv_len for sequence in given.sequences)
    return float(arrays_bytes + again * keys * given.kv_heads * _row_bytes(problem))


def _extra(
    problem: Problem, schedule: Schedule, target: Target, grid: Grid, steps: float
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `rounds`: units of work of the busiest block. `balance`: the mean of all over that. `filled`:
    the share of the GPU's units with a block. `steps_per_unit`: tiles of keys a unit walks.
    `flight_bytes`: loads that a block may have on the way. `registers`: of a thread that
    multiplies. `exponentials_per_flop`: of the special units, over products. `rows`: of a tile.
    """
    at_once = min(grid.clusters, target.limit("units", 132) * schedule["resident"] // grid.cluster)
    rounds = ceil_divide(grid.units, at_once)
    tile_n, tile_m = schedule["tile_n"], _tile_rows(problem, schedule)
    by_special_units = 1 - schedule["polynomials"] / 16
    needed = problem.registers(tile_n, schedule["overlap"], schedule["query"])
    return (
        ("rounds", float(rounds)),
        ("balance", grid.units / (rounds * at_once)),
        ("filled", min(1.0, grid.blocks / target.limit("units", 132))),
        ("steps_per_unit", steps / (grid.units * grid.cluster)),
        ("flight_bytes", float(problem.stage_bytes(tile_n) * schedule["stages"])),
        ("registers", float(needed)),
        (
            "exponentials_per_flop",
            by_special_units * tile_m * tile_n / _step_flops(problem, schedule),
        ),
        ("rows", float(tile_m)),
        ("combine_threads", float(COMBINE_THREADS if schedule["splits"] > 1 else 0)),
    )
