"""Knobs and constraints of the skinny template, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterator

from records.target import Target
from search_spaces.matmul.portable_resources import (
    STATIC_SHARED_BYTES,
    no_empty_part,
)
from search_spaces.matmul.skinny_resources import MAX_REGISTERS, WARP, Problem
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, choice, power_of_two

MAX_PRODUCTS = 4096  # multiply-adds in a loop body; 64 KiB of instructions, half an L1.5 cache
MAX_WARPS = 32  # of a block


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    return (
        choice(
            "use_mma",
            _ways(problem),
            "multiply on tensor cores, columns of B as the instruction's rows",
        ),
        power_of_two("groups", 1, 8, "groups of columns of a warp"),
        power_of_two("warps_n", 1, 8, "warps of a block with columns of their own"),
        power_of_two("warps_k", 1, 16, "warps of a block that share columns and cut k"),
        power_of_two("unroll", 1, 8, "steps of k in a round of copies"),
        choice("stages", (2, 3, 4, 6, 8), "rounds of copies in shared memory, in turn"),
        choice("resident", (1, 2, 3, 4), "blocks that share a unit, and its registers"),
        power_of_two("split_k", 1, 32, "parts of k, each computed by other blocks"),
    )


def _ways(problem: Problem) -> tuple[bool, ...]:
    """Only tensor cores are fast enough for elements that first have to be restored."""
    if problem.quantised:
        return (True,)
    return (False, True) if problem.has_mma else (False,)


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_blocks(problem, target),
        *_registers(problem, target),
        *_columns(problem),
        *_walk_along_k(problem),
        *_parts(problem, target),
    )


def _blocks(problem: Problem, target: Target) -> Iterator[Constraint]:
    largest = min(MAX_WARPS, target.limit("max_group", 1024) // WARP)
    yield Constraint(
        ("warps_n", "warps_k"),
        lambda warps_n, warps_k: warps_n * warps_k <= largest,
        f"the device runs at most {largest} warps in a block; {{warps_n}}x{{warps_k}} are more",
    )
    available = target.limit("shared_bytes", STATIC_SHARED_BYTES)
    yield Constraint(
        ("use_mma", "groups", "warps_n", "warps_k", "unroll", "stages", "resident"),
        lambda *sizes: problem.shared_bytes(*sizes[:-1]) * sizes[-1] <= available,
        f"a unit has {available} bytes of shared memory for {{resident}} block(s); {{stages}} "
        "rounds of copies of {warps_n}x{warps_k} warps, or their sums, need more",
    )


def _registers(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("use_mma", "groups"),
        lambda *sizes: problem.registers(*sizes) <= MAX_REGISTERS,
        f"a thread has at most {MAX_REGISTERS} registers; {{groups}} groups of columns and their "
        "sums need more, and would spill to memory",
    )
    available = target.limit("registers", 65536)
    yield Constraint(
        ("use_mma", "groups", "warps_n", "warps_k", "resident"),
        lambda use_mma, groups, warps_n, warps_k, resident: (
            problem.registers(use_mma, groups) * WARP * warps_n * warps_k <= available // resident
        ),
        f"a unit has {available} registers for {{resident}} block(s); {{warps_n}}x{{warps_k}} "
        "warps of {groups} groups need more",
    )
    yield Constraint(
        ("use_mma", "groups", "unroll"),
        lambda use_mma, groups, unroll: (
            use_mma or _lane_products(problem, groups, unroll) <= MAX_PRODUCTS
        ),
        f"{{unroll}} steps of {{groups}} groups are more than {MAX_PRODUCTS} multiply-adds in a "
        "loop body, which outgrows instruction caches",
    )


def _lane_products(problem: Problem, groups: int, unroll: int) -> int:
    shape = problem.shape(False)
    return groups * unroll * problem.m * shape.columns * shape.step_k // WARP


def _columns(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("use_mma", "groups", "warps_n"),
        lambda use_mma, groups, warps_n: (
            groups * warps_n == 1 or problem.block_n(use_mma, groups, warps_n) < 2 * problem.n
        ),
        f"of {{groups}} groups by {{warps_n}} warps half or more lie beyond column {problem.n}",
    )


def _walk_along_k(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("use_mma", "warps_k", "unroll"),
        lambda use_mma, warps_k, unroll: (
            warps_k * unroll == 1 or problem.chunk_k(use_mma, warps_k, unroll) < 2 * problem.k
        ),
        f"of {{warps_k}} warps by {{unroll}} steps half or more lie beyond k of {problem.k}",
    )
    yield Constraint(
        ("use_mma", "warps_k", "unroll", "split_k"),
        lambda use_mma, warps_k, unroll, split_k: no_empty_part(
            problem.k, problem.chunk_k(use_mma, warps_k, unroll), split_k
        ),
        f"{{split_k}} equal parts of {problem.k} steps, {{warps_k}} warps by {{unroll}} at a time, "
        "would leave a part without work",
    )
    yield Constraint(
        ("use_mma", "warps_k", "unroll", "split_k", "stages"),
        lambda use_mma, warps_k, unroll, split_k, stages: (
            stages - 1
            <= ceil_divide(
                ceil_divide(problem.k, problem.chunk_k(use_mma, warps_k, unroll)), split_k
            )
        ),
        f"a part of {problem.k} steps, one of {{split_k}}, has fewer rounds of copies than "
        "{stages} stages keep under way",
    )


def _parts(problem: Problem, target: Target) -> Iterator[Constraint]:
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
