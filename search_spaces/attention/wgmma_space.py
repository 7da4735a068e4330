"""Knobs and constraints of the wgmma attention, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from records.target import Target
from search_spaces.attention.combine import partial_bytes
from search_spaces.attention.wgmma_resources import (
    BLOCK_SHARED_BYTES,
    INSTRUCTION_REGISTERS,
    ROWS,
    UNIT_SHARED_BYTES,
    Problem,
    consumer_registers,
)
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, boolean, choice, power_of_two
from search_spaces.warpgroup import launch_registers

_SHARED_BYTES = 227 << 10  # of one block of compute capability 9.0
_WARP_ROWS = 16
_TILES = (16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_MOST_TOGETHER = 256
_MANY = 512  # keys of a sequence
_LEAST_OF_MANY = 48  # in a tile; 64 rows of Q pass a unit's 128 bytes a clock in the time of 32
_MEMORY = ("consumers", "tile_n", "stages", "store", "buffers")


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    lines = problem.lines(False)
    units = target.limit("units", 132)
    together = min(_MOST_TOGETHER, 1 << (lines - 1).bit_length())
    return (
        choice("consumers", (1, 2, 3), f"warpgroups that multiply, {ROWS} rows of queries each"),
        choice("tile_n", _TILES, "keys of a tile"),
        choice("stages", (1, 2, 3, 4), "tiles of K, and of V, in shared memory"),
        boolean("overlap", "the next scores are computed beside the product with V"),
        boolean("pingpong", "consumers take turns: one's softmax runs under the other's products"),
        choice("query", ("shared", "registers"), "where the products read Q"),
        boolean("lazy", "earlier sums are rescaled only where the maximum rises much"),
        choice("polynomials", (0, 2, 4, 6), "of 16 exponentials, how many by polynomial"),
        boolean("pack_heads", "heads that share one of K and V share a tile"),
        choice("splits", _SPLITS, "parts of the keys, merged by a second kernel"),
        choice("cluster", (1, 2), "blocks side by side in queries that share loads of K and V"),
        power_of_two("together", 1, together, "heads whose tiles are taken in turn"),
        choice("blocks", (0, units, 2 * units), "blocks that stay for all work; 0: one a tile"),
        choice("resident", (1, 2), "blocks that share a unit of the GPU"),
        choice(
            "store", ("tma", "direct"), "the output by shared memory and TMA, or from registers"
        ),
        power_of_two("buffers", 1, 4, "pieces of the output that a warp has on the way"),
    )


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_registers(problem),
        *_shared_memory(problem, target),
        *_roles(problem, target),
        *_rows(problem),
        *_splits(problem, target),
        *_residence(problem, target),
        *_stores(problem),
    )


def _registers(problem: Problem) -> Iterator[Constraint]:
    v_dim = problem.given.v_dim
    yield Constraint(
        ("tile_n", "overlap", "query", "consumers", "resident"),
        lambda tile_n, overlap, query, consumers, resident: (
            problem.registers(tile_n, overlap, query)
            <= (consumer_registers(consumers, resident) or launch_registers(consumers, resident))
        ),
        f"scores of {{tile_n}} keys, weights, {v_dim} columns of output and the rest exceed the "
        "registers of a thread of {consumers} consumer(s) and {resident} block(s) on a unit of "
        "65536, and would spill to memory",
    )
    yield Constraint(
        ("tile_n", "consumers", "resident"),
        lambda tile_n, consumers, resident: (
            max(tile_n, v_dim) // 2 + INSTRUCTION_REGISTERS <= launch_registers(consumers, resident)
        ),
        f"one instruction for {{tile_n}} keys or {v_dim} columns of V takes half as many registers "
        f"and {INSTRUCTION_REGISTERS}, more than each thread has at the launch of {{consumers}} "
        "consumer(s) and {resident} block(s) a unit; the compiler refuses it",
    )


def _shared_memory(problem: Problem, target: Target) -> Iterator[Constraint]:
    available = target.limit("shared_bytes", _SHARED_BYTES)
    of_two = UNIT_SHARED_BYTES // 2 - BLOCK_SHARED_BYTES
    yield Constraint(
        _MEMORY,
        lambda *sizes: _fits(problem, target, 1, sizes),
        f"a block has {available} bytes of shared memory; Q, {{stages}} stages of {{tile_n}} keys "
        "and the pieces of the output need more",
    )
    yield Constraint(
        (*_MEMORY, "resident"),
        lambda *sizes: sizes[-1] == 1 or _fits(problem, target, sizes[-1], sizes[:-1]),
        f"each of two blocks on a unit has {of_two} bytes of shared memory; Q, {{stages}} stages "
        "of {tile_n} keys and the pieces of the output need more",
    )
    yield Constraint(
        (*_MEMORY, "resident"),
        lambda *values: values[2] > 1 or _one_stage(problem, target, *values),
        "with {stages} stage loads wait for products and products for loads; there is shared "
        "memory for two",
    )


def _one_stage(problem: Problem, target: Target, *values: Any) -> bool:
    """Whether there is no place, or no use, for a second stage; for values of `_MEMORY` and
    resident."""
    consumers, tile_n, _, *store, resident = values
    no_place = not _fits(problem, target, resident, (consumers, tile_n, 2, *store))
    return no_place or ceil_divide(problem.given.kv_len, tile_n) == 1


def _fits(problem: Problem, target: Target, resident: int, sizes: tuple[Any, ...]) -> bool:
    """Whether so many blocks on a unit have the shared memory, for values of `_MEMORY`."""
    of_two = UNIT_SHARED_BYTES // 2 - BLOCK_SHARED_BYTES
    available = target.limit("shared_bytes", _SHARED_BYTES)
    return problem.shared_bytes(*sizes) <= (available if resident == 1 else of_two)


def _roles(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("pingpong", "consumers"),
        lambda pingpong, consumers: not pingpong or consumers > 1,
        "a single consumer has nobody to take turns with",
    )
    yield Constraint(
        ("pingpong", "overlap"),
        lambda pingpong, overlap: not pingpong or overlap,
        "turns are taken for both products of a step, which only overlap issues together",
    )
    units = target.limit("units", 132)
    yield Constraint(
        ("consumers", "resident", "pack_heads"),
        lambda consumers, resident, pack_heads: (
            consumers * resident > 1
            or problem.row_tiles(1, pack_heads) == 1
            or problem.units(1, pack_heads, 1) <= units
        ),
        "while a warpgroup alone on a unit does its softmax, the tensor cores are idle; there are "
        "tiles enough for two",
    )
    kv_len, page = problem.given.kv_len, problem.given.page_size
    yield Constraint(
        ("tile_n",),
        lambda tile_n: tile_n >= _LEAST_OF_MANY or kv_len < _MANY or page > 0,
        f"products with fewer than {_LEAST_OF_MANY} keys take longer to read Q from shared memory "
        f"than to multiply, which {kv_len} keys need not suffer",
    )
    yield Constraint(
        ("tile_n",),
        lambda tile_n: tile_n == _TILES[0] or tile_n < 2 * kv_len,
        f"of {{tile_n}} keys in a tile, half or more would always be padding: there are {kv_len}",
    )
    yield Constraint(
        ("stages", "tile_n"),
        lambda stages, tile_n: stages <= ceil_divide(kv_len, tile_n),
        f"{kv_len} keys are fewer tiles of {{tile_n}} than {{stages}} stages, some never used",
    )
    if page:
        yield Constraint(
            ("tile_n",),
            lambda tile_n: tile_n % page == 0 or page % tile_n == 0,
            f"copies load pages of {page} keys or parts of one; {{tile_n}} keys are neither",
        )


def _rows(problem: Problem) -> Iterator[Constraint]:
    given = problem.given
    group = given.queries_per_kv_head
    yield Constraint(
        ("pack_heads",),
        lambda pack_heads: not pack_heads or (group > 1 and _WARP_ROWS % group == 0),
        f"a warp's {_WARP_ROWS} rows are whole queries of all heads that share K and V only where "
        f"their number divides {_WARP_ROWS}; it is {group}",
    )
    yield Constraint(
        ("consumers", "pack_heads"),
        lambda consumers, pack_heads: (
            consumers == 1
            or ROWS * (consumers - 1) < given.q_len * problem.packed_heads(pack_heads)
        ),
        f"with {{consumers}} consumers of {ROWS} rows each, the last would always have none",
    )
    yield Constraint(
        ("together", "pack_heads"),
        lambda together, pack_heads: together < 2 * problem.lines(pack_heads),
        "there are fewer than {together} heads with tiles of their own: the same order again",
    )
    yield Constraint(
        ("together", "consumers", "pack_heads", "cluster"),
        lambda together, *tiles: together == 1 or problem.row_tiles(*tiles) > 1,
        "heads of one tile, or cluster of {cluster}, each are taken in turn anyway",
    )
    yield Constraint(
        ("cluster", "consumers", "pack_heads"),
        lambda cluster, *tiles: cluster <= problem.row_tiles(*tiles),
        "there are fewer tiles of queries in a head than {cluster} blocks: some would do nothing",
    )
    yield Constraint(
        ("cluster",),
        lambda cluster: cluster == 1 or not given.page_size,
        "blocks share the loads of a tile by its rows; pages come in boxes of their own",
    )


def _splits(problem: Problem, target: Target) -> Iterator[Constraint]:
    given = problem.given
    yield Constraint(
        ("splits", "tile_n"),
        lambda splits, tile_n: splits == 1 or splits <= ceil_divide(given.kv_len, tile_n),
        f"{given.kv_len} keys are fewer tiles of {{tile_n}} than {{splits}} parts",
    )
    units = target.limit("units", 132)
    yield Constraint(
        ("splits", "consumers", "pack_heads"),
        lambda splits, consumers, pack_heads: (
            splits == 1 or problem.units(consumers, pack_heads, 1) * splits <= 4 * units
        ),
        f"tiles in {{splits}} parts are more than 4 for each of {units} units, which are busy "
        "without",
    )
    available = target.limit("memory_bytes", None)
    if available is not None:
        yield Constraint(
            ("splits",),
            lambda splits: partial_bytes(given, splits) <= available,
            f"results of {{splits}} parts exceed {available} bytes of memory",
        )


def _residence(problem: Problem, target: Target) -> Iterator[Constraint]:
    units = target.limit("units", 132)
    yield Constraint(
        ("blocks", "resident"),
        lambda blocks, resident: blocks == 0 or blocks == resident * units,
        f"{{blocks}} blocks do not fill {units} units with {{resident}} each",
    )
    yield Constraint(
        ("blocks", "cluster"),
        lambda blocks, cluster: blocks % cluster == 0,
        "{blocks} blocks are not whole clusters of {cluster}",
    )
    yield Constraint(
        ("blocks", "consumers", "pack_heads", "splits", "cluster"),
        lambda blocks, *tiles: blocks == 0 or problem.units(*tiles) > blocks // tiles[-1],
        "there are no more tiles than {blocks} blocks, so that none has a second one to take",
    )


def _stores(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("store", "splits"),
        lambda store, splits: store == "direct" or splits == 1,
        "results of {splits} parts go to scratch straight from registers",
    )
    yield Constraint(
        ("store", "buffers"),
        lambda store, buffers: store == "tma" or buffers == 1,
        "stores straight from registers pass through no buffers, so {buffers} change nothing",
    )
    yield Constraint(
        ("buffers",),
        lambda buffers: problem.v_panels % buffers == 0,
        "pieces are taken in turn, from the first one for every tile: {buffers} do not divide the "
        f"{problem.v_panels} panel(s) of a row of the output",
    )
