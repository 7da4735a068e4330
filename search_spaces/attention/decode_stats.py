"""Statistics of the decode template's schedules, each number with its formula."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from search_spaces.attention.combine import partial_bytes
from search_spaces.attention.decode_resources import Problem
from search_spaces.attention.decode_space import REGISTER_KNOBS
from search_spaces.attention.warp_operands import (
    MAX_RESIDENT_WARPS,
    RESERVED_SHARED_BYTES,
    STATIC_SHARED_BYTES,
    WARP,
)
from search_spaces.kernel import KernelStats
from search_spaces.rounding import ceil_divide

_ROW_KNOBS = ("use_mma", "warp_rows", "warps_rows")


def groups(problem: Problem, schedule: Schedule) -> tuple[int, int, int]:
    """Blocks of a launch: cuts of all heads of K and blocks of rows, of each sequence."""
    row_blocks = problem.row_blocks(schedule["warp_rows"], schedule["warps_rows"])
    given = problem.given
    return cuts(schedule) * given.kv_heads * row_blocks, given.batch, 1


def cuts(schedule: Schedule) -> int:
    """Of a sequence, a block each."""
    return int(schedule["splits"] * schedule["cluster"])


def warps(schedule: Schedule) -> int:
    """Of a block."""
    return int(schedule["warps_rows"] * schedule["warps_keys"])


def shared_bytes(problem: Problem, schedule: Schedule) -> int:
    names = ("warp_rows", "warps_rows", "warps_keys", "tile_keys", "stages", "q_registers")
    return problem.shared_bytes(*(schedule[name] for name in names))


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    K and V cross DRAM once: blocks of other rows find them in the last cache. What parts give is
    written and read once.
    """
    given = problem.given
    blocks, sequences, _ = groups(problem, schedule)
    scratch_bytes = partial_bytes(given, schedule["splits"])
    registers = problem.registers(*(schedule[name] for name in REGISTER_KNOBS))
    keys = problem.walked_keys(schedule["warps_keys"] * schedule["tile_keys"])
    row_blocks = problem.row_blocks(schedule["warp_rows"], schedule["warps_rows"])
    kv_bytes = keys * given.kv_heads * (given.head_dim + given.v_dim) * problem.kv_bytes
    return KernelStats(
        groups=blocks * sequences,
        threads=WARP * warps(schedule),
        shared_bytes=shared_bytes(problem, schedule),
        registers=registers,
        flops=_flops(problem, schedule, keys),
        useful_flops=useful_flops,
        dram_bytes=float(arrays_bytes + 2 * scratch_bytes),
        l2_bytes=float(row_blocks * kv_bytes + 2 * scratch_bytes),
        working_set_bytes=float(problem.kv_tile_bytes(schedule["tile_keys"])),
        vector_lanes=problem.k_copy_bytes // problem.kv_bytes,
        launches=1 if schedule["splits"] == 1 else 2,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, schedule, target, registers),
    )


def _flops(problem: Problem, schedule: Schedule, keys: int) -> float:
    """Two a product, with the padding of rows, keys and head dimensions; the sums of parts."""
    given = problem.given
    rows = problem.rows_multiplied(*(schedule[name] for name in _ROW_KNOBS))
    products = given.kv_heads * rows * keys * (problem.qk_width + problem.v_width)
    splits = schedule["splits"]
    additions = given.heads * given.total_q * given.v_dim * (splits if splits > 1 else 0)
    return float(2 * (products + additions))


def _extra(
    problem: Problem, schedule: Schedule, target: Target, registers: int
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `warp_flight_bytes`, `flight_bytes`: of K and V under way, of a warp and of a unit.
    `resident_warps`: of a unit. `waves`: rounds of blocks on the whole device; `tail`: share of
    the rounds that has work. `rounds`: tiles that a warp walks, of the longest sequence.
    `row_share`: of the rows multiplied, those that exist. `part_share`: bytes of results of parts
    over those of K and V.
    """
    given = problem.given
    block_warps = warps(schedule)
    ring_warps = schedule["warps_keys"]
    ring_flight = problem.kv_tile_bytes(schedule["tile_keys"]) * (schedule["stages"] - 1)
    resident = max(
        1,
        min(
            target.limit("shared_bytes", STATIC_SHARED_BYTES)
            // (shared_bytes(problem, schedule) + RESERVED_SHARED_BYTES),
            target.limit("registers", 65536) // (registers * WARP * block_warps),
            MAX_RESIDENT_WARPS // block_warps,
        ),
    )
    blocks, sequences, _ = groups(problem, schedule)
    capacity = max(1, target.limit("units", 1)) * resident
    waves = blocks * sequences / capacity
    tiles = problem.most_tiles(ring_warps, schedule["tile_keys"])
    padded = problem.rows_multiplied(*(schedule[name] for name in _ROW_KNOBS))
    key_bytes = (given.head_dim + given.v_dim) * problem.kv_bytes
    part_keys = max(1, problem.seen_keys // schedule["splits"])
    part_bytes = 8 * problem.rows * given.v_dim if schedule["splits"] > 1 else 0
    return (
        ("warp_flight_bytes", float(ring_flight)),
        ("flight_bytes", float(min(resident, max(1.0, waves)) * ring_warps * ring_flight)),
        ("resident_warps", float(resident * block_warps)),
        ("waves", waves),
        ("tail", waves / ceil_divide(blocks * sequences, capacity)),
        ("rounds", float(ceil_divide(tiles, cuts(schedule)))),
        ("row_share", problem.rows / padded),
        ("part_share", part_bytes / (part_keys * key_bytes)),
    )
