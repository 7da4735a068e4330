"""Statistics of the mma_sync template's schedules, each number with its formula."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from search_spaces.attention.combine import partial_bytes
from search_spaces.attention.mma_sync_resources import Problem, registers, shared_bytes, tiles
from search_spaces.attention.warp_operands import (
    MAX_REGISTERS,
    MAX_RESIDENT_WARPS,
    RESERVED_SHARED_BYTES,
    STATIC_SHARED_BYTES,
    WARP,
)
from search_spaces.kernel import KernelStats
from search_spaces.rounding import ceil_divide

_SPARE_REGISTERS = 28  # of a thread, beside those needed: the mean over NVRTC 13's kernels


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    What parts of the keys give is written once and read once. K and V cross DRAM once: blocks of
    other rows find them in the last cache, or do so together.
    """
    given = problem.given
    blocks = tiles(problem, schedule) * schedule["splits"]
    scratch_bytes = partial_bytes(given, schedule["splits"])
    kept_bytes = shared_bytes(problem, schedule)
    key_tiles = _key_tiles(problem, schedule)
    return KernelStats(
        groups=blocks,
        threads=WARP * schedule["warps"],
        shared_bytes=kept_bytes,
        registers=registers(problem, schedule),
        flops=_flops(problem, schedule, key_tiles),
        useful_flops=useful_flops,
        dram_bytes=float(arrays_bytes + 2 * scratch_bytes),
        l2_bytes=_l2_bytes(problem, schedule, key_tiles) + 2 * scratch_bytes,
        working_set_bytes=float(kept_bytes),
        vector_lanes=max(1, problem.k_copy_bytes // problem.kv_bytes),
        launches=1 if schedule["splits"] == 1 else 2,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, schedule, target, key_tiles),
    )


def _block_rows(schedule: Schedule) -> int:
    return int(schedule["warps"] * schedule["warp_rows"])


def _key_tiles(problem: Problem, schedule: Schedule) -> int:
    """That all blocks walk together."""
    row_heads = problem.row_heads(schedule["pack_heads"])
    each = problem.key_tiles(_block_rows(schedule), schedule["tile_keys"], row_heads)
    return each * problem.given.heads // row_heads


def _flops(problem: Problem, schedule: Schedule, key_tiles: int) -> float:
    """Two a product in every tile, whole even at borders; and the additions of the parts."""
    given, splits = problem.given, schedule["splits"]
    tile = _block_rows(schedule) * schedule["tile_keys"] * (problem.qk_width + problem.v_width)
    additions = given.heads * given.total_q * given.v_dim * (splits if splits > 1 else 0)
    return float(2 * (key_tiles * tile + additions))


def _l2_bytes(problem: Problem, schedule: Schedule, key_tiles: int) -> float:
    """Tiles of K and V, of every block; Q and the output once."""
    given = problem.given
    rows_bytes = given.heads * given.total_q * (given.head_dim + given.v_dim)
    return float(
        key_tiles * problem.kv_tile_bytes(schedule["tile_keys"])
        + rows_bytes * problem.element_bytes
    )


def _resident(problem: Problem, schedule: Schedule, target: Target) -> int:
    """Blocks that a unit holds at a time: as shared memory, registers and warps allow.

    Compilers take more registers than they need, as long as the blocks asked for find theirs.
    """
    own_shared = shared_bytes(problem, schedule) + RESERVED_SHARED_BYTES
    taken = min(MAX_REGISTERS, registers(problem, schedule) + _SPARE_REGISTERS)
    by_registers = target.limit("registers", 65536) // (taken * WARP * schedule["warps"])
    limits: tuple[int, ...] = (
        (target.limit("shared_bytes", STATIC_SHARED_BYTES) + RESERVED_SHARED_BYTES) // own_shared,
        max(schedule["resident"], by_registers),
        MAX_RESIDENT_WARPS // schedule["warps"],
    )
    return max(1, min(limits))


def _extra(
    problem: Problem, schedule: Schedule, target: Target, key_tiles: int
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `flops_per_fragment_byte`: products of a warp over what it reads from shared memory for them.
    `flight_bytes`: copies under way on a unit, which must cover bandwidth times latency.
    `resident_warps`: of a unit. `waves`: rounds of blocks on the whole device; `tail`: share of
    the last round that has work. `rounds`: tiles of keys that a block walks, on average;
    `longest`: those of the longest one, over that. `exponentials_per_flop`: on special units,
    which make 16 a cycle while tensor cores make thousands of flops. `heads_in_flight`: whose K
    and V blocks read at the same time.
    """
    given, warp_rows, tile_keys = problem.given, schedule["warp_rows"], schedule["tile_keys"]
    widths = problem.qk_width + problem.v_width
    fragment_bytes = tile_keys * widths * problem.kv_bytes
    if not schedule["q_registers"]:
        fragment_bytes += warp_rows * problem.qk_width * problem.element_bytes
    resident = _resident(problem, schedule, target)
    blocks = tiles(problem, schedule) * schedule["splits"]
    capacity = max(1, target.limit("units", 1)) * resident
    rounds = key_tiles / blocks
    queries = ceil_divide(_block_rows(schedule), problem.row_heads(schedule["pack_heads"]))
    most = ceil_divide(ceil_divide(problem.seen_keys(queries), tile_keys), schedule["splits"])
    ahead = schedule["stages"] - (0.5 if schedule["half_steps"] else 1.0)
    in_flight = ahead * problem.kv_tile_bytes(tile_keys)
    return (
        ("flops_per_fragment_byte", 2.0 * warp_rows * tile_keys * widths / fragment_bytes),
        ("flight_bytes", resident * in_flight),
        ("copy_bytes", float(min(problem.k_copy_bytes, problem.v_copy_bytes))),
        ("resident_warps", float(resident * schedule["warps"])),
        ("waves", blocks / capacity),
        ("tail", blocks / capacity / ceil_divide(blocks, capacity)),
        ("rounds", rounds),
        ("longest", most / rounds if rounds else 0.0),
        ("exponentials_per_flop", (8 - schedule["polynomials"]) / 8 / (2 * widths)),
        ("heads_in_flight", min(capacity, blocks) / blocks * given.batch * given.heads),
    )
