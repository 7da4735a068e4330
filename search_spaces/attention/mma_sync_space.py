"""Knobs and constraints of the mma_sync template, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterator

from records.target import Target
from search_spaces.attention.combine import partial_bytes, partial_results
from search_spaces.attention.mma_sync_resources import Problem
from search_spaces.attention.warp_operands import (
    FRAGMENT,
    MAX_REGISTERS,
    RESERVED_SHARED_BYTES,
    STATIC_SHARED_BYTES,
    WARP,
)
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, boolean, choice, power_of_two

MAX_GRID = 2**31 - 1  # blocks along the first axis of a grid
MAX_PRODUCTS = 1024  # in a loop body: 16 KiB of instructions, an eighth of an SM's cache
_MAX_WARPS = 8  # of a block: two of them for each of the four schedulers
_MAX_TOGETHER = 256
_ENOUGH_ROWS = 64  # of a block: the last cache gives a 64th of the flops in bytes, or nearly
_MOST_WAVES = 8  # of blocks, one to a unit
_MANY_KEYS = 128
_TILE = ("warps", "warp_rows", "tile_keys", "stages", "q_registers")


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    """Choices that make no difference for the workload are left out."""
    given = problem.given
    masked, shared = given.causal or given.window > 0, given.queries_per_kv_head > 1
    together = min(_MAX_TOGETHER, _power_of_two_from(problem.heads(False)))
    return (
        power_of_two("warps", 1, _MAX_WARPS, "warps of a block, each with rows of its own"),
        choice("warp_rows", (16, 32, 64), "rows of a warp: fragments of K and V serve all of them"),
        power_of_two("tile_keys", least_keys(problem), 128, "keys between two rescalings"),
        choice("stages", (1, 2, 3), "tiles of K, and of V, in shared memory"),
        boolean("half_steps", "K and V have a wait and a barrier each, not one together"),
        boolean("scores_ahead", "the next tile's scores are multiplied while these are weighed"),
        boolean("q_registers", "Q stays in registers; or is loaded for each tile"),
        _where(shared, "pack_heads", "query heads of a head of K are rows of one tile"),
        power_of_two("heads_together", 1, together, "heads whose tiles are walked side by side"),
        _where(given.causal, "late_first", "tiles of late queries, which see most keys, first"),
        _where(masked, "backwards", "from the last key backwards, masked tiles first"),
        boolean("lazy_rescale", "weights may grow to 2^8 before sums are scaled down"),
        choice("polynomials", (0, 1, 2, 4), "exponentials, of 8, on multiply-add units"),
        choice("splits", (1, 2, 3, 4, 6, 8, 12, 16, 32), "parts of the keys, by other blocks"),
        choice("resident", (1, 2, 3, 4), "blocks that share a unit, and its registers"),
    )


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_rows(problem),
        *_filling(problem, target),
        *_memory(problem, target),
        *_registers(problem, target),
        *_keys(problem),
        *_parts(problem, target),
    )


def too_large(problem: Problem, target: Target) -> str:
    """Why not even the smallest tile finds shared memory, or `""`."""
    if _fits(problem, target, 1):
        return ""
    available = target.limit("shared_bytes", STATIC_SHARED_BYTES)
    dims = f"head_dim {problem.given.head_dim} and v_dim {problem.given.v_dim}"
    return (
        f"a block has {available} bytes of shared memory; {FRAGMENT} rows and "
        f"{least_keys(problem)} keys of {dims} need more"
    )


def _fits(problem: Problem, target: Target, warps: int) -> bool:
    """Whether so many warps of 16 rows find shared memory for Q and the smallest tile."""
    kept_bytes = problem.shared_bytes(warps, FRAGMENT, least_keys(problem), 1, False)
    return bool(kept_bytes <= target.limit("shared_bytes", STATIC_SHARED_BYTES))


def least_keys(problem: Problem) -> int:
    """Keys of the smallest tile: where there are many, 16 are too few to pay for a rescaling."""
    return problem.keys_of_load if problem.given.kv_len < _MANY_KEYS else 32


def _where(useful: bool, name: str, help: str) -> Knob:
    return boolean(name, help) if useful else choice(name, (False,), help)


def _power_of_two_from(count: int) -> int:
    """The largest power of two up to `count`."""
    return 1 << (count.bit_length() - 1)


def _rows(problem: Problem) -> Iterator[Constraint]:
    given = problem.given
    yield Constraint(
        ("warps", "warp_rows", "pack_heads"),
        lambda warps, warp_rows, pack_heads: (
            warps * warp_rows == FRAGMENT
            or warps * warp_rows < 2 * given.q_len * problem.row_heads(pack_heads)
        ),
        f"of {{warps}} warps of {{warp_rows}} rows half or more would lie beyond the rows that "
        f"{given.q_len} queries have",
    )
    yield Constraint(
        ("heads_together", "pack_heads"),
        lambda together, pack_heads: together <= problem.heads(pack_heads),
        "there are fewer than {heads_together} heads that have tiles of their own",
    )
    yield Constraint(
        ("heads_together", "pack_heads", "warps", "warp_rows", "late_first"),
        lambda together, pack_heads, warps, warp_rows, late_first: (
            problem.tiles_of_head(pack_heads, warps, warp_rows) > 1
            or (together == 1 and not late_first)
        ),
        "heads of one tile of {warps} warps by {warp_rows} rows have one order alone",
    )


def _filling(problem: Problem, target: Target) -> Iterator[Constraint]:
    """Small tiles and parts are for workloads that would leave units without work."""
    units = target.limit("units", 1)
    enough_rows = _ENOUGH_ROWS if _fits(problem, target, _ENOUGH_ROWS // FRAGMENT) else FRAGMENT

    def rows_of_head(pack_heads: bool) -> int:
        return problem.given.q_len * problem.row_heads(pack_heads)

    def blocks(pack_heads: bool, rows: int) -> int:
        return problem.heads(pack_heads) * problem.tiles_of_head(pack_heads, 1, rows)

    yield Constraint(
        ("warps", "warp_rows", "pack_heads"),
        lambda warps, warp_rows, pack_heads: (
            warps * warp_rows >= min(enough_rows, rows_of_head(pack_heads))
            or blocks(pack_heads, enough_rows) < 2 * units
        ),
        "a block of {warps} warps of {warp_rows} rows reads K and V from the last cache for few "
        f"products; {enough_rows} rows a block are enough blocks for {units} units",
    )
    yield Constraint(
        ("warps", "warp_rows", "pack_heads", "splits"),
        lambda warps, warp_rows, pack_heads, splits: (
            splits == 1 or splits * blocks(pack_heads, warps * warp_rows) <= _MOST_WAVES * units
        ),
        f"{{splits}} parts make more than {_MOST_WAVES} blocks for each of {units} units, which "
        "are full without",
    )


def _memory(problem: Problem, target: Target) -> Iterator[Constraint]:
    available = target.limit("shared_bytes", STATIC_SHARED_BYTES)
    yield Constraint(
        (*_TILE, "resident"),
        lambda *sizes: (
            sizes[-1] * (problem.shared_bytes(*sizes[:-1]) + RESERVED_SHARED_BYTES)
            <= available + RESERVED_SHARED_BYTES
        ),
        f"a unit has {available} bytes of shared memory for {{resident}} block(s); Q of {{warps}} "
        "warps by {warp_rows} rows and {stages} tiles of {tile_keys} keys need more",
    )


def _registers(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("warp_rows", "tile_keys", "q_registers", "scores_ahead"),
        lambda *tile: problem.registers(*tile) <= MAX_REGISTERS,
        f"a thread has at most {MAX_REGISTERS} registers; sums of {{warp_rows}} rows and scores of "
        "{tile_keys} keys need more, and would spill to memory",
    )
    available = target.limit("registers", 65536)
    yield Constraint(
        ("warps", "warp_rows", "tile_keys", "q_registers", "scores_ahead", "resident"),
        lambda warps, *tile: WARP * warps * problem.registers(*tile[:-1]) <= available // tile[-1],
        f"a unit has {available} registers for {{resident}} whole block(s); {{warps}} warps of "
        "{warp_rows} rows by {tile_keys} keys need more",
    )
    yield Constraint(
        ("warps", "resident"),
        lambda warps, resident: (
            resident == 1 or available // (resident * WARP * warps) < MAX_REGISTERS
        ),
        f"{{resident}} blocks of {{warps}} warps leave a thread {MAX_REGISTERS} registers, as one "
        "block does: the same code again",
    )
    yield Constraint(
        ("warp_rows", "tile_keys"),
        lambda warp_rows, tile_keys: (
            tile_keys == least_keys(problem)
            or problem.products(warp_rows, tile_keys) <= MAX_PRODUCTS
        ),
        f"{{warp_rows}} rows by {{tile_keys}} keys are more than {MAX_PRODUCTS} products in a loop "
        "body, which outgrows instruction caches",
    )


def _keys(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("stages", "half_steps"),
        lambda stages, half_steps: half_steps or stages > 1,
        "{stages} stage holds the tile that is multiplied; another one can be under way only in "
        "half steps",
    )
    yield Constraint(
        ("scores_ahead", "stages", "half_steps"),
        lambda ahead, stages, half_steps: not ahead or (stages > 1 and not half_steps),
        "the next tile of K must have come beside this one of V: with scores ahead that takes more "
        "than {stages} stage(s), and whole steps",
    )
    yield Constraint(
        ("tile_keys",),
        lambda tile_keys: tile_keys == problem.keys_of_load or tile_keys < 2 * problem.given.kv_len,
        f"half or more of a tile of {{tile_keys}} keys would lie beyond the last of "
        f"{problem.given.kv_len}",
    )
    yield Constraint(
        ("warps", "warp_rows", "tile_keys", "stages", "splits"),
        lambda warps, warp_rows, tile_keys, stages, splits: (
            stages == 1
            or stages * splits <= ceil_divide(problem.seen_keys(warps * warp_rows), tile_keys)
        ),
        "a part of the keys that {warps} warps of {warp_rows} rows see, one of {splits}, has fewer "
        "tiles of {tile_keys} than {stages} stages hold",
    )
    yield Constraint(
        ("lazy_rescale", "tile_keys", "splits"),
        lambda lazy, tile_keys, splits: (
            not lazy or splits < ceil_divide(problem.given.kv_len, tile_keys)
        ),
        "one tile of {tile_keys} keys is all of one of {splits} parts: there is nothing to rescale",
    )


def _parts(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("splits", "warps", "warp_rows", "tile_keys"),
        lambda splits, warps, warp_rows, tile_keys: (
            splits <= ceil_divide(problem.seen_keys(warps * warp_rows), tile_keys)
        ),
        f"{{splits}} parts of {problem.given.kv_len} keys in tiles of {{tile_keys}} would leave a "
        "part without work",
    )
    for limit, meaning in (("max_buffer_bytes", "a single buffer"), ("memory_bytes", "memory")):
        available = target.limit(limit, None)
        if available is not None:
            yield Constraint(
                ("splits",),
                lambda splits, available=available, whole=limit == "memory_bytes": (
                    _scratch_bytes(problem, splits, whole) <= available
                ),
                f"what {{splits}} parts give exceeds {available} bytes, the limit of {meaning}",
            )


def _scratch_bytes(problem: Problem, splits: int, whole: bool) -> int:
    """Of all buffers, or of the largest one."""
    if whole:
        return partial_bytes(problem.given, splits)
    return max((each.bytes for each in partial_results(problem.given, splits)), default=0)
