"""Knobs and constraints of the wgmma template, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from records.target import Target
from search_spaces.matmul.portable_resources import no_empty_part
from search_spaces.matmul.wgmma_resources import (
    BLOCK_SHARED_BYTES,
    INSTRUCTION_REGISTERS,
    OTHER_REGISTERS,
    SWIZZLE_BYTES,
    TILES,
    UNIT_SHARED_BYTES,
    Problem,
    consumer_registers,
    row_blocks,
    sharers,
    shares_bytes,
    sums_registers,
)
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, boolean, choice, power_of_two
from search_spaces.warpgroup import ROWS, launch_registers

MAX_CLUSTER = 4  # larger ones find few places: processing clusters have 16 or 18 units each
_SHARED_BYTES = 227 << 10  # of one block of compute capability 9.0
_MAX_INDEX = 2**31 - 1


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    panel = SWIZZLE_BYTES // problem.operand_bytes
    return (
        choice("tile_m", (64, 128, 192, 256), "rows of a tile: of C, or of C transposed"),
        choice(
            "tile_n",
            (16, 32, 64, 96, 128, 160, 192, 224, 256),
            "columns of a tile: of C, or of C transposed",
        ),
        choice("tile_k", (panel, 2 * panel), "steps of k in one stage of shared memory"),
        choice("stages", (2, 3, 4, 5, 6, 7, 8, 10, 12), "stages that are filled and used in turn"),
        choice("consumers", (1, 2, 3), "warpgroups that multiply, beside the one that loads"),
        boolean("pingpong", "consumers take tiles in turn: one stores, the other multiplies"),
        power_of_two("cluster_m", 1, 4, "blocks side by side in rows that share loads of columns"),
        power_of_two("cluster_n", 1, 4, "blocks side by side in columns that share loads of rows"),
        choice("split_k", (1, 2, 3, 4, 5, 6, 8, 12, 16), "parts of k, each a unit of work"),
        boolean("stream_k", "the last tiles are shared by steps, so that all blocks end together"),
        choice("raster", ("rows", "columns", "hilbert"), "order of tiles, to meet in cache"),
        power_of_two("group", 1, 32, "clusters across a band of that order"),
        choice("blocks", _blocks(target), "blocks that stay for all work; 0 is one for each tile"),
        choice("resident", (1, 2), "blocks that share a unit of the GPU"),
        choice("store", ("tma", "direct"), "C by shared memory and TMA, or from registers"),
        power_of_two("buffers", 1, 4, "pieces of C that a warp has on the way to memory"),
        choice("l2_promotion", (0, 128, 256), "bytes that a load brings into L2 at least"),
        boolean("swap", "compute C transposed: tiles narrow in m instead of n"),
    )


def _blocks(target: Target) -> tuple[int, ...]:
    """One or two for every unit; or the most that clusters of 4 find places for, as a processing
    cluster's units are not a multiple of 4 everywhere."""
    units = target.limit("units", 132)
    return tuple(sorted({0, max(4, units // 16 * 16), max(4, units // 4 * 4), units // 4 * 8}))


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_roles(problem),
        *_shared_memory(problem, target),
        *_clusters(problem),
        *_padding(problem),
        *_walk_along_k(problem, target),
        *_residence(problem, target),
        *_stream(problem, target),
        *_order(problem),
        *_stores(problem),
    )


def _roles(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("tile_m", "consumers", "pingpong"),
        lambda *roles: row_blocks(*roles) > 0,
        f"a consumer multiplies {ROWS} rows at a time; a tile of {{tile_m}} rows is no multiple "
        "of that for each of {consumers}",
    )
    yield Constraint(
        ("pingpong", "consumers"),
        lambda pingpong, consumers: not pingpong or consumers == 2,
        "taking tiles in turn is for two consumers: {consumers} gain nothing by it",
    )
    yield Constraint(
        ("tile_m", "tile_n", "consumers", "pingpong", "resident"),
        lambda tile_m, tile_n, consumers, pingpong, resident: (
            sums_registers(tile_m, tile_n, sharers(consumers, pingpong)) + OTHER_REGISTERS
            <= (consumer_registers(consumers, resident) or launch_registers(consumers, resident))
        ),
        "sums of a {tile_m}x{tile_n} tile over {consumers} consumer(s) and "
        f"{OTHER_REGISTERS} registers for the rest exceed what a thread gets with {{resident}} "
        "block(s) on a unit of 65536 registers, and would spill to memory",
    )
    yield Constraint(
        ("tile_n", "consumers", "resident"),
        lambda tile_n, consumers, resident: (
            tile_n // 2 + INSTRUCTION_REGISTERS <= launch_registers(consumers, resident)
        ),
        f"one instruction for {{tile_n}} columns takes half as many registers and "
        f"{INSTRUCTION_REGISTERS}, more than each thread has at the launch of {{resident}} "
        "block(s) a unit; the compiler refuses it",
    )


def _shared_memory(problem: Problem, target: Target) -> Iterator[Constraint]:
    available = target.limit("shared_bytes", _SHARED_BYTES)
    of_two = UNIT_SHARED_BYTES // 2 - BLOCK_SHARED_BYTES
    yield Constraint(
        ("tile_m", "tile_n", "tile_k", "stages", "consumers", "buffers", "store"),
        lambda *sizes: problem.shared_bytes(*sizes) <= available,
        f"a block has {available} bytes of shared memory; {{stages}} stages of "
        "({tile_m}+{tile_n})x{tile_k} elements and the pieces of C need more",
    )
    yield Constraint(
        ("tile_m", "tile_n", "tile_k", "stages", "consumers", "buffers", "store", "resident"),
        lambda *sizes: sizes[-1] == 1 or problem.shared_bytes(*sizes[:-1]) <= of_two,
        f"each of two blocks on a unit has {of_two} bytes of shared memory; {{stages}} stages of "
        "({tile_m}+{tile_n})x{tile_k} elements and the pieces of C need more",
    )


def _clusters(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("cluster_m", "cluster_n"),
        lambda cluster_m, cluster_n: cluster_m * cluster_n <= MAX_CLUSTER,
        f"clusters of more than {MAX_CLUSTER} blocks find few places on the GPU; "
        "{cluster_m}x{cluster_n} are more",
    )
    along_k = {swap: problem.sides(swap)[1].along_k for swap in (False, True)}
    yield Constraint(
        ("tile_n", "cluster_m", "swap"),
        lambda tile_n, cluster_m, swap: not along_k[swap] or tile_n // cluster_m % 8 == 0,
        "swizzled rows come in eights; {cluster_m} blocks cannot share the loads of {tile_n}",
    )
    yield Constraint(
        ("tile_n", "swap"),
        lambda tile_n, swap: along_k[swap] or tile_n * problem.operand_bytes % SWIZZLE_BYTES == 0,
        f"an operand with k as the slow axis comes in panels of {SWIZZLE_BYTES} bytes; "
        "{tile_n} columns are not whole panels",
    )
    yield Constraint(
        TILES,
        lambda tile_m, tile_n, cluster_m, cluster_n, swap: (
            cluster_m <= ceil_divide(problem.sides(swap)[0].largest, tile_m)
            and cluster_n <= ceil_divide(problem.sides(swap)[1].largest, tile_n)
        ),
        "there are fewer tiles of {tile_m}x{tile_n} than a cluster of {cluster_m}x{cluster_n} "
        "needs, so some blocks would do nothing",
    )


def _padding(problem: Problem) -> Iterator[Constraint]:
    most_rows = problem.sides(False)[0].largest
    yield Constraint(
        ("tile_m", "swap"),
        lambda tile_m, swap: tile_m == ROWS or tile_m - ROWS < problem.sides(swap)[0].largest,
        f"with {{tile_m}} rows in a tile, {ROWS} or more would always be padding",
    )
    yield Constraint(
        ("tile_n", "swap"),
        lambda tile_n, swap: tile_n == 16 or tile_n < 2 * problem.sides(swap)[1].largest,
        "of {tile_n} columns in a tile, half or more would always be padding",
    )
    yield Constraint(
        ("swap",),
        lambda swap: not swap or most_rows <= 2 * ROWS,
        f"swapping saves padding where m is not much above {ROWS}, the least number of rows of an "
        f"instruction; it is {most_rows}",
    )
    yield Constraint(
        (*TILES, "split_k"),
        lambda *tiles: problem.units(*tiles) * MAX_CLUSTER <= _MAX_INDEX,
        "tiles are counted in 32 bits; {tile_m}x{tile_n} in {split_k} part(s) are too many",
    )


def _walk_along_k(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("tile_k", "split_k"),
        lambda tile_k, split_k: no_empty_part(problem.k, tile_k, split_k),
        f"{{split_k}} equal parts of {problem.k} steps in tiles of {{tile_k}} "
        "would leave a part without work",
    )
    yield Constraint(
        ("tile_k",),
        lambda tile_k: tile_k * problem.operand_bytes == SWIZZLE_BYTES or tile_k < 2 * problem.k,
        f"of {{tile_k}} steps in a stage, half or more would be padding: k is {problem.k}",
    )
    available = target.limit("memory_bytes", None)
    if available is not None:
        yield Constraint(
            ("split_k",),
            lambda split_k: problem.partial_sums_bytes(split_k) <= available,
            f"partial sums of {{split_k}} parts exceed {available} bytes of memory",
        )


def _residence(problem: Problem, target: Target) -> Iterator[Constraint]:
    units = target.limit("units", 132)
    yield Constraint(
        ("blocks", "resident"),
        lambda blocks, resident: blocks == 0 or (blocks > units) == (resident == 2),
        f"{{blocks}} blocks do not fill {units} units with {{resident}} each",
    )
    yield Constraint(
        ("pingpong", "blocks"),
        lambda pingpong, blocks: not pingpong or blocks > 0,
        "a block with a single tile has nothing to take in turn",
    )
    yield Constraint(
        (*TILES, "split_k", "blocks", "stream_k"),
        lambda *tiles: (
            tiles[-1] or tiles[-2] == 0 or problem.units(*tiles[:-2]) > _clusters_of(tiles)
        ),
        "there are no more tiles than {blocks} blocks, so that none has a second one to take",
    )


def _clusters_of(tiles: tuple[Any, ...]) -> int:
    """Clusters that are launched, for values of `TILES`, split_k, blocks and stream_k."""
    return int(tiles[6] // (tiles[2] * tiles[3]))


def _stream(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("stream_k", "split_k", "blocks"),
        lambda stream, split_k, blocks: not stream or (split_k == 1 and blocks > 0),
        "only blocks that stay can share tiles by steps, and not in {split_k} fixed parts too",
    )
    yield Constraint(
        (*TILES, "split_k", "blocks", "stream_k"),
        lambda *tiles: (
            not tiles[-1] or tiles[-2] == 0 or problem.units(*tiles[:-2]) % _clusters_of(tiles) != 0
        ),
        "tiles divide evenly among {blocks} blocks, so that none is left to share by steps",
    )
    yield Constraint(
        (*TILES, "split_k", "blocks", "stream_k", "tile_k"),
        lambda *tiles: (
            not tiles[-2]
            or problem.units(*tiles[:-3]) * ceil_divide(problem.k, tiles[-1]) >= _clusters_of(tiles)
        ),
        "there are fewer steps of {tile_k} in all tiles than {blocks} blocks to share them",
    )
    available = target.limit("memory_bytes", None)
    if available is not None:
        yield Constraint(
            ("tile_m", "tile_n", "blocks", "stream_k"),
            lambda tile_m, tile_n, blocks, stream: (
                not stream or shares_bytes(tile_m, tile_n, blocks) <= available
            ),
            f"sums of shared tiles of {{blocks}} blocks exceed {available} bytes of memory",
        )


def _order(problem: Problem) -> Iterator[Constraint]:
    def across(raster: str, *tiles: Any) -> int:
        rows, columns = problem.clusters(*tiles)
        if raster == "hilbert":
            return min(rows, columns)
        return columns if raster == "columns" else rows

    yield Constraint(
        ("raster", "group", *TILES),
        lambda raster, group, *tiles: group == 1 or group <= across(raster, *tiles),
        "fewer than {group} clusters of tiles lie across: the same order again",
    )
    yield Constraint(
        ("raster", "group"),
        lambda raster, group: raster != "hilbert" or group >= 4,
        "Hilbert's curve through {group}x{group} is no other order than bands",
    )


def _stores(problem: Problem) -> Iterator[Constraint]:
    row_bytes = problem.n * problem.c_bytes
    yield Constraint(
        ("store",),
        lambda store: store == "direct" or row_bytes % 16 == 0,
        f"TMA stores rows that begin at multiples of 16 bytes; those of C are {row_bytes} bytes",
    )
    yield Constraint(
        ("store",),
        lambda store: store == "direct" or not problem.groups,
        "a piece of C of 16 rows may reach into the next group, and TMA would store it whole",
    )
    yield Constraint(
        ("store", "split_k"),
        lambda store, split_k: store == "direct" or split_k == 1,
        "sums of {split_k} parts go to scratch straight from registers",
    )
    yield Constraint(
        ("store", "buffers"),
        lambda store, buffers: store == "tma" or buffers == 1,
        "stores straight from registers pass through no buffers, so {buffers} change nothing",
    )
