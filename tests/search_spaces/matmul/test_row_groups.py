"""Which group of rows a tile and a row belong to, by tables compiled as C."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces.matmul.row_groups import row_group_defines, row_group_tiles

HEADER = Path(__file__).parents[3] / "search_spaces" / "matmul" / "row_groups.h"
WRAPPER = """
int c_row_group(int tile, int *of)
{
    const struct RowGroup group = row_group_of_tile(tile);
    of[0] = group.first_row, of[1] = group.end_row, of[2] = group.first_tile, of[3] = group.tiles;
    return group.index;
}
int c_row_group_of_row(int row) { return row_group_of_row(row); }
"""


def library(directory: Path, groups: list[int], tile_rows: int) -> ctypes.CDLL:
    name = directory / f"groups-{abs(hash((tuple(groups), tile_rows)))}"
    text = row_group_defines(groups, tile_rows) + HEADER.read_text() + WRAPPER
    name.with_suffix(".c").write_text(text)
    strict = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    try:
        subprocess.run(["gcc", *strict, f"{name}.c", "-o", f"{name}.so"], check=True)
    except FileNotFoundError:
        pytest.skip("needs gcc")
    return ctypes.CDLL(f"{name}.so")


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    groups=st.lists(st.integers(0, 40), min_size=1, max_size=70).filter(any),
    tile_rows=st.sampled_from([16, 32]),
)
def test_tiles_and_rows_find_their_group(groups: list[int], tile_rows: int, tmp_path: Path) -> None:
    found = library(tmp_path, groups, tile_rows)
    tile = row = 0
    for index, rows in enumerate(groups):
        tiles = -(-rows // tile_rows)
        for each in range(tile, tile + tiles):
            of = (ctypes.c_int * 4)()
            assert found.c_row_group(each, of) == index
            assert list(of) == [row, row + rows, tile, tiles]
        assert all(found.c_row_group_of_row(row + i) == index for i in range(rows))
        tile, row = tile + tiles, row + rows
    assert row_group_tiles(groups, tile_rows) == tile


def test_a_product_of_one_size_has_no_table() -> None:
    assert row_group_defines((), 64) == ""
