"""Knobs and constraints of the CPU template, each constraint with its physical reason.

The constraints that say what is slow, rather than what cannot be, were checked against races of
whole spaces on CPUs with AVX-512; they leave room around what won.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from records.target import Target
from search_spaces.cpu_target import STACK_BYTES, l2_bytes, native_lanes, vector_registers
from search_spaces.matmul.cpu_blocks import Problem, busy_share
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, boolean, choice

BLOCK_K_SIZES = (256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048)  # steps, about
SHALLOW_K_SIZES = (8, 16, 32)  # for few rows of A: B is read in place, a few whole rows at a time
FEW_ROWS_K_SIZES = (*SHALLOW_K_SIZES, 256, 512, 1024)
TILES_M = (*range(1, 11), 12, 14)
TILES_VECTORS = range(1, 8)
ROW_BLOCKS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
COLUMN_TILES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
PAYING_TILES = 8  # tiles below each other that pay for a packed panel, about
LEAST_VECTORS = 4  # of a block's row, unless more blocks are needed to busy the cores
MANY_BLOCKS = 4  # blocks a core that balance any load
LEAST_BUSY = 0.66  # share of the cores' time


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    lanes = native_lanes(problem.sum_bytes, target)
    vectors = ceil_divide(problem.n, lanes)
    sizes = FEW_ROWS_K_SIZES if _may_stream_b(problem, target) else BLOCK_K_SIZES
    k_blocks = sorted({1, *(ceil_divide(problem.k, size) for size in sizes)})
    return (
        choice("lanes", (lanes,), "elements of a vector: the hardware's"),
        choice("tile_m", _up_to(problem.m, TILES_M), "rows of a register tile"),
        choice("tile_vectors", _up_to(vectors, TILES_VECTORS), "vectors in a row of it"),
        choice("row_blocks", _up_to(problem.m, ROW_BLOCKS), "blocks that C's rows are cut into"),
        choice("column_tiles", _up_to(vectors, COLUMN_TILES), "tiles side by side in a block"),
        choice("k_blocks", k_blocks, "blocks of k: C is visited as often"),
        choice("unroll", _up_to(problem.k, (1, 2, 4)), "steps of k unrolled"),
        boolean("pack_a", "copy a tile's rows of A before use"),
        boolean("pack_b", "copy a block's columns of B before use"),
        boolean("panels_on_stack", "keep those in private rather than local memory"),
        boolean("rows_first", "neighbouring blocks share columns of B rather than rows of A"),
        boolean("prefetch_a", "fetch the rows of A for the tiles below while the sums run"),
        boolean("prefetch_c", "fetch the tile of C while the sums run"),
    )


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_tile(problem, target),
        *_cuts(problem),
        *_panels(problem, target),
        *_packing(problem, target),
        *_prefetch(problem),
        *_balance(problem, target),
    )


def _may_stream_b(problem: Problem, target: Target) -> bool:
    """Whether B comes from memory and is used by few rows, so that it may be read in place."""
    few_rows = problem.m < PAYING_TILES * max(TILES_M)
    return few_rows and not problem.b_along_k and problem.b_bytes > l2_bytes(target)


def _up_to(limit: int, values: Iterable[int]) -> tuple[int, ...]:
    return tuple(value for value in values if value <= limit)


def _tile_registers(tile_m: int, tile_vectors: int) -> int:
    """Sums, a row of B, an element of A."""
    return tile_m * tile_vectors + tile_vectors + 1


def _least_sums(m: int, vectors: int, registers: int) -> int:
    """Vectors of sums that keep the multipliers busy: half of the registers, if C has so many.

    Else two thirds of the largest tile that C has.
    """
    largest = max(
        tile_m * tile_vectors
        for tile_m in _up_to(m, TILES_M)
        for tile_vectors in _up_to(vectors, TILES_VECTORS)
        if _tile_registers(tile_m, tile_vectors) <= registers
    )
    return min(registers // 2, ceil_divide(2 * largest, 3))


def _tiles(m: int, vectors: int, registers: int) -> Iterator[tuple[int, int]]:
    """The register tiles that the constraints of `_tile` leave."""
    least = _least_sums(m, vectors, registers)
    for tile_m, tile_vectors in product(_up_to(m, TILES_M), _up_to(vectors, TILES_VECTORS)):
        fits = _tile_registers(tile_m, tile_vectors) <= registers
        if fits and tile_m * tile_vectors >= least:
            yield tile_m, tile_vectors


def _tile(problem: Problem, target: Target) -> Iterator[Constraint]:
    registers = vector_registers(target)
    yield Constraint(
        ("tile_m", "tile_vectors"),
        lambda tile_m, tile_vectors: _tile_registers(tile_m, tile_vectors) <= registers,
        f"a core has {registers} vector registers; the sums of {{tile_m}} rows of "
        "{tile_vectors} vectors, a row of B and an element of A need more",
    )
    vectors = ceil_divide(problem.n, native_lanes(problem.sum_bytes, target))
    least = _least_sums(problem.m, vectors, registers)
    yield Constraint(
        ("tile_m", "tile_vectors"),
        lambda tile_m, tile_vectors: tile_m * tile_vectors >= least,
        f"{{tile_m}} rows of {{tile_vectors}} vectors are fewer than {least} vectors of sums: "
        "these wait for each other and for loads, while registers lie idle",
    )


def _cuts(problem: Problem) -> Iterator[Constraint]:
    """Numbers of blocks that come out as said; else two schedules would be the same kernel."""
    yield Constraint(
        ("k_blocks",),
        lambda k_blocks: ceil_divide(problem.k, problem.block_k(k_blocks)) == k_blocks,
        "{k_blocks} blocks of k would be fewer, as each ends on a multiple of 4",
    )
    yield Constraint(
        ("k_blocks", "unroll"),
        lambda k_blocks, unroll: unroll <= problem.block_k(k_blocks),
        "a block of k is shorter than the {unroll} steps unrolled",
    )
    yield Constraint(
        ("tile_m", "row_blocks"),
        lambda tile_m, row_blocks: problem.has_row_blocks(row_blocks, tile_m),
        "{row_blocks} blocks of rows would be fewer, as each is whole tiles of {tile_m}",
    )
    yield Constraint(
        ("lanes", "tile_vectors", "column_tiles"),
        lambda lanes, tile_vectors, column_tiles: (
            (column_tiles - 1) * tile_vectors * lanes < problem.n
        ),
        f"{{column_tiles}} tiles of {{tile_vectors}} vectors are wider than the {problem.n} "
        "columns of C, the last would be empty",
    )
    yield Constraint(
        ("row_blocks", "lanes", "tile_vectors", "column_tiles", "rows_first"),
        lambda row_blocks, lanes, tile_vectors, column_tiles, rows_first: (
            rows_first or (row_blocks > 1 and column_tiles * tile_vectors * lanes < problem.n)
        ),
        "with one row or one column of blocks there is only one order to take them in: the one "
        "of rows_first",
    )


def _panels(problem: Problem, target: Target) -> Iterator[Constraint]:
    local_bytes = target.limit("shared_bytes", 32 << 10)
    stack_bytes = max(local_bytes, min(STACK_BYTES, l2_bytes(target) // 2))
    knobs = ("lanes", "tile_vectors", "column_tiles", "k_blocks", "pack_b", "panels_on_stack")
    yield Constraint(
        knobs,
        lambda *sizes_and_place: (
            sizes_and_place[-2:] != (True, False)
            or problem.panels_bytes(*sizes_and_place[:-2]) <= local_bytes
        ),
        "panels of {column_tiles} tiles of {tile_vectors} vectors, 1/{k_blocks} of k deep, exceed "
        f"the {local_bytes} bytes of local memory",
    )
    yield Constraint(
        knobs,
        lambda *sizes_and_place: (
            sizes_and_place[-2:] != (True, True)
            or local_bytes < problem.panels_bytes(*sizes_and_place[:-2]) <= stack_bytes
        ),
        f"panels of up to {local_bytes} bytes belong in local memory, and those of more than "
        f"{stack_bytes} bytes fill too much of the stack or of the second-level cache",
    )
    yield Constraint(
        ("pack_b", "panels_on_stack"),
        lambda pack_b, panels_on_stack: pack_b or not panels_on_stack,
        "without packed panels of B there is nothing to place on the stack",
    )
    a_bytes = STACK_BYTES // 4
    yield Constraint(
        ("tile_m", "k_blocks", "pack_a"),
        lambda tile_m, k_blocks, pack_a: (
            not pack_a or problem.a_panel_bytes(tile_m, k_blocks) <= a_bytes
        ),
        f"{{tile_m}} packed rows of A exceed the {a_bytes} bytes of the stack left for them",
    )


def _packing(problem: Problem, target: Target) -> Iterator[Constraint]:
    """When a copy must pay for itself, and when it must be made."""
    yield Constraint(
        ("pack_b",),
        lambda pack_b: pack_b or not problem.b_along_k,
        "B is stored n x k: the elements of a vector lie far apart until they are packed",
    )
    if not problem.b_along_k:
        yield from _packing_b(problem, l2_bytes(target))
    yield Constraint(
        ("column_tiles", "pack_a"),
        lambda column_tiles, pack_a: not pack_a or column_tiles > 1,
        "packed rows of A would serve one tile only: copying them costs more than it saves",
    )


def _packing_b(problem: Problem, cache_bytes: int) -> Iterator[Constraint]:
    """Where there is a choice."""
    yield Constraint(
        ("tile_m", "row_blocks", "pack_b"),
        lambda tile_m, row_blocks, pack_b: (
            not pack_b
            or problem.block_m(row_blocks, tile_m) >= PAYING_TILES * tile_m
            or (row_blocks == 1 and problem.m > 2 * tile_m)
        ),
        "a block of 1/{row_blocks} of the rows has too few tiles of {tile_m} to use a packed "
        "panel of B: copying it costs more than it saves",
    )
    yield Constraint(
        ("k_blocks", "pack_b"),
        lambda k_blocks, pack_b: (
            not pack_b or k_blocks == 1 or problem.block_k(k_blocks) > max(SHALLOW_K_SIZES)
        ),
        "panels of 1/{k_blocks} of k are too shallow to be worth packing",
    )
    yield Constraint(
        ("tile_m", "row_blocks", "pack_b"),
        lambda tile_m, row_blocks, pack_b: (
            pack_b
            or problem.b_bytes <= cache_bytes
            or problem.block_m(row_blocks, tile_m) < PAYING_TILES * tile_m
        ),
        f"B of {problem.b_bytes} bytes exceeds the second-level cache of {cache_bytes}: read in "
        "place, every row of tiles would fetch it anew, a row of B in another page each step",
    )


def _prefetch(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("tile_m", "row_blocks", "prefetch_a"),
        lambda tile_m, row_blocks, prefetch_a: (
            not prefetch_a or problem.block_m(row_blocks, tile_m) > tile_m
        ),
        "in a block of {tile_m} rows there are no tiles below to fetch A for",
    )
    yield Constraint(
        ("prefetch_a",),
        lambda prefetch_a: problem.a_along_k or not prefetch_a,
        "A is stored k x m: the rows below lie in cache lines that are read already",
    )


@dataclass(frozen=True)
class _Balance:
    """How evenly C is cut into blocks for the cores."""

    problem: Problem
    units: int

    @property
    def enough(self) -> int:
        return MANY_BLOCKS * self.units

    def blocks(self, row_blocks: int, block_n: int) -> int:
        return self.problem.batch * row_blocks * ceil_divide(self.problem.n, block_n)

    def busy(self, row_blocks: int, block_n: int) -> float:
        return busy_share(self.problem, row_blocks, block_n, self.units)

    def repeats_packing(self, row_blocks: int, block_n: int) -> bool:
        return row_blocks > 1 and self.blocks(row_blocks, block_n) > self.enough

    def is_narrow(self, row_blocks: int, block_n: int, lanes: int) -> bool:
        width = min(LEAST_VECTORS * lanes, self.problem.n)
        return block_n < width and self.blocks(row_blocks, block_n) > self.enough

    def best(self, lanes: int, registers: int) -> float:
        """The largest busy share of all cuts that are legal otherwise."""
        vectors = ceil_divide(self.problem.n, lanes)
        cuts = {
            (row_blocks, lanes * tile_vectors * column_tiles)
            for tile_m, tile_vectors in _tiles(self.problem.m, vectors, registers)
            for row_blocks in _up_to(self.problem.m, ROW_BLOCKS)
            if self.problem.has_row_blocks(row_blocks, tile_m)
            for column_tiles in _up_to(vectors, COLUMN_TILES)
        }
        return max(
            self.busy(*cut)
            for cut in cuts
            if not self.repeats_packing(*cut) and not self.is_narrow(*cut, lanes)
        )


@cache
def _least_busy(problem: Problem, lanes: int, registers: int, units: int) -> float:
    """What cannot be cut evenly is not held against a schedule."""
    return LEAST_BUSY * _Balance(problem, units).best(lanes, registers)


def _balance(problem: Problem, target: Target) -> Iterator[Constraint]:
    balance = _Balance(problem, target.limit("units", 1))
    lanes = native_lanes(problem.sum_bytes, target)
    least = _least_busy(problem, lanes, vector_registers(target), balance.units)
    names = ("row_blocks", "tile_vectors", "column_tiles")
    yield Constraint(
        names,
        lambda row_blocks, vectors, tiles: (
            balance.busy(row_blocks, lanes * vectors * tiles) >= least
        ),
        f"blocks of these sizes leave the {balance.units} cores idle for more than "
        f"{1 - least:.0%} of the time",
    )
    yield Constraint(
        names,
        lambda row_blocks, vectors, tiles: (
            not balance.repeats_packing(row_blocks, lanes * vectors * tiles)
        ),
        f"{{row_blocks}} blocks of rows make more than {balance.enough} blocks for "
        f"{balance.units} cores: each reads the same columns of B again and balances no better",
    )
    yield Constraint(
        names,
        lambda row_blocks, vectors, tiles: (
            not balance.is_narrow(row_blocks, lanes * vectors * tiles, lanes)
        ),
        "blocks of {column_tiles} tiles of {tile_vectors} vectors are narrow, with more than "
        f"{balance.enough} of them for {balance.units} cores: each reads all its rows of A for "
        "few columns",
    )
