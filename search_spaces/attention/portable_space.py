"""Knobs and constraints of the portable template, each constraint with its physical reason."""

from __future__ import annotations

import math
from collections.abc import Iterator

from records.target import Target
from search_spaces.attention.combine import partial_results
from search_spaces.attention.portable_resources import (
    FLOAT_BYTES,
    LOCAL_BYTES,
    MAX_REGISTERS,
    REGISTER_KNOBS,
    SHARED_KNOBS,
    SPARED_REGISTERS,
    Problem,
)
from search_spaces.dtypes import storage
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, choice, power_of_two

VECTOR_ACCESS_BYTES = 16  # the widest memory access of one GPU work-item
MAX_LOOP_BODY = 1024  # multiply-adds; 16 KiB of NVIDIA's instructions, below its L1 cache of them
MAX_UNROLLED = 2048  # the same of weights in registers, whose loop over keys is unrolled
MAX_GROUPS = 2**31 - 1  # CUDA's limit on the x axis of a grid
_BESIDE_A_ROW = 16  # elements of weights, padding and maxima for each row, at least
_CPU_LANES = 16  # of float32 in the widest vectors
MAX_ROWS = 2**30  # counted in 32 bits, to the end of the last tile


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    """Knobs whose other values could not matter on this target, or to this workload, have one.

    On a CPU local memory is ordinary memory: it has no banks, and the work-items of a group take
    turns on one core, so that nothing overlaps. Neighbours there are lanes of vectors: rows side
    by side, which use the same keys and values.
    """
    given, gpu = problem.given, not target.is_cpu
    most_rows = _power_above(problem.rows(True))
    most_keys = _most_keys(problem)
    fitting = _fitting(problem, target)
    lanes = 1 if gpu else min(_CPU_LANES, most_rows, fitting)
    least_rows = _least_rows(problem, target)
    most_threads_k = 1 if lanes == _CPU_LANES else min(64, most_keys)
    grouped = given.queries_per_kv_head > 1 and problem.rows(True) <= MAX_ROWS

    def flag(name: str, has_both: bool, help: str) -> Knob:
        return choice(name, (False, True) if has_both else (False,), help)

    return (
        power_of_two("block_q", least_rows, min(128, most_rows), "rows of a work-group"),
        power_of_two("block_k", min(8, fitting), most_keys, "keys of a step"),
        power_of_two("threads_q", lanes, min(128, most_rows), "work-items along the rows"),
        power_of_two("threads_k", 1, most_threads_k, "work-items along keys and columns"),
        power_of_two("vector", 1, 4, "elements in one global access"),
        power_of_two("lanes", 1, 4, "elements in one local access"),
        flag("pad", gpu, "unused elements after each row in local memory"),
        choice("kv_tiles", (1, 2), "V in the place of K in local memory, or beside it"),
        flag("prefetch", gpu, "fetch the next tile before multiplying by this one"),
        choice("weights_local", (False, True), "weights through local memory"),
        flag("shuffle", target.backend == "cuda", "maxima between lanes of a warp"),
        power_of_two("unroll", 1, 4, "steps along the head unrolled"),
        flag("pack_heads", grouped, "heads that share K and V as rows of one work-group"),
        flag("longest_first", given.causal, "last queries first, which see most keys"),
        power_of_two("splits", 1, 64, "parts of the keys, each computed by other work-groups"),
    )


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_groups(problem, target),
        *_tiles(problem, target),
        *_local_memory(problem, target),
        *(() if target.is_cpu else _registers(problem, target)),
        *_bodies(problem),
        *_vectors(problem),
        *_weights(target),
        *_parts(problem, target),
    )


def _power_above(extent: int) -> int:
    """The least power of two that is not smaller."""
    return 1 << max(0, math.ceil(math.log2(extent)))


def _power_below(extent: int) -> int:
    """The largest power of two that is not larger."""
    return 1 << max(0, extent.bit_length() - 1)


