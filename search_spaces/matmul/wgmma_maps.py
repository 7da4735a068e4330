"""The tensor maps of the wgmma template: boxes of A, B and C that one TMA instruction moves."""

from __future__ import annotations

from records.schedule import Schedule
from search_spaces.matmul.wgmma_resources import SWIZZLE_BYTES, Operand, Problem
from search_spaces.tensor_map import TensorMap


def tensor_maps(problem: Problem, schedule: Schedule) -> tuple[TensorMap, ...]:
    """Those of the left and right operand and, where TMA stores it, of C; the batch is an axis."""
    left, right = problem.sides(schedule["swap"])
    maps = (
        _load(problem, schedule, "left_map", left, schedule["tile_m"], schedule["cluster_n"]),
        _load(problem, schedule, "right_map", right, schedule["tile_n"], schedule["cluster_m"]),
    )
    return (*maps, _store(problem, schedule)) if schedule["store"] == "tma" else maps


def _load(
    problem: Problem, schedule: Schedule, name: str, operand: Operand, tile: int, shares: int
) -> TensorMap:
    """A panel of a tile, or the part of its lines that one of `shares` blocks loads for all."""
    panel = SWIZZLE_BYTES // problem.operand_bytes
    lines = tile if operand.along_k else schedule["tile_k"]
    shape = (operand.extent, problem.k) if operand.along_k else (problem.k, operand.extent)
    return TensorMap(
        name=name,
        array=operand.array,
        dtype=problem.dtype,
        shape=(operand.products, *shape),
        box=(1, lines // shares, panel),
        swizzle_bytes=SWIZZLE_BYTES,
        l2_promotion_bytes=schedule["l2_promotion"],
    )


def _store(problem: Problem, schedule: Schedule) -> TensorMap:
    """A piece of C: 16 rows of a warp's sums by a chunk of columns, or that transposed."""
    chunk = problem.chunk(schedule["tile_n"])
    box = (chunk, 16) if schedule["swap"] else (16, chunk)
    row_bytes = box[1] * problem.c_bytes
    return TensorMap(
        name="c_map",
        array="c",
        dtype=problem.out_dtype,
        shape=(problem.batch, problem.m, problem.n),
        box=(1, *box),
        swizzle_bytes=row_bytes if row_bytes > 16 else 0,
    )
