"""Knobs and constraints of the CPU template, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterator

from records.target import Target
from search_spaces.matmul.cpu_blocks import Problem, ceil_divide
from search_spaces.space import Constraint, Knob, boolean, choice

STACK_BYTES = 768 << 10  # of private panels; Intel's runtime gives a work-item 1 MiB at the least
LEAST_BLOCK_K = 96  # shorter sums spend their time on loading and storing C
WASTE = 0.34  # of the cores' time, for want of blocks
MANY_BLOCKS = 16  # blocks a core; more cost launches, and balance no better


def native_lanes(problem: Problem, target: Target) -> int:
    """Elements of a hardware vector, 4 to 16: OpenCL has no longer ones."""
    vector_bytes: int = target.limit("vector_bytes", 32)
    return max(4, min(16, vector_bytes // problem.sum_bytes))


def vector_registers(target: Target) -> int:
    """AVX-512 and SVE have 32 vector registers; AVX2 and SSE have 16."""
    return 32 if target.limit("vector_bytes", 32) >= 64 else 16


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    lanes = native_lanes(problem, target)
    vectors = ceil_divide(problem.n, lanes)
    column_tiles = _up_to(vectors, (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 64))
    row_blocks = _up_to(problem.m, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256))
    k_blocks = _up_to(ceil_divide(problem.k, LEAST_BLOCK_K), (1, 2, 3, 4, 5, 6, 8, 12, 16, 32))
    return (
        choice("lanes", (lanes,), "elements of a vector: the hardware's"),
        choice("tile_m", _up_to(problem.m, (*range(1, 11), 12, 13, 14)), "rows of a register tile"),
        choice("tile_vectors", _up_to(vectors, (1, 2, 3, 4, 5, 6, 7)), "vectors in its row"),
        choice("row_blocks", row_blocks, "blocks that the rows of C are cut into"),
        choice("column_tiles", column_tiles, "tiles side by side in a block"),
        choice("k_blocks", k_blocks, "blocks of k: C is visited as often"),
        choice("unroll", (1, 2, 4), "steps of k unrolled"),
        boolean("pack_a", "copy a tile's rows of A before use"),
        boolean("pack_b", "copy a block's columns of B before use"),
        boolean("panels_on_stack", "keep those in private rather than local memory"),
        boolean("rows_first", "neighbouring blocks share columns of B rather than rows of A"),
        choice("prefetch_a", (0, 1, 2, 3), "rows of A below that each tile fetches into the cache"),
        boolean("prefetch_c", "fetch the tile of C while the sums run"),
    )


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_registers(problem, target),
        *_panels(problem, target),
        *_blocks(problem, target),
    )


def _up_to(limit: int, values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(value for value in values if value <= max(1, limit))


def _registers(problem: Problem, target: Target) -> Iterator[Constraint]:
    registers = vector_registers(target)
    yield Constraint(
        ("tile_m", "tile_vectors"),
        lambda tile_m, tile_vectors: tile_m * tile_vectors + tile_vectors + 1 <= registers,
        f"a core has {registers} vector registers; sums of {{tile_m}}x{{tile_vectors}} vectors, a "
        "row of B and an element of A need more",
    )
    sums = min(8, problem.m * ceil_divide(problem.n, native_lanes(problem, target)))
    yield Constraint(
        ("tile_m", "tile_vectors"),
        lambda tile_m, tile_vectors: tile_m * tile_vectors >= sums,
        f"two multiply-add pipes of 4 cycles want {sums} independent sums; "
        "{tile_m}x{tile_vectors} leave them waiting",
    )


def _panels(problem: Problem, target: Target) -> Iterator[Constraint]:
    local_bytes = target.limit("shared_bytes", 32 << 10)
    sizes = ("lanes", "tile_vectors", "column_tiles", "k_blocks")
    yield Constraint(
        (*sizes, "pack_b", "panels_on_stack"),
        lambda lanes, tile_vectors, column_tiles, k_blocks, pack_b, panels_on_stack: (
            not pack_b
            or panels_on_stack
            or problem.panels_bytes(lanes, tile_vectors, column_tiles, k_blocks) <= local_bytes
        ),
        f"panels of {{column_tiles}} tiles exceed the {local_bytes} bytes of local memory",
    )
    yield Constraint(
        (*sizes, "pack_b", "panels_on_stack"),
        lambda lanes, tile_vectors, column_tiles, k_blocks, pack_b, panels_on_stack: (
            not pack_b
            or not panels_on_stack
            or problem.panels_bytes(lanes, tile_vectors, column_tiles, k_blocks) <= STACK_BYTES
        ),
        f"panels of {{column_tiles}} tiles exceed the {STACK_BYTES} bytes that a stack may hold",
    )
    yield Constraint(
        ("tile_m", "k_blocks", "pack_a"),
        lambda tile_m, k_blocks, pack_a: (
            not pack_a or problem.a_panel_bytes(tile_m, k_blocks) <= STACK_BYTES // 4
        ),
        f"{{tile_m}} rows of A exceed the {STACK_BYTES // 4} bytes that a stack may hold",
    )
    yield Constraint(
        ("pack_b", "panels_on_stack"),
        lambda pack_b, panels_on_stack: pack_b or not panels_on_stack,
        "without panels there is nothing to place on the stack",
    )
    yield Constraint(
        ("pack_b",),
        lambda pack_b: pack_b or not problem.b_along_k,
        "B is stored n x k: the elements of a vector lie far apart until they are packed",
    )


def _blocks(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("k_blocks",),
        lambda k_blocks: k_blocks == 1 or problem.stored_bytes == problem.sum_bytes,
        "C keeps partial sums between blocks of k, and would round them to its own type",
    )
    yield Constraint(
        ("k_blocks",),
        lambda k_blocks: ceil_divide(problem.k, problem.block_k(k_blocks)) == k_blocks,
        "{k_blocks} blocks of k would be fewer, as each ends on a multiple of 4",
    )
    yield Constraint(
        ("tile_m", "row_blocks"),
        lambda tile_m, row_blocks: (
            ceil_divide(problem.m, problem.block_m(row_blocks, tile_m)) == row_blocks
        ),
        "{row_blocks} blocks of rows would be fewer, as each is whole tiles of {tile_m}",
    )
    yield Constraint(
        ("lanes", "tile_vectors", "column_tiles"),
        lambda lanes, tile_vectors, column_tiles: (
            (column_tiles - 1) * tile_vectors * lanes < problem.n
        ),
        "{column_tiles} tiles are wider than C",
    )
    yield Constraint(
        ("row_blocks", "lanes", "tile_vectors", "column_tiles", "rows_first"),
        lambda row_blocks, lanes, tile_vectors, column_tiles, rows_first: (
            rows_first or (row_blocks > 1 and column_tiles * tile_vectors * lanes < problem.n)
        ),
        "with one row or one column of blocks there is only one order to take them in",
    )
    yield from _balance(problem, target)


def _balance(problem: Problem, target: Target) -> Iterator[Constraint]:
    units = target.limit("units", 1)
    names = ("row_blocks", "lanes", "tile_vectors", "column_tiles")

    def blocks(row_blocks: int, lanes: int, tile_vectors: int, column_tiles: int) -> int:
        columns = ceil_divide(problem.n, lanes * tile_vectors * column_tiles)
        return problem.batch * row_blocks * columns

    # What cannot be cut further is not held against a schedule.
    lanes = native_lanes(problem, target)
    finest = problem.batch * ceil_divide(problem.m, 8) * ceil_divide(problem.n, 2 * lanes)
    wanted = min(units, finest)
    yield Constraint(
        names,
        lambda *knobs: blocks(*knobs) >= wanted,
        f"fewer blocks than the {units} cores leave cores idle",
    )
    most = max(MANY_BLOCKS * units, 2 * problem.batch)
    yield Constraint(
        names,
        lambda *knobs: blocks(*knobs) <= most,
        f"more than {most} blocks for {units} cores: starting and packing each costs more than "
        "balance gains",
    )
