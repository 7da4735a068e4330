"""The tensor maps of the wgmma attention: boxes of Q, K, V and the output that TMA moves."""

from __future__ import annotations

from records.schedule import Schedule
from search_spaces.attention.parameters import Strides
from search_spaces.attention.wgmma_resources import LINE_BYTES, PANEL, ROWS, Problem
from search_spaces.tensor_map import TensorMap

_WARP_ROWS = 16
_PROMOTION_BYTES = 256  # that a load brings into L2 at least: rows of two panels, in one go


def tensor_maps(problem: Problem, schedule: Schedule) -> tuple[TensorMap, ...]:
    """Those of Q, K and V and, where TMA stores it, of the output."""
    given = problem.given
    packed = problem.packed_heads(schedule["pack_heads"])
    key_rows = problem.page_rows(schedule["tile_n"]) or schedule["tile_n"] // schedule["cluster"]
    q_rows = ROWS * schedule["consumers"]
    maps = (
        _rows(problem, "q", given.head_dim, given.q_strides, packed, q_rows),
        _keys(problem, "k", given.head_dim, given.k_strides, key_rows),
        _keys(problem, "v", given.v_dim, given.v_strides, key_rows),
    )
    if schedule["store"] == "direct":
        return maps
    return (*maps, _rows(problem, "out", given.v_dim, given.out_strides, packed, _WARP_ROWS))


def _rows(
    problem: Problem,
    array: str,
    dim: int,
    strides: Strides,
    packed_heads: int,
    box_rows: int,
) -> TensorMap:
    """Rows of `packed_heads` neighbouring heads side by side, then of the next query."""
    given = problem.given
    sequences, queries = (1, given.total_q) if given.packed else (given.batch, given.q_len)
    whole = given.total_q * given.heads * dim  # where an axis has one element, any stride serves
    return TensorMap(
        name=f"{array}_map",
        array=array,
        dtype=given.dtype,
        shape=(sequences, given.heads // packed_heads, queries, packed_heads, dim),
        strides=(strides.batch or whole, strides.head * packed_heads, strides.row, strides.head, 1),
        box=(1, 1, box_rows // packed_heads, packed_heads, PANEL),
        swizzle_bytes=LINE_BYTES,
        l2_promotion_bytes=_PROMOTION_BYTES,
    )


def _keys(problem: Problem, array: str, dim: int, strides: Strides, box_rows: int) -> TensorMap:
    """A panel of rows of one head, of a sequence, of all of them packed, or of a page."""
    given = problem.given
    if given.page_size:
        first, rows, outer = given.pages, given.page_size, given.page_stride(dim)
    elif given.packed_kv:
        rows = max(1, sum(given.kv_lens))
        first, outer = 1, rows * given.kv_heads * dim
    else:
        first, rows, outer = given.batch, given.kv_len, strides.batch
    return TensorMap(
        name=f"{array}_map",
        array=array,
        dtype=given.dtype,
        shape=(first, given.kv_heads, rows, dim),
        strides=(outer, strides.head, strides.row, 1),
        box=(1, 1, box_rows, PANEL),
        swizzle_bytes=LINE_BYTES,
        l2_promotion_bytes=_PROMOTION_BYTES,
    )
