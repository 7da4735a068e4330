"""What a schedule of the CPU template asks of a core: formulas beside their meaning."""

from __future__ import annotations

import math

from records.schedule import Schedule
from records.target import Target
from search_spaces.kernel import KernelStats
from search_spaces.matmul.cpu_blocks import Blocks, Problem, busy_share
from search_spaces.rounding import ceil_divide

LINE_BYTES = 64
SET_PERIOD_BYTES = 4096  # addresses so far apart share a set of the first-level cache


def statistics(
    problem: Problem, schedule: Schedule, target: Target, work: float, traffic_bytes: float
) -> KernelStats:
    """`work` and `traffic_bytes`: the op's own floors.

    `flops` counts whole vectors at the right edge; tiles at the lower edge compute no rows that
    are not there. `l2_bytes` is what the cores take from the shared cache or from memory: each
    block reads its rows of A and columns of B once, sums are read and written once a block of k.
    The working set is what must stay in a core's second-level cache: panels, a tile's rows of A.
    """
    blocks = Blocks.of(problem, schedule)
    tile_m, vectors, lanes = (schedule[name] for name in ("tile_m", "tile_vectors", "lanes"))
    columns = ceil_divide(problem.n, lanes) * lanes
    scratch_bytes = problem.partial_bytes(schedule["k_blocks"])
    panels_bytes = _panels_bytes(problem, schedule)
    groups = blocks.count * problem.batch
    return KernelStats(
        groups=groups,
        threads=1,
        shared_bytes=0 if schedule["panels_on_stack"] else panels_bytes,
        registers=(tile_m * vectors + vectors + 1) * lanes * problem.sum_bytes // 4,
        flops=2.0 * problem.batch * problem.m * columns * problem.k,
        useful_flops=work,
        dram_bytes=float(traffic_bytes + 2 * scratch_bytes),
        l2_bytes=_cache_traffic_bytes(problem, schedule, blocks),
        working_set_bytes=float(_set_bytes(problem, blocks, schedule) + panels_bytes),
        vector_lanes=lanes,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, schedule, blocks, target),
    )


def _panels_bytes(problem: Problem, schedule: Schedule) -> int:
    if not schedule["pack_b"]:
        return 0
    names = ("lanes", "tile_vectors", "column_tiles", "k_blocks")
    return problem.panels_bytes(*(schedule[name] for name in names))


def _set_bytes(problem: Problem, blocks: Blocks, schedule: Schedule) -> int:
    """A tile's rows of A and, where no panels hold them, the columns of B, one block of k."""
    rows = problem.a_panel_bytes(schedule["tile_m"], schedule["k_blocks"])
    columns = min(blocks.block_n, problem.n) * blocks.block_k * problem.stored_bytes
    return rows if schedule["pack_b"] else rows + columns


def _cache_traffic_bytes(problem: Problem, schedule: Schedule, blocks: Blocks) -> float:
    a_bytes = problem.m * problem.k * problem.stored_bytes * blocks.columns
    b_bytes = problem.k * problem.n * problem.stored_bytes * blocks.rows
    visits = 2 * (schedule["k_blocks"] - 1)  # besides the one that writes C
    sums_bytes = problem.sum_bytes if visits else 0
    c_bytes = problem.m * problem.n * (problem.stored_bytes + visits * sums_bytes)
    return float(problem.batch * (a_bytes + b_bytes + c_bytes))


def _extra(
    problem: Problem, schedule: Schedule, blocks: Blocks, target: Target
) -> tuple[tuple[str, float], ...]:
    tile_m, vectors, lanes = (schedule[name] for name in ("tile_m", "tile_vectors", "lanes"))
    tile_n = lanes * vectors
    units = target.limit("units", 1)
    return (
        # share of the cores' time that is work
        ("busy_share", busy_share(problem, schedule["row_blocks"], blocks.block_n, units)),
        # vectors and elements loaded for a vector multiplication
        ("loads_per_fma", (tile_m + vectors) / (tile_m * vectors)),
        # elements copied for a multiplication of one
        ("copies_per_fma", _copies_per_fma(problem, schedule, blocks)),
        # share of the rows, and of the columns, that small tiles at the edges compute
        ("tail_rows", problem.m % tile_m / problem.m),
        ("tail_columns", problem.n % tile_n / problem.n),
        # what the innermost loops read again and again, for the first-level cache
        ("panel_bytes", float(tile_n * blocks.block_k * problem.sum_bytes)),
        ("rows_bytes", float(problem.a_panel_bytes(tile_m, schedule["k_blocks"]))),
        ("rows_in_a_set", float(_rows_in_a_set(problem, schedule))),
        ("k_visits", float(schedule["k_blocks"])),
        ("block_m", float(min(blocks.block_m, problem.m))),
        ("block_n", float(min(blocks.block_n, problem.n))),
        ("block_k", float(blocks.block_k)),
    )


def _copies_per_fma(problem: Problem, schedule: Schedule, blocks: Blocks) -> float:
    b_copies = 1 / min(blocks.block_m, problem.m) if schedule["pack_b"] else 0.0
    a_copies = 1 / min(blocks.block_n, problem.n) if schedule["pack_a"] else 0.0
    return a_copies + b_copies


def _rows_in_a_set(problem: Problem, schedule: Schedule) -> int:
    """Rows of a tile of A that compete for a set of the first-level cache; 1 where none do.

    Rows a multiple of a page apart all do; a packed panel leaves space between its rows.
    """
    if schedule["pack_a"] or not problem.a_along_k:
        return 1
    pitch_bytes = problem.k * problem.stored_bytes
    sets = SET_PERIOD_BYTES // max(LINE_BYTES, math.gcd(pitch_bytes, SET_PERIOD_BYTES))
    return ceil_divide(schedule["tile_m"], sets)
