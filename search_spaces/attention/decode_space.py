"""Knobs and constraints of the decode template, each constraint with its physical reason."""

from __future__ import annotations

import math
from collections.abc import Iterator

from records.target import Target
from search_spaces.attention.combine import partial_bytes, partial_results
from search_spaces.attention.decode_resources import Problem
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.warp_operands import (
    MAX_REGISTERS,
    RESERVED_SHARED_BYTES,
    STATIC_SHARED_BYTES,
    WARP,
)
from search_spaces.matmul.tensor_core_types import capability
from search_spaces.rounding import ceil_divide
from search_spaces.space import Constraint, Knob, choice, power_of_two

MAX_WARPS = 16  # of a block
MAX_RESIDENT = 4
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_MOST_SPLITS = 256
CLUSTERS_SINCE = 90
REGISTER_KNOBS = ("use_mma", "warp_rows", "tile_keys", "q_registers")


def knobs(problem: Problem, target: Target) -> tuple[Knob, ...]:
    return (
        choice("use_mma", _paths(problem), "multiply on tensor cores, or a single row without"),
        choice("warp_rows", (16, 32), "rows of a warp: queries of heads that share a head of K"),
        power_of_two("warps_rows", 1, 4, "warps of a block with the same keys and other rows"),
        power_of_two("warps_keys", 1, 8, "warps of a block that cut a tile of keys"),
        choice("tile_keys", _tiles(problem), "keys of a warp at a time"),
        choice("stages", (2, 3, 4, 6, 8), "tiles of a warp in shared memory, in turn"),
        choice("q_registers", (True, False), "Q stays in registers; or is loaded for each tile"),
        choice("splits", _splits(problem, target), "parts of the keys that a second kernel merges"),
        choice("cluster", _clusters(target), "blocks that share a part and merge what they found"),
        choice("even_parts", _ways(problem), "sequences cut evenly, or in pieces of one size"),
        choice("lazy_rescale", (True, False), "weights may grow before sums are scaled down"),
        choice("resident", (1, 2, 3, MAX_RESIDENT), "blocks that share a unit, and its registers"),
    )


def _paths(problem: Problem) -> tuple[bool, ...]:
    return (True, False) if problem.has_vector_path else (True,)


def _tiles(problem: Problem) -> tuple[int, ...]:
    return tuple(keys for keys in (16, 32) if keys % problem.keys_of_load == 0)


def _ways(problem: Problem) -> tuple[bool, ...]:
    return (True,) if problem.even_lengths else (True, False)


def _clusters(target: Target) -> tuple[int, ...]:
    """8 is what every device with clusters can launch: CUDA C++ Programming Guide."""
    return (1, 2, 4, 8) if capability(target) >= CLUSTERS_SINCE else (1,)


