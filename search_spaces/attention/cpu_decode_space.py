"""Knobs, formulas and constraints of the CPU template for few queries."""

from __future__ import annotations

from collections.abc import Iterator

from records.target import Target
from search_spaces.attention.cpu_vectors import (
    FLOAT_BYTES,
    MANY_GROUPS,
    kv_sequences,
    lanes_of,
    parts_of_keys,
    row_count,
)
from search_spaces.attention.parameters import Parameters
from search_spaces.cpu_target import l1_bytes, vector_registers
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, boolean, choice

MOST_ROWS = 32  # twice the lanes of a vector, which the template `cpu` fills with them
TILE_ROWS = (1, 2, 3, 4, 5, 6, 7, 8)
BLOCK_KEYS = (16, 32, 64, 128, 256, 512)


def all_rows(rows: int, tile_rows: int) -> int:
    """Rows in whole tiles."""
    return ceil_divide(rows, tile_rows) * tile_rows


def private_bytes(given: Parameters, lanes: int, tile_rows: int, block_keys: int) -> int:
    """What a work-item reads and writes again and again beside K and V.

    Queries, sums, weights, and the products of a vector of keys, all of float32.
    """
    rows = all_rows(row_count(given), tile_rows)
    vectors = ceil_divide(given.head_dim, lanes) + ceil_divide(given.v_dim, lanes)
    numbers = rows * (vectors * lanes + block_keys) + tile_rows * lanes * lanes
    return numbers * FLOAT_BYTES


def knobs(given: Parameters, target: Target) -> tuple[Knob, ...]:
    lanes = lanes_of(target)
    rows = row_count(given)
    vectors = ceil_divide(given.v_dim, lanes)
    blocks = [size for size in BLOCK_KEYS if size < given.kv_len]
    return (
        choice("lanes", (lanes,), "floats of a vector: the hardware's"),
        choice("tile_rows", [size for size in TILE_ROWS if size <= rows], "rows of register tiles"),
        choice("tile_keys", (1, 2, 4), "keys of the register tile of products"),
        choice(
            "tile_vectors",
            range(1, min(8, vectors) + 1),
            "vectors of V of the register tile of sums",
        ),
        choice("block_keys", BLOCK_KEYS[: len(blocks) + 1], "keys whose weights are kept"),
        boolean("fetch_rows", "fetch rows of K and V ahead of their use"),
        choice("splits", parts_of_keys(given), "parts of the keys, each a work-item's"),
    )


def constraints(given: Parameters, target: Target) -> tuple[Constraint, ...]:
    return (*_tiles(given, target), *_memory(given, target), *_splits(given, target))


def _tiles(given: Parameters, target: Target) -> Iterator[Constraint]:
    registers = vector_registers(target)
    rows = row_count(given)
    for knob, what in (("tile_keys", "keys"), ("tile_vectors", "vectors of V")):
        yield Constraint(
            ("tile_rows", knob),
            lambda tile_rows, size: tile_rows * size + size + 1 <= registers,
            f"a core has {registers} vector registers; sums of {{tile_rows}} rows by {{{knob}}} "
            f"{what}, these and an element need more",
        )
    vectors = ceil_divide(given.v_dim, lanes_of(target))
    for knob, most in (("tile_rows", rows), ("tile_vectors", vectors)):
        yield Constraint(
            (knob,),
            lambda size, most=most: size >= min(2, most),
            f"tiles of 1 use a vector once that is loaded or converted, where {most} could",
        )
    least = min(all_rows(rows, size) for size in TILE_ROWS if size <= rows)
    yield Constraint(
        ("tile_rows",),
        lambda tile_rows: 4 * all_rows(rows, tile_rows) <= 5 * least,
        f"tiles of {{tile_rows}} rows compute more than a quarter more than the {rows} that "
        "there are",
    )


def _memory(given: Parameters, target: Target) -> Iterator[Constraint]:
    l1 = l1_bytes(target)
    yield Constraint(
        ("lanes", "tile_rows", "block_keys"),
        lambda lanes, tile_rows, block_keys: (
            block_keys == min(BLOCK_KEYS)
            or private_bytes(given, lanes, tile_rows, block_keys) <= l1
        ),
        f"queries, sums and weights of {{block_keys}} keys exceed the first-level cache of {l1} "
        "bytes, through which K and V pass",
    )


def _splits(given: Parameters, target: Target) -> Iterator[Constraint]:
    units, whole = target.limit("units", 1), kv_sequences(given)
    yield Constraint(
        ("splits",),
        lambda splits: splits == 1 or whole * splits <= MANY_GROUPS * units,
        f"{{splits}} parts of {whole} heads of K and V are more than {MANY_GROUPS} for each of "
        f"{units} cores: each is merged and balances no better",
    )