def _fitting(problem: Problem, target: Target) -> int:
    """Rows, or keys, that fill no more than half of the local memory."""
    available = int(target.limit("shared_bytes", LOCAL_BYTES))
    dim = max(problem.given.head_dim, problem.given.v_dim)
    return _power_below(available // (2 * FLOAT_BYTES * (dim + _BESIDE_A_ROW)))


def _least_rows(problem: Problem, target: Target) -> int:
    return min(8, _power_above(problem.given.q_len), _fitting(problem, target))


def _most_keys(problem: Problem) -> int:
    return max(8, min(128, _power_above(problem.given.kv_len)))


def _lockstep(problem: Problem, target: Target) -> int:
    """Work-items that run together; all that fit a group where those are fewer."""
    warp, fitting = int(target.limit("warp", 1)), _fitting(problem, target)
    rows = min(128, _power_above(problem.rows(True)), fitting)
    keys = min(64, _power_below(problem.given.v_dim), _most_keys(problem), fitting)
    return min(warp, rows * keys)


def _groups(problem: Problem, target: Target) -> Iterator[Constraint]:
    largest, warp = target.limit("max_group", 256), _lockstep(problem, target)
    yield Constraint(
        ("threads_q", "threads_k"),
        lambda threads_q, threads_k: threads_q * threads_k <= largest,
        f"the device runs at most {largest} work-items in a group; "
        "{threads_q}x{threads_k} are more",
    )
    if warp > 1:
        yield Constraint(
            ("threads_q", "threads_k"),
            lambda threads_q, threads_k: threads_q * threads_k % warp == 0,
            f"work-items run {warp} in lockstep; {{threads_q}}x{{threads_k}} leave some idle",
        )
    yield Constraint(
        ("block_q", "pack_heads", "splits"),
        lambda block, packed, splits: problem.tiles(block, packed) * splits <= MAX_GROUPS,
        f"tiles of {{block_q}} rows in {{splits}} part(s) are more than {MAX_GROUPS} groups, the "
        "limit of a grid",
    )


def _tiles(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("block_q", "pack_heads"),
        lambda block, packed: (
            block <= max(_least_rows(problem, target), _power_above(problem.rows(packed)))
        ),
        "there are no {block_q} rows that share keys; most of the tile would be padding",
    )
    for name, count in (("block_q", "threads_q"), ("block_k", "threads_k")):
        yield Constraint(
            (name, count),
            lambda block, threads: block % threads == 0,
            f"every work-item must have as many of the tile's {{{name}}}; "
            f"{{{count}}} work-items do not divide them",
        )
    v_dim, head_dim = problem.given.v_dim, problem.given.head_dim
    yield Constraint(
        ("unroll", "lanes"),
        lambda unroll, lanes: unroll == 1 or unroll * lanes <= head_dim,
        f"there are no {{unroll}} steps of {{lanes}} along a head of {head_dim}: the same loop "
        "again",
    )
    yield Constraint(
        ("threads_k", "lanes"),
        lambda threads_k, lanes: (threads_k - 1) * lanes < v_dim,
        f"{{threads_k}} work-items with {{lanes}} columns each share {v_dim} columns of V; "
        "some would have none",
    )


def _local_memory(problem: Problem, target: Target) -> Iterator[Constraint]:
    available = target.limit("shared_bytes", LOCAL_BYTES)
    yield Constraint(
        SHARED_KNOBS,
        lambda *sizes: problem.shared_bytes(*sizes) <= available,
        f"a group has {available} bytes of local memory; tiles of {{block_q}} rows of Q, of "
        f"{{block_k}} keys and values, and {{block_q}}x{{block_k}} weights need more",
    )


def _registers(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        REGISTER_KNOBS,
        lambda *sizes: problem.registers(*sizes) <= MAX_REGISTERS + SPARED_REGISTERS,
        f"a work-item has at most {MAX_REGISTERS} registers; its share of {{block_q}}x{{block_k}} "
        "scores, of the output and of tiles on their way needs more, and would spill to memory",
    )
    available = target.limit("registers", None)
    if available is not None:
        yield Constraint(
            REGISTER_KNOBS,
            lambda *sizes: (
                min(problem.registers(*sizes), MAX_REGISTERS) * sizes[2] * sizes[3] <= available
            ),
            f"a unit has {available} registers for a whole group; "
            "{threads_q}x{threads_k} work-items with {block_q}x{block_k} scores need more",
        )


def _bodies(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("block_q", "block_k", "threads_q", "threads_k", "lanes", "unroll"),
        lambda block_q, block_k, threads_q, threads_k, lanes, unroll: (
            ceil_divide(block_q, threads_q) * ceil_divide(block_k, threads_k) * lanes * unroll
            <= MAX_LOOP_BODY
        ),
        "a loop body of {unroll} times {lanes} steps of a work-item's scores, above "
        f"{MAX_LOOP_BODY} multiply-adds, outgrows instruction caches and takes compilers seconds",
    )
    yield Constraint(
        ("block_q", "threads_q", "threads_k", "lanes"),
        lambda block_q, threads_q, threads_k, lanes: (
            ceil_divide(block_q, threads_q) * problem.columns(threads_k, lanes) * lanes
            <= MAX_LOOP_BODY
        ),
        "a loop body of {lanes} keys for a work-item's columns of {block_q}/{threads_q} rows, "
        f"above {MAX_LOOP_BODY} multiply-adds, outgrows instruction caches and takes compilers "
        "seconds",
    )
    yield Constraint(
        ("weights_local", "block_q", "threads_q", "block_k", "lanes"),
        lambda local, block_q, threads_q, block_k, lanes: (
            local
            or ceil_divide(block_q, threads_q) * block_k * problem.columns(1, lanes) <= MAX_UNROLLED
        ),
        "weights in registers need every key of a step unrolled; {block_k} keys for each of a "
        f"work-item's {{block_q}}/{{threads_q}} rows are above {MAX_UNROLLED} multiply-adds",
    )


def _vectors(problem: Problem) -> Iterator[Constraint]:
    given = problem.given
    widest = VECTOR_ACCESS_BYTES // storage(given.dtype).itemsize
    yield Constraint(
        ("vector",),
        lambda vector: vector <= widest,
        f"one memory access moves at most {VECTOR_ACCESS_BYTES} bytes; {{vector}} elements are "
        "more",
    )
    for dim, name in ((given.head_dim, "Q and K"), (given.v_dim, "V")):
        yield Constraint(
            ("vector",),
            lambda vector, dim=dim: dim % vector == 0,
            f"rows of {name} in memory are {dim} elements, so not each begins at a multiple of "
            "{vector}",
        )
    yield Constraint(
        ("block_k", "lanes"),
        lambda block_k, lanes: block_k % lanes == 0,
        "weights are read {lanes} keys at a time; {block_k} keys leave a part of one",
    )


def _weights(target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("weights_local", "threads_k"),
        lambda local, threads_k: local or threads_k == 1,
        "{threads_k} work-items share a row and must exchange its weights through local memory",
    )
    warp = target.limit("warp", 1)
    yield Constraint(
        ("shuffle", "threads_k", "threads_q"),
        lambda shuffle, threads_k, threads_q: (
            not shuffle or (1 < threads_k <= warp and threads_q * threads_k % warp == 0)
        ),
        f"only work-items of one whole warp, {warp} in lockstep, exchange maxima; {{threads_k}} "
        "of {threads_q}x{threads_k} share a row",
    )


def _parts(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("block_k", "splits"),
        problem.splits_useful,
        f"{{splits}} equal parts of {problem.longest_walk} keys in steps of {{block_k}} would "
        "leave a part without work",
    )
    for limit, meaning in (("max_buffer_bytes", "a single buffer"), ("memory_bytes", "memory")):
        available = target.limit(limit, None)
        if available is not None:
            yield Constraint(
                ("splits",),
                lambda splits, available=available: all(
                    each.bytes <= available for each in partial_results(problem.given, splits)
                ),
                f"sums of {{splits}} parts exceed {available} bytes, the limit of {meaning}",
            )
    units = target.limit("units", 1)
    yield Constraint(
        ("splits", "block_q", "pack_heads"),
        lambda splits, block, packed: (
            splits == 1 or problem.tiles(block, packed) * (splits // 2) < 8 * units
        ),
        f"fewer than {{splits}} parts already give each of {units} units 8 groups; more of them "
        "only add sums to merge",
    )