def _splits(problem: Problem, target: Target) -> tuple[int, ...]:
    """Round numbers, and those with which blocks fill the device exactly once."""
    heads = problem.given.batch * problem.given.kv_heads
    units = target.limit("units", 1)
    full = {units * resident // heads for resident in range(1, MAX_RESIDENT + 1)}
    return tuple(sorted({*_SPLITS, *(count for count in full if 1 < count <= _MOST_SPLITS)}))


def constraints(problem: Problem, target: Target) -> tuple[Constraint, ...]:
    return (
        *_blocks(problem, target),
        *_registers(problem, target),
        *_rows(problem),
        *_keys(problem),
        *_parts(problem, target),
    )


def _blocks(problem: Problem, target: Target) -> Iterator[Constraint]:
    largest = min(MAX_WARPS, target.limit("max_group", 1024) // WARP)
    yield Constraint(
        ("warps_rows", "warps_keys"),
        lambda warps_rows, warps_keys: warps_rows * warps_keys <= largest,
        f"a block has at most {largest} warps; {{warps_rows}}x{{warps_keys}} are more",
    )
    available = target.limit("shared_bytes", STATIC_SHARED_BYTES)
    yield Constraint(
        (
            "warp_rows",
            "warps_rows",
            "warps_keys",
            "tile_keys",
            "stages",
            "q_registers",
            "resident",
        ),
        lambda *sizes: (
            (problem.shared_bytes(*sizes[:-1]) + RESERVED_SHARED_BYTES) * sizes[-1]
            <= available + RESERVED_SHARED_BYTES
        ),
        f"a unit has {available} bytes of shared memory for {{resident}} block(s); {{stages}} "
        "tiles of {tile_keys} keys of {warps_keys} warps, or their sums, need more",
    )


def _registers(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("use_mma", "q_registers"),
        lambda use_mma, q_registers: use_mma or q_registers,
        "multiply-add units take Q from registers, where a single row has room",
    )
    yield Constraint(
        REGISTER_KNOBS,
        lambda *sizes: problem.registers(*sizes) <= MAX_REGISTERS,
        f"a thread has at most {MAX_REGISTERS} registers; sums of {{warp_rows}} rows and scores "
        "of {tile_keys} keys need more, and would spill to memory",
    )
    available = target.limit("registers", 65536)
    yield Constraint(
        (*REGISTER_KNOBS, "warps_rows", "warps_keys", "resident"),
        lambda *values: (
            problem.registers(*values[:4]) * WARP * math.prod(values[4:6]) <= available // values[6]
        ),
        f"a unit has {available} registers for {{resident}} block(s); {{warps_rows}}x"
        "{warps_keys} warps of {warp_rows} rows need more",
    )


def _rows(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("warp_rows", "warps_rows"),
        lambda warp_rows, warps_rows: (
            warp_rows * warps_rows == 16 or warp_rows * warps_rows < 2 * problem.rows
        ),
        f"of {{warps_rows}} warps of {{warp_rows}} rows half or more lie beyond row {problem.rows}",
    )


def _keys(problem: Problem) -> Iterator[Constraint]:
    yield Constraint(
        ("warps_keys", "tile_keys"),
        lambda warps_keys, tile_keys: (
            warps_keys == 1 or warps_keys * tile_keys < 2 * problem.seen_keys
        ),
        f"of {{warps_keys}} warps by {{tile_keys}} keys half or more lie beyond the "
        f"{problem.seen_keys} that are seen",
    )
    yield Constraint(
        ("warps_keys", "tile_keys", "splits", "cluster", "stages"),
        lambda warps_keys, tile_keys, splits, cluster, stages: (
            stages <= 2
            or stages - 1
            <= ceil_divide(problem.most_tiles(warps_keys, tile_keys), splits * cluster)
        ),
        f"a block's share of {problem.seen_keys} keys, of {{splits}} parts by {{cluster}}, has "
        "fewer tiles than {stages} stages keep under way",
    )


def _parts(problem: Problem, target: Target) -> Iterator[Constraint]:
    yield Constraint(
        ("warps_keys", "tile_keys", "splits", "cluster"),
        lambda warps_keys, tile_keys, splits, cluster: (
            splits * cluster <= problem.most_tiles(warps_keys, tile_keys)
        ),
        f"{{splits}} parts by {{cluster}} blocks of {problem.seen_keys} keys, {{warps_keys}} warps "
        "by {tile_keys} at a time, would leave a block without work",
    )
    yield Constraint(
        ("splits", "cluster", "even_parts"),
        lambda splits, cluster, even_parts: even_parts or splits * cluster > 1,
        "one piece is as large as its sequence; pieces of one size need more than {splits}",
    )
    for limit, meaning, bytes_of in (
        ("max_buffer_bytes", "a single buffer", _largest_buffer),
        ("memory_bytes", "memory", partial_bytes),
    ):
        available = target.limit(limit, None)
        if available is not None:
            yield Constraint(
                ("splits",),
                lambda splits, available=available, bytes_of=bytes_of: (
                    bytes_of(problem.given, splits) <= available
                ),
                f"the results of {{splits}} parts exceed {available} bytes, the limit of {meaning}",
            )


def _largest_buffer(given: Parameters, splits: int) -> int:
    return max((each.bytes for each in partial_results(given, splits)), default=0)
