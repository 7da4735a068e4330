"""Knobs and constraints of the portable template, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterator

from records.target import Target
from search_spaces.matmul.portable_resources import (
    MAX_REGISTERS,
    STATIC_SHARED_BYTES,
    Problem,
    next_power_of_two,
    no_empty_part,
    threads,
)
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, choice, power_of_two

VECTOR_ACCESS_BYTES = 16  # the widest memory access of one GPU work-item
MAX_LOOP_BODY = 512  # multiply-adds; 8 KiB of NVIDIA's instructions, below its L1 instruction cache
GROUPS_AXIS = 65535  # CUDA's limit on the y and z axes of a grid
_TILE = ("block_m", "block_n", "thread_m", "thread_n")
_REGISTER_KNOBS = (
    "block_m",
    "block_n",
    "block_k",
    "thread_m",
    "thread_n",
    "vector_a",
    "vector_b",
    "prefetch",
)


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    """Tiles much larger than the matrix would be all padding, and are left out.

    On a CPU local memory is ordinary memory: it has no banks, and the work-items of a group take
    turns on one core, so that nothing overlaps. Knobs for these have one value there.
    """
    gpu = not target.is_cpu

    def tile(name: str, extent: int, low: int, high: int, help: str) -> Knob:
        return power_of_two(name, low, max(low, min(high, next_power_of_two(extent))), help)

    return (
        tile("block_m", problem.m, 16, 256, "rows of C of a work-group"),
        tile("block_n", problem.n, 16, 256, "columns of C of a work-group"),
        tile("block_k", problem.k, 8, 64, "steps of k between two barriers"),
        power_of_two("thread_m", 1, 16, "rows of C of a work-item"),
        power_of_two("thread_n", 1, 16, "columns of C of a work-item"),
        power_of_two("vector_a", 1, 4, "elements of A in one global read"),
        power_of_two("vector_b", 1, 4, "elements of B in one global read"),
        power_of_two("vector_tile", 1, 4, "elements in one local read, neighbours owned in C"),
        choice(
            "stages",
            (1, 2) if gpu else (1,),
            "tiles in local memory: 2 fills one while the other is used",
        ),
        choice(
            "prefetch",
            (False, True) if gpu else (False,),
            "fetch the next tile before multiplying this one",
        ),
        choice(
            "pad",
            (0, 1, 2, 4, 8) if gpu else (0,),
            "unused elements after each row of a transposed tile",
        ),
        power_of_two("unroll", 1, 8, "steps of k unrolled"),
        power_of_two("split_k", 1, 16, "parts of k, each computed by other work-groups"),
        power_of_two(
            "raster", 1, 16 if gpu else 1, "rows of tiles walked together, to meet in cache"
        ),
    )


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_groups(target),
        *_local_memory(problem, target),
        *_registers(problem, target),
        *_vectors(problem),
        *_walk_along_k(problem, target),
        *_order(problem),
    )


def _groups(target: Target) -> Iterator[Constraint]:
    largest, warp = target.limit("max_group", 256), target.limit("warp", 1)
    yield Constraint(
        _TILE,
        lambda *tile: 1 <= threads(*tile) <= largest,
        f"the device runs at most {largest} work-items in a group; "
        "{block_m}x{block_n} tiles by {thread_m}x{thread_n} need more",
    )
    if warp > 1:
        yield Constraint(
            _TILE,
            lambda *tile: threads(*tile) % warp == 0,
            f"work-items run {warp} in lockstep; "
            "{block_m}x{block_n} tiles by {thread_m}x{thread_n} leave some of them idle",
        )


def _local_memory(problem: Problem, target: Target) -> Iterator[Constraint]:
    available = target.limit("shared_bytes", STATIC_SHARED_BYTES)
    if target.backend == "cuda":
        available = min(available, STATIC_SHARED_BYTES)
    yield Constraint(
        ("block_m", "block_n", "block_k", "stages", "pad"),
        lambda *tiles: problem.shared_bytes(*tiles) <= available,
        f"a group has {available} bytes of local memory; {{stages}} tile(s) of "
        "({block_m}+{block_n})x{block_k} elements and their padding need more",
    )
    transposed = problem.a_along_k or problem.b_along_k
    yield Constraint(
        ("pad", "vector_tile"),
        lambda pad, vector: pad == 0 or (transposed and pad % vector == 0),
        "padding of {pad} would misalign local reads of {vector_tile} elements"
        if transposed
        else "no tile is transposed in this layout, so padding of {pad} only wastes local memory",
    )


def _registers(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        _REGISTER_KNOBS,
        lambda *sizes: problem.registers(*sizes) <= MAX_REGISTERS,
        f"a work-item has at most {MAX_REGISTERS} registers (a CPU's compiler, running one in each "
        "lane of a vector, has fewer); sums of {thread_m}x{thread_n} "
        "and its pieces of the tiles need more, and would spill to memory",
    )
    yield Constraint(
        ("thread_m", "thread_n", "unroll"),
        lambda thread_m, thread_n, unroll: thread_m * thread_n * unroll <= MAX_LOOP_BODY,
        f"a loop body of {{unroll}} times {{thread_m}}x{{thread_n}} multiply-adds, above "
        f"{MAX_LOOP_BODY}, outgrows instruction caches and takes compilers seconds",
    )
    available = target.limit("registers", None)
    if available is not None:
        yield Constraint(
            _REGISTER_KNOBS,
            lambda *sizes: (
                problem.registers(*sizes) * threads(*sizes[:2], *sizes[3:5]) <= available
            ),
            f"a unit has {available} registers for a whole group; "
            "{block_m}x{block_n} tiles by {thread_m}x{thread_n} need more",
        )


def _vectors(problem: Problem) -> Iterator[Constraint]:
    widest = VECTOR_ACCESS_BYTES // problem.stored_bytes
    for name in ("vector_a", "vector_b", "vector_tile"):
        yield Constraint(
            (name,),
            lambda vector: vector <= widest,
            f"one memory access moves at most {VECTOR_ACCESS_BYTES} bytes; "
            f"{{{name}}} elements of {problem.stored_bytes} bytes are more",
        )
    yield from _operand_vectors("a", problem.a_stride, "block_n")
    yield from _operand_vectors("b", problem.b_stride, "block_m")
    for name in ("thread_m", "thread_n"):
        yield Constraint(
            (name, "vector_tile"),
            lambda size, vector: size % vector == 0,
            f"a work-item reads whole vectors of {{vector_tile}}; it owns only {{{name}}}",
        )


def _operand_vectors(operand: str, stride: int, other_block: str) -> Iterator[Constraint]:
    vector = f"vector_{operand}"
    yield Constraint(
        (vector,),
        lambda lanes: stride % lanes == 0,
        f"rows of {operand.upper()} in memory are {stride} elements, "
        f"so not each begins at a multiple of {{{vector}}}",
    )
    # block_m * block_k elements over (block_m / thread_m) * (block_n / thread_n) work-items
    yield Constraint(
        (other_block, "block_k", "thread_m", "thread_n", vector),
        lambda block, block_k, thread_m, thread_n, lanes: (
            block_k * thread_m * thread_n % (block * lanes) == 0
        ),
        f"every work-item must fetch equally many whole vectors of {{{vector}}} of "
        f"{operand.upper()}'s tile, or some would idle",
    )


def _walk_along_k(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("block_k", "split_k"),
        lambda block_k, split_k: no_empty_part(problem.k, block_k, split_k),
        f"{{split_k}} equal parts of {problem.k} steps in tiles of {{block_k}} "
        "would leave a part without work",
    )
    for name, wasted in (("stages", lambda v: v > 1), ("prefetch", lambda v: bool(v))):
        yield Constraint(
            (name, "block_k", "split_k"),
            lambda value, block_k, split_k, wasted=wasted: (
                not wasted(value) or ceil_divide(ceil_divide(problem.k, block_k), split_k) > 1
            ),
            f"with a single tile of {{block_k}} steps there is no next one for {name} to overlap",
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


def _order(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("raster", "block_m"),
        lambda raster, block: raster == 1 or raster <= ceil_divide(problem.m, block),
        f"{problem.m} rows hold fewer than {{raster}} tiles of {{block_m}}: the same order again",
    )
