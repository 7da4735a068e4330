"""What a schedule of the CPU template asks of a core: formulas beside their meaning."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from search_spaces import dtypes
from search_spaces.attention.combine import partial_bytes
from search_spaces.attention.cpu_blocks import Blocks
from search_spaces.attention.cpu_vectors import FLOAT_BYTES, row_count
from search_spaces.attention.portable_stats import Walks
from search_spaces.kernel import KernelStats


def statistics(
    blocks: Blocks, schedule: Schedule, target: Target, work: float, traffic_bytes: float
) -> KernelStats:
    """`work` and `traffic_bytes`: the op's own floors.

    `flops` counts whole tiles: rows and keys that are not there, or not seen. `l2_bytes`: every
    block reads the keys and values that it sees; partial results are written and read once. The
    working set is all that a work-item keeps.
    """
    given = blocks.given
    vectors, keys, dims = (schedule[f"tile_{name}"] for name in ("vectors", "keys", "dims"))
    scratch_bytes = partial_bytes(given, blocks.splits)
    group = given.queries_per_kv_head
    tiles = Walks.of(given, blocks.tile_rows, keys, group)
    walks = Walks.of(given, blocks.rows, blocks.keys, group)
    tile_flops = 2.0 * blocks.tile_rows * keys * (given.head_dim + given.v_dim)
    key_bytes = dtypes.size_bytes(given.kv_dtype, (given.head_dim + given.v_dim,))
    return KernelStats(
        groups=blocks.count,
        threads=1,
        registers=(max(keys, dims) * vectors + vectors + 1) * schedule["lanes"],
        flops=max(work, tile_flops * tiles.total * given.kv_heads),
        useful_flops=work,
        dram_bytes=float(traffic_bytes + 2 * scratch_bytes),
        l2_bytes=float(walks.total * given.kv_heads * blocks.keys * key_bytes + 2 * scratch_bytes),
        working_set_bytes=float(blocks.private_bytes(schedule["copy_k"], schedule["copy_v"])),
        vector_lanes=schedule["lanes"],
        launches=1 if blocks.splits == 1 else 2,
        scratch_bytes=scratch_bytes,
        extra=_extra(blocks, schedule, target, walks),
    )


def _extra(
    blocks: Blocks, schedule: Schedule, target: Target, walks: Walks
) -> tuple[tuple[str, float], ...]:
    given = blocks.given
    vectors, keys, dims = (schedule[f"tile_{name}"] for name in ("vectors", "keys", "dims"))
    longest = max(1, walks.longest)
    return (
        # share of the cores' time, and of the lanes, that is work
        ("busy_share", blocks.busy_share(target.limit("units", 1))),
        # the average block's work as a share of the longest one's
        ("balance", walks.total / (longest * max(1, walks.tiles))),
        # vectors and elements loaded for a vector multiplication, of scores and of sums
        ("score_loads_per_fma", (keys + vectors) / (keys * vectors)),
        ("value_loads_per_fma", (dims + vectors) / (dims * vectors)),
        # share of v_dim that a smaller tile at the end computes
        ("tail_dims", given.v_dim % dims / given.v_dim),
        # elements copied for a multiplication of one
        ("copies_per_fma", (schedule["copy_k"] + schedule["copy_v"]) / 2 / blocks.rows),
        # what the innermost loops read again and again, for the first-level cache
        ("weights_bytes", float(blocks.weights_bytes)),
        ("panel_bytes", float(blocks.panel_bytes)),
        ("value_tile_bytes", float(blocks.keys * dims * FLOAT_BYTES)),
        ("block_rows", float(min(blocks.rows, row_count(given)))),
    )
