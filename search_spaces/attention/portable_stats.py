"""Statistics of the portable template's schedules, each number with its formula."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from records.schedule import Schedule
from records.target import Target
from search_spaces import dtypes
from search_spaces.attention.combine import partial_bytes
from search_spaces.attention.parameters import Parameters, Sequence, visible_bounds
from search_spaces.attention.portable_resources import (
    FLOAT_BYTES,
    Problem,
    registers,
    shared_bytes,
    threads,
)
from search_spaces.kernel import KernelStats
from search_spaces.rounding import ceil_divide

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Walks:
    """How many steps of `block_k` keys the tiles of one head, or of heads together, walk."""

    total: int  # of all tiles of all sequences
    longest: int  # of one tile
    tiles: int  # that have rows

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(given: Parameters, block_q: int, block_k: int, row_heads: int) -> Walks:
        total = longest = tiles = 0
        for sequence, count in Counter(given.sequences).items():
            steps = _steps(given, sequence, block_q, block_k, row_heads)
            total += int(steps.sum()) * count
            longest = max(longest, int(steps.max(initial=0)))
            tiles += steps.size * count
        return Walks(total, longest, tiles)


def _steps(
    given: Parameters, sequence: Sequence, block_q: int, block_k: int, row_heads: int
) -> Counts:
    """Of each tile: from the first key of its first query to the last one of its last."""
    rows = sequence.q_len * row_heads
    if rows == 0:
        return np.zeros(0, np.int64)
    first, end = visible_bounds(given, sequence, slice(0, sequence.q_len))
    from_rows = np.arange(0, rows, block_q)
    last_rows = np.minimum(from_rows + block_q, rows) - 1
    keys = end[last_rows // row_heads] - first[from_rows // row_heads]
    return np.asarray(-(-keys // block_k), np.int64)


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    Partial sums are written once and read once. A group reuses its local memory and its tile of
    the output; `vector_lanes` is that of global reads.
    """
    given = problem.given
    row_heads = problem.row_heads(schedule["pack_heads"])
    walks = Walks.of(given, schedule["block_q"], schedule["block_k"], row_heads)
    heads = given.heads // row_heads
    groups = problem.tiles(schedule["block_q"], schedule["pack_heads"]) * schedule["splits"]
    scratch_bytes = partial_bytes(given, schedule["splits"])
    columns = problem.columns(schedule["threads_k"], schedule["lanes"]) * schedule["threads_k"]
    sums_bytes = schedule["block_q"] * columns * FLOAT_BYTES
    step_flops = 2.0 * schedule["block_q"] * schedule["block_k"] * (given.head_dim + columns)
    dram_bytes = arrays_bytes + _restreamed_bytes(problem, walks, schedule, target)
    return KernelStats(
        groups=groups,
        threads=threads(schedule),
        shared_bytes=shared_bytes(problem, schedule),
        registers=registers(problem, schedule),
        flops=max(useful_flops, step_flops * walks.total * heads),
        useful_flops=useful_flops,
        dram_bytes=dram_bytes + 2 * scratch_bytes,
        l2_bytes=_l2_bytes(given, walks, schedule, heads) + 2 * scratch_bytes,
        working_set_bytes=shared_bytes(problem, schedule) + sums_bytes,
        vector_lanes=schedule["vector"],
        launches=1 if schedule["splits"] == 1 else 2,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, schedule, walks, groups / max(1, target.limit("units", 1))),
    )


def _step_bytes(given: Parameters, block_k: int) -> int:
    """K and V of a step."""
    return block_k * dtypes.size_bytes(given.kv_dtype, (given.head_dim + given.v_dim,))


def _l2_bytes(given: Parameters, walks: Walks, schedule: Schedule, heads: int) -> float:
    """Every tile reads K and V of its steps; rows of Q are read and of the output written once."""
    walked = walks.total * heads * _step_bytes(given, schedule["block_k"])
    rows = given.total_q * given.heads * (given.head_dim + given.v_dim)
    return float(walked + dtypes.size_bytes(given.dtype, (rows,)))


def _restreamed_bytes(problem: Problem, walks: Walks, schedule: Schedule, target: Target) -> float:
    """What K and V cost beyond their first reading, where those of a head do not fit the cache.

    Tiles of a head that run at the same time, one for each unit, share what they read.
    """
    given = problem.given
    head_bytes = _step_bytes(given, given.kv_len)
    if head_bytes <= target.limit("cache_bytes", 0):
        return 0.0
    tiles = ceil_divide(problem.rows(schedule["pack_heads"]), schedule["block_q"])
    passes = ceil_divide(tiles, target.limit("units", 1))
    return float((passes - 1) * head_bytes * given.batch * given.kv_heads)


def _extra(
    problem: Problem, schedule: Schedule, walks: Walks, waves: float
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `score_flops_per_local_byte`: of the scores' inner loop, two for each product over what is
    read for it; `value_flops_per_local_byte` of the other one. `steps_per_group`: of the longest
    walk. `balance`: of the average walk to the longest. `waves`: groups for each unit.
    """
    rows = ceil_divide(schedule["block_q"], schedule["threads_q"])
    keys = ceil_divide(schedule["block_k"], schedule["threads_k"])
    columns = problem.columns(schedule["threads_k"], schedule["lanes"])
    read = columns + rows * schedule["weights_local"]
    longest = max(1, walks.longest)
    return (
        ("score_flops_per_local_byte", 2.0 * rows * keys / ((rows + keys) * FLOAT_BYTES)),
        ("value_flops_per_local_byte", 2.0 * rows * columns / (read * FLOAT_BYTES)),
        ("steps_per_group", float(ceil_divide(longest, schedule["splits"]))),
        ("balance", walks.total / (longest * max(1, walks.tiles))),
        ("waves", waves),
    )
