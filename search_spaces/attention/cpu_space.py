"""Knobs and constraints of the CPU template, each constraint with its physical reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product

from records.target import Target
from search_spaces.attention.cpu_blocks import Blocks, block_keys, must_copy
from search_spaces.attention.cpu_vectors import (
    MANY_GROUPS,
    kv_sequences,
    lanes_of,
    parts_of_keys,
    row_count,
)
from search_spaces.attention.parameters import Parameters
from search_spaces.cpu_target import STACK_BYTES, l1_bytes, l2_bytes, vector_registers
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, choice

TILE_VECTORS = (1, 2, 3, 4)
TILE_SIZES = (4, 6, 8, 10, 12, 14, 16, 20, 24)  # keys, or elements of V
PANELS = (1, 2, 3, 4, 6, 8)
BLOCK_KEYS = (32, 64, 96, 128, 192, 256, 384, 512)
LATENCY = 8  # sums under way that keep two multipliers busy, each 4 cycles long
PAYING_ROWS = 64  # that pay for a copy of K or V that is not needed otherwise
LEAST_BUSY = 0.8  # of the share of the best cut
LEAST_L2_BYTES = 256 << 10


def knobs(given: Parameters, target: Target) -> tuple[Knob, ...]:
    lanes = lanes_of(target)
    vectors = ceil_divide(row_count(given), lanes)
    copied = (True,) if must_copy(given) else (False, True)
    several = kv_sequences(given) > 1 and vectors > 1
    return (
        choice("lanes", (lanes,), "floats of a vector: the hardware's"),
        choice("tile_vectors", _up_to(vectors, TILE_VECTORS), "vectors of rows of a panel"),
        choice("tile_keys", TILE_SIZES, "keys of the register tile of scores"),
        choice("tile_dims", _up_to_all(given.v_dim, TILE_SIZES), "elements of V of that of sums"),
        choice("panels", _up_to(vectors, PANELS), "panels of a work-item"),
        choice("block_keys", _or_one(given.kv_len, BLOCK_KEYS), "keys whose weights are kept"),
        choice("unroll", _up_to(given.head_dim, (1, 2, 4)), "steps of head_dim unrolled"),
        choice("copy_k", copied, "copy a block of K before use"),
        choice("copy_v", copied, "copy a block of V before use"),
        choice(
            "heads_first",
            (False, True) if several else (False,),
            "neighbouring groups are of different heads, rather than share K and V",
        ),
        choice("splits", parts_of_keys(given), "parts of the keys, each a work-item's"),
    )


def constraints(given: Parameters, target: Target) -> tuple[Constraint, ...]:
    return (
        *_tiles(given, target),
        *_panels(given),
        *_memory(given, target),
        *_balance(given, target),
    )


def _up_to(limit: int, values: Iterable[int]) -> tuple[int, ...]:
    return tuple(value for value in values if value <= limit)


def _up_to_all(limit: int, values: tuple[int, ...]) -> tuple[int, ...]:
    """Values up to the limit, and the limit where it is below the last one."""
    return tuple(sorted({*_up_to(limit, values), min(limit, values[-1])}))


def _or_one(limit: int, values: tuple[int, ...]) -> tuple[int, ...]:
    """Values below the limit and the first one above it, which is as good as all the others."""
    below = tuple(value for value in values if value < limit)
    return values[: len(below) + 1]


def _tiles(given: Parameters, target: Target) -> Iterator[Constraint]:
    registers = vector_registers(target)
    for knob, what in (("tile_keys", "keys"), ("tile_dims", "elements of V")):
        yield Constraint(
            ("tile_vectors", knob),
            lambda vectors, size: size * vectors + vectors + 1 <= registers,
            f"a core has {registers} vector registers; {{{knob}}} {what} by {{tile_vectors}} "
            "vectors, a row of these and an element need more",
        )
    yield Constraint(
        ("tile_vectors", "tile_keys"),
        lambda vectors, size: size * vectors >= LATENCY,
        "{tile_keys} keys by {tile_vectors} vectors of sums wait for each other: multipliers "
        f"need {LATENCY} under way",
    )
    yield Constraint(
        ("tile_vectors", "tile_dims"),
        lambda vectors, size: size * vectors >= min(LATENCY, given.v_dim),
        "{tile_dims} elements of V by {tile_vectors} vectors of sums wait for each other: "
        f"multipliers need {LATENCY} under way",
    )


def _panels(given: Parameters) -> Iterator[Constraint]:
    rows = row_count(given)
    yield Constraint(
        ("lanes", "tile_vectors", "panels"),
        lambda lanes, vectors, panels: (panels - 1) * vectors * lanes < rows,
        f"{{panels}} panels of {{tile_vectors}} vectors are more than the {rows} rows",
    )
    yield Constraint(
        ("lanes", "tile_vectors", "panels", "heads_first"),
        lambda lanes, vectors, panels, heads_first: (
            not heads_first or panels * vectors * lanes < rows
        ),
        f"{{panels}} panels of {{tile_vectors}} vectors are all the {rows} rows: with one block "
        "a head there is only one order to take them in",
    )
    yield Constraint(
        ("panels", "copy_k", "copy_v"),
        lambda panels, copy_k, copy_v: panels == 1 or copy_k or copy_v,
        "several panels of a work-item share copies only, and there are none",
    )
    if not must_copy(given):
        yield Constraint(
            ("lanes", "tile_vectors", "panels", "copy_k", "copy_v"),
            lambda lanes, vectors, panels, copy_k, copy_v: (
                not (copy_k or copy_v) or panels * vectors * lanes >= PAYING_ROWS
            ),
            f"copies would serve {{panels}} panels of {{tile_vectors}} vectors, fewer than "
            f"{PAYING_ROWS} rows: they cost more than reading K and V where they are",
        )


def _memory(given: Parameters, target: Target) -> Iterator[Constraint]:
    sizes = ("lanes", "tile_vectors", "tile_keys", "panels", "block_keys")
    l1 = l1_bytes(target)
    limit = min(STACK_BYTES, max(l2_bytes(target), LEAST_L2_BYTES))

    def blocks(lanes: int, vectors: int, tile_keys: int, panels: int, about: int) -> Blocks:
        return Blocks(given, vectors * lanes, panels, block_keys(about, tile_keys))

    yield Constraint(
        ("lanes", "tile_vectors", "tile_keys", "block_keys"),
        lambda lanes, vectors, tile_keys, about: (
            about == min(BLOCK_KEYS)
            or blocks(lanes, vectors, tile_keys, 1, about).weights_bytes <= l1
        ),
        f"weights of {{block_keys}} keys exceed the first-level cache of {l1} bytes, and every "
        "tile of V reads them",
    )
    yield Constraint(
        (*sizes, "copy_k", "copy_v"),
        lambda *values: blocks(*values[:-2]).private_bytes(*values[-2:]) <= limit,
        "queries, sums, weights and copies of {panels} panels and {block_keys} keys exceed the "
        f"{limit} bytes that the stack and the second-level cache have for them",
    )


@cache
def _best_share(given: Parameters, lanes: int, units: int) -> float:
    """Of all cuts that are legal otherwise."""
    vectors = _up_to(ceil_divide(row_count(given), lanes), TILE_VECTORS)
    cuts = (
        Blocks(given, vectors * lanes, panels, 1, splits)
        for vectors, panels, splits in product(vectors, PANELS, parts_of_keys(given))
    )
    return max(cut.busy_share(units) for cut in cuts if _is_worth(cut, units))


def _is_worth(cut: Blocks, units: int) -> bool:
    return cut.splits == 1 or cut.count <= MANY_GROUPS * units


def _balance(given: Parameters, target: Target) -> Iterator[Constraint]:
    units = target.limit("units", 1)
    least = LEAST_BUSY * _best_share(given, lanes_of(target), units)
    names = ("lanes", "tile_vectors", "panels", "splits")

    def cut(lanes: int, vectors: int, panels: int, splits: int) -> Blocks:
        return Blocks(given, vectors * lanes, panels, 1, splits)

    yield Constraint(
        names,
        lambda *sizes: _is_worth(cut(*sizes), units),
        f"{{splits}} parts of the keys make more than {MANY_GROUPS} blocks for each of {units} "
        "cores: each is merged and balances no better",
    )
    yield Constraint(
        names,
        lambda *sizes: cut(*sizes).busy_share(units) >= least,
        "blocks of {panels} panels of {tile_vectors} vectors in {splits} parts leave lanes or some "
        f"of the {units} cores without work for more than {1 - least:.0%} of the time",
    )
