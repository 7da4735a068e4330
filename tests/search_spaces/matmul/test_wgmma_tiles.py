"""The index arithmetic of the wgmma kernel, its own text compiled as C: who computes which tile,
and where elements lie in shared memory."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from wgmma_cases import GPU, HostCode, rendered, schedule

from records.workload import Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.wgmma import WGMMA
from search_spaces.matmul.wgmma_resources import Problem

Ints = npt.NDArray[np.int64]

EXPERTS = matmul(n=520, k=496, groups=(0, 300, 1, 0, 128, 259), dtype="bfloat16", layout="nt")
RAGGED = matmul(m=1300, n=1000, k=1000, dtype="bfloat16", layout="nt")


@pytest.mark.parametrize(
    ("workload", "knobs"),
    [
        (RAGGED, {"blocks": 0}),
        (RAGGED, {"group": 1, "tile_n": 32}),
        (RAGGED, {"raster": "columns", "group": 4, "tile_n": 64}),
        (RAGGED, {"raster": "hilbert", "group": 4, "tile_n": 32, "tile_m": 64, "consumers": 1}),
        (RAGGED, {"raster": "hilbert", "group": 8, "tile_n": 64, "cluster_n": 2, "blocks": 0}),
        (RAGGED, {"cluster_m": 2, "cluster_n": 2, "group": 2, "tile_n": 32}),
        (RAGGED, {"cluster_m": 4, "split_k": 3, "store": "direct", "buffers": 1, "blocks": 128}),
        (RAGGED, {"split_k": 16, "store": "direct", "buffers": 1, "group": 2}),
        (
            matmul(m=40, n=3000, k=500, batch=3, dtype="float16", layout="tn"),
            {"swap": True, "tile_n": 64, "tile_m": 64, "consumers": 1, "group": 4, "blocks": 128},
        ),
        (matmul(m=1, n=8, k=8, dtype="bfloat16", layout="nt"), {"group": 1, "blocks": 0}),
        (RAGGED, {"stream_k": True, "blocks": 28, "cluster_m": 2, "group": 2}),
        (RAGGED, {"stream_k": True, "group": 1}),  # fewer tiles than clusters
        (EXPERTS, {"stream_k": True, "blocks": 8, "store": "direct", "group": 1}),
        (EXPERTS, {"blocks": 0, "group": 2}),
        (EXPERTS, {"split_k": 3, "blocks": 8, "group": 1, "cluster_m": 2}),
        (EXPERTS, {"raster": "hilbert", "group": 4, "tile_n": 32, "tile_m": 64, "consumers": 1}),
        (EXPERTS, {"swap": True, "tile_n": 16, "tile_m": 64, "consumers": 1, "cluster_n": 2}),
    ],
)
def test_every_block_together_computes_every_tile_and_step_once(
    tmp_path: Path, workload: Workload, knobs: dict[str, Any]
) -> None:
    chosen = schedule(**knobs)
    code = HostCode(rendered(workload, chosen), tmp_path)
    problem, cluster = Problem.of(workload), chosen["cluster_m"] * chosen["cluster_n"]
    launched = code.macros["CLUSTERS"]
    tile, other = (
        (chosen["tile_n"], chosen["tile_m"])
        if chosen["swap"]
        else (chosen["tile_m"], chosen["tile_n"])
    )
    ends = list(accumulate(problem.groups))
    spans = [(end - rows, rows) for end, rows in zip(ends, problem.groups, strict=True)] or [
        (0, problem.m)
    ] * problem.batch
    seen: Counter[tuple[int, int, int, int]] = Counter()
    for first in range(launched):
        for turn in range(code.units_of(first)):
            for rank in range(cluster):
                unit = code.unit_of(first, turn, rank)
                assert unit.steps > 0
                assert unit.batch == (0 if problem.groups else unit.product)
                if unit.row >= unit.row_end or unit.column >= unit.column_end:
                    continue  # a block of a cluster that reaches beyond C
                for step in range(unit.first_step, unit.first_step + unit.steps):
                    seen[unit.product, unit.row, unit.column, step] += 1
    assert set(seen.values()) == {1}
    assert set(seen) == {
        (product, first + row, column, step)
        if not chosen["swap"]
        else (product, column, first + row, step)
        for product, (first, rows) in enumerate(spans)
        for row in range(0, rows, tile)
        for column in range(0, problem.n, other)
        for step in range(-(-problem.k // chosen["tile_k"]))
    }


@pytest.mark.parametrize("blocks", [128, 132, 60, 26])
@pytest.mark.parametrize("k", [64, 1000])
def test_what_stream_k_adds_is_what_clusters_left(tmp_path: Path, blocks: int, k: int) -> None:
    """11 x 8 tiles: every slot is written once, and belongs to the tile that is made of it."""
    workload = matmul(m=1300, n=1000, k=k, dtype="bfloat16", layout="nt")
    source = rendered(workload, schedule(stream_k=True, blocks=blocks, group=1))
    code = HostCode(source, tmp_path)
    steps, written = -(-k // 64), {}
    for cluster in range(code.macros["CLUSTERS"]):
        for turn in range(code.units_of(cluster)):
            unit = code.unit_of(cluster, turn, 0)
            if unit.slot >= 0:
                assert unit.slot not in written
                written[unit.slot] = (unit.row, unit.column)
    read = {}
    tiles = source.launches[1].groups[0] // (128 // 64 * 128 // 8)
    for tile in range(tiles):
        first, last = code.sharer_of(tile * steps), code.sharer_of((tile + 1) * steps - 1)
        unit = code.unit_of(first, tile - code.share_first(first), 0)
        sharers = [
            sharer
            for sharer in range(first, last + 1)
            if code.share_begin(sharer) < code.share_begin(sharer + 1)
        ]
        if first < last:
            read |= {code.slot_of(s, tile): (unit.row, unit.column) for s in sharers}
    assert read == written
    assert bool(written) == (k > 64)
    scratch = source.scratch[0].bytes // (128 * 128 * 4)
    assert all(slot < scratch for slot in written)


@pytest.mark.parametrize("group", [4, 8, 16, 32])
def test_hilbert_order_moves_to_a_neighbour_in_every_square(tmp_path: Path, group: int) -> None:
    chosen = schedule(raster="hilbert", group=group, tile_m=64, tile_n=64, consumers=1)
    code = HostCode(rendered(matmul(m=4096, n=4096, k=64, dtype="bfloat16"), chosen), tmp_path)
    places = [code.place_of(index, 64, 64) for index in range(group * group)]
    assert len({(place.row, place.column) for place in places}) == group * group
    for here, there in zip(places, places[1:], strict=False):
        assert abs(here.row - there.row) + abs(here.column - there.column) == 1


def test_bands_turn_round_at_their_ends(tmp_path: Path) -> None:
    code = HostCode(rendered(RAGGED, schedule(group=2)), tmp_path)  # 11 x 8 tiles
    places = [code.place_of(index, 11, 8) for index in range(88)]
    assert [(place.row, place.column) for place in places[14:18]] == [
        (0, 7),
        (1, 7),
        (2, 7),
        (3, 7),
    ]
    assert (places[-1].row, places[-1].column) == (10, 0)  # the sixth band, walked back


# ---- Shared memory, as TMA writes it and the tensor cores read it


def swizzled(address: Ints, width: int = 128) -> Ints:
    """CUDA driver API, CU_TENSOR_MAP_SWIZZLE: 16-byte units, by the number of the 128-byte line."""
    return np.asarray(address ^ ((address >> 7) & (width // 16 - 1)) << 4)


def filled(code: HostCode, along_k: bool, extent: int, step: int, shares: int) -> dict[int, Any]:
    """What TMA leaves in a tile whose first row is 640: address -> (row, k)."""
    size, panel = code.macros["OPERAND_BYTES"], 128 // code.macros["OPERAND_BYTES"]
    lines = (extent if along_k else code.macros["TILE_K"]) // shares
    line, element = (grid.ravel() for grid in np.mgrid[:lines, :panel])
    memory: dict[int, Any] = {}
    for share in range(shares):
        for index in range(code.panels_of(along_k, extent)):
            box = code.box_of(along_k, extent, 640, step, shares, share, index)
            assert box.place % 1024 == 0
            addresses = swizzled(box.place + line * 128 + element * size)
            fast, slow = box.x + element, box.y + line
            rows, steps = (slow, fast) if along_k else (fast, slow)
            elements = zip(rows.tolist(), steps.tolist(), strict=True)
            memory |= dict(zip(addresses.tolist(), elements, strict=True))
    return memory


def read(code: HostCode, along_k: bool, start: int, rows: int) -> Ints:
    """Addresses of `rows` x 32 bytes of k for the tensor cores: canonical layouts of PTX."""
    size = code.macros["OPERAND_BYTES"]
    row, k = np.mgrid[:rows, : 32 // size]
    if along_k:
        return swizzled(start + row // 8 * 1024 + row % 8 * 128 + k * size)
    panel_bytes = code.macros["TILE_K"] * 128
    across = row // 64 * panel_bytes + row % 64 * size
    return swizzled(start + across + k // 8 * 1024 + k % 8 * 128)


@pytest.mark.parametrize("layout", ["nt", "tn"])
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"tile_m": 256, "tile_n": 64, "cluster_n": 4, "stages": 2},
        {"tile_k": 128, "cluster_m": 2, "cluster_n": 2, "stages": 2},
        {"tile_n": 192, "cluster_m": 4, "consumers": 1, "tile_m": 64},
    ],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "tf32"])
def test_tensor_cores_find_what_tma_stored(
    tmp_path: Path, layout: str, knobs: dict[str, Any], dtype: str
) -> None:
    if layout == "tn" and dtype != "bfloat16":
        layout = "nt"
    size = {"bfloat16": 2, "int8": 1, "tf32": 4}[dtype]
    chosen = schedule(**{**knobs, "tile_k": knobs.get("tile_k", 64) * 2 // size, "blocks": 0})
    workload = matmul(m=4096, n=4096, k=4096, dtype=dtype, layout=layout)
    assert WGMMA.space(workload, GPU).violations(chosen.values) == []
    code = HostCode(rendered(workload, chosen), tmp_path)
    along_k = layout == "nt"
    sides = (
        (chosen["tile_m"], chosen["cluster_n"], 64),
        (chosen["tile_n"], chosen["cluster_m"], 0),
    )
    for extent, shares, rows in sides:
        memory = filled(code, along_k, extent, 3, shares)
        assert len(memory) == extent * chosen["tile_k"]
        for first in range(0, extent, rows or extent):
            for index in range(chosen["tile_k"] * size // 32):
                start = code.slice_offset(along_k, extent, first, index)
                addresses = read(code, along_k, start, rows or extent)
                first_k = 3 * chosen["tile_k"] + index * 32 // size
                for (row, k), address in np.ndenumerate(addresses):
                    assert memory[int(address)] == (640 + first + row, first_k + k)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("dtype", "out_dtype"),
    [("bfloat16", None), ("bfloat16", "float32"), ("float8_e4m3", "float8_e4m3")],
)
@pytest.mark.parametrize("tile_n", [16, 96, 128])
def test_pieces_of_c_lie_as_their_tensor_map_says(
    tmp_path: Path, swap: bool, dtype: str, out_dtype: str | None, tile_n: int
) -> None:
    workload = matmul(m=128, n=4096, k=4096, dtype=dtype, out_dtype=out_dtype, layout="nt")
    source = rendered(workload, schedule(swap=swap, tile_n=tile_n))
    code, c_map = HostCode(source, tmp_path), source.tensor_maps[-1]
    _, rows, columns = c_map.box
    row, column = np.mgrid[:rows, :columns]
    address = row * columns * c_map.element_bytes + column * c_map.element_bytes
    expected = swizzled(address, max(c_map.swizzle_bytes, 16))
    assert c_map.box_bytes == code.macros["CHUNK"] * 16 * c_map.element_bytes
    found = [[code.staged(r, q) for q in range(columns)] for r in range(rows)]
    assert np.array_equal(np.array(found), expected)
    if c_map.swizzle_bytes >= 32:  # eight rows of one 16-byte unit, as stmatrix writes them
        banks = {found[r][0] // 16 % 8 for r in range(8)}
        assert len(banks) == 8
