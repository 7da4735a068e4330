"""Knobs and constraints of the mma_sync template, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterator

from records.target import Target
from search_spaces.matmul.mma_sync_resources import (
    MAX_REGISTERS,
    WARP,
    Problem,
    tiles,
    warps,
)
from search_spaces.matmul.portable_resources import (
    STATIC_SHARED_BYTES,
    next_power_of_two,
    no_empty_part,
)
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, boolean, choice, power_of_two

MAX_GRID = 2**31 - 1  # blocks along the first axis of a grid
MAX_PRODUCTS = 512  # in a loop body: 16 KiB of instructions, 2 a product, 4 to 5 with a quantised B
_WARPS = ("block_m", "block_n", "warp_m", "warp_n")
_TILE = ("block_m", "block_n", "block_k")


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    """Tiles much larger than the matrix would be all padding, and are left out."""
    depth = problem.step_k

    def tile(name: str, extent: int, high: int, help: str) -> Knob:
        return power_of_two(name, 16, max(16, min(high, next_power_of_two(extent))), help)

    return (
        tile("block_m", problem.largest, 256, "rows of C of a block"),
        tile("block_n", problem.n, 256, "columns of C of a block"),
        power_of_two("block_k", depth, 8 * depth, "steps of k between two barriers"),
        tile("warp_m", problem.largest, 128, "rows of C of a warp"),
        tile("warp_n", problem.n, 128, "columns of C of a warp"),
        choice("stages", (2, 3, 4, 5, 6, 8), "tiles of A and B in shared memory, in turn"),
        choice("fragments", (1, 2), "sets of operands in registers: 2 loads one ahead"),
        boolean("staged_store", "C goes through shared memory, so that warps write whole lines"),
        choice("resident", (1, 2, 3, 4), "blocks that share a unit, and its registers"),
        power_of_two("split_k", 1, 16, "parts of k, each computed by other blocks"),
        power_of_two("raster", 1, 16, "rows of tiles walked together, to meet in cache"),
    )


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_blocks(problem, target),
        *_memory(problem, target),
        *_registers(problem, target),
        *_walk_along_k(problem),
        *_parts(problem, target),
    )


def _blocks(problem: Problem, target: Target) -> Iterator[Constraint]:
    for axis in "mn":
        yield Constraint(
            (f"block_{axis}", f"warp_{axis}"),
            lambda block, warp: block % warp == 0,
            f"a block of {{block_{axis}}} is cut into whole warps, not of {{warp_{axis}}}",
        )
    largest = target.limit("max_group", 1024) // WARP
    yield Constraint(
        _WARPS,
        lambda *tile: 1 <= warps(*tile) <= largest,
        f"the device runs 1 to {largest} warps in a block; "
        "{block_m}x{block_n} by {warp_m}x{warp_n} are not",
    )
    yield Constraint(
        ("block_m", "block_n"),
        lambda *tile: tiles(problem, *tile) <= MAX_GRID,
        f"a grid has at most {MAX_GRID} blocks; tiles of {{block_m}}x{{block_n}} need more",
    )
    yield Constraint(
        ("raster", "block_m"),
        lambda raster, block: raster == 1 or raster <= ceil_divide(problem.largest, block),
        f"{problem.largest} rows hold fewer than {{raster}} tiles of {{block_m}}: the same order "
        "again",
    )


def _memory(problem: Problem, target: Target) -> Iterator[Constraint]:
    available = target.limit("shared_bytes", STATIC_SHARED_BYTES)
    yield Constraint(
        (*_TILE, "stages", "resident"),
        lambda m, n, k, stages, resident: (
            resident * stages * problem.tile_bytes(m, n, k) <= available
        ),
        f"a unit has {available} bytes of shared memory for {{resident}} block(s); {{stages}} "
        "tiles of ({block_m}+{block_n})x{block_k} elements need more",
    )
    yield Constraint(
        (*_WARPS, "staged_store"),
        lambda m, n, warp_m, warp_n, staged: (
            warps(m, n, warp_m, warp_n) == 0
            or problem.shared_bytes(m, n, 0, warp_m, warp_n, 0, staged) <= available
        ),
        f"a block has {available} bytes of shared memory; 16 rows of C of each warp of "
        "{block_m}x{block_n} by {warp_m}x{warp_n} need more",
    )


def _registers(problem: Problem, target: Target) -> Iterator[Constraint]:
    knobs = ("warp_m", "warp_n", "fragments")
    yield Constraint(
        knobs,
        lambda *tile: problem.registers(*tile) <= MAX_REGISTERS,
        f"a thread has at most {MAX_REGISTERS} registers; sums of {{warp_m}}x{{warp_n}} and "
        "{fragments} set(s) of operands need more, and would spill to memory",
    )
    available = target.limit("registers", 65536)
    yield Constraint(
        (*_WARPS, "fragments", "resident"),
        lambda m, n, warp_m, warp_n, fragments, resident: (
            WARP * warps(m, n, warp_m, warp_n) * problem.registers(warp_m, warp_n, fragments)
            <= available // resident
        ),
        f"a unit has {available} registers for {{resident}} whole block(s); "
        "{block_m}x{block_n} by {warp_m}x{warp_n} needs more",
    )
    most = MAX_PRODUCTS // 2 if problem.quantised else MAX_PRODUCTS
    yield Constraint(
        ("warp_m", "warp_n", "block_k"),
        lambda m, n, k: (m // 16) * (n // 8) * (k // problem.product_k) <= most,
        f"{{warp_m}}x{{warp_n}}x{{block_k}} are more than {most} products in a loop body, "
        "which outgrows instruction caches",
    )


def _walk_along_k(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("fragments", "block_k"),
        lambda fragments, block_k: fragments == 1 or block_k >= 2 * problem.step_k,
        f"operands are loaded for {problem.step_k} steps of k, all of a tile of {{block_k}}: there "
        "is no second set to load ahead",
    )
    yield Constraint(
        ("stages", "block_k", "split_k"),
        lambda stages, block_k, split_k: (
            stages - 1 <= ceil_divide(ceil_divide(problem.k, block_k), split_k)
        ),
        f"a part of {problem.k} steps, one of {{split_k}}, has fewer tiles of {{block_k}} than "
        "{stages} stages keep under way",
    )


def _parts(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("block_k", "split_k"),
        lambda block_k, split_k: no_empty_part(problem.k, block_k, split_k),
        f"{{split_k}} equal parts of {problem.k} steps in tiles of {{block_k}} "
        "would leave a part without work",
    )
    for limit, meaning in (("max_buffer_bytes", "a single buffer"), ("memory_bytes", "memory")):
        available = target.limit(limit, None)
        if available is not None:
            yield Constraint(
                ("split_k",),
                lambda split_k, available=available: (
                    problem.partial_sums_bytes(split_k) <= available
                ),
                f"partial sums of {{split_k}} parts exceed {available} bytes, the limit of "
                f"{meaning}",
            )
