"""The integer functions of the CUDA templates, compiled as C: orders, swizzles, what lanes own."""

from __future__ import annotations

import ctypes
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest

TILES = Path(__file__).parents[3] / "search_spaces" / "matmul" / "tiles.h"
EXPORTED = {
    "tile_row": 4,
    "tile_column": 4,
    "first_step_of": 3,
    "steps_of": 3,
    "swizzled": 4,
    "in_turn": 1,
    "sum_row": 2,
    "sum_column": 2,
}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The functions of tiles.h, through a library of wrappers in plain C."""
    directory = tmp_path_factory.mktemp("tiles")
    names = [(name, [f"x{i}" for i in range(count)]) for name, count in EXPORTED.items()]
    wrappers = [
        f"int c_{name}({', '.join('int ' + x for x in xs)}) {{ return {name}({', '.join(xs)}); }}"
        for name, xs in names
    ]
    source, library = directory / "tiles.c", directory / "tiles.so"
    source.write_text(f'#include "{TILES}"\n' + "\n".join(wrappers) + "\n")
    strict = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")
    try:
        subprocess.run(["gcc", *strict, "-shared", "-fPIC", source, "-o", library], check=True)
    except FileNotFoundError:
        pytest.skip("needs gcc")
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize(
    ("rows", "columns", "raster"), [(1, 7, 1), (5, 3, 2), (8, 4, 16), (9, 5, 4)]
)
def test_every_tile_has_its_turn(tiles: Any, rows: int, columns: int, raster: int) -> None:
    visited = [
        (tiles.c_tile_row(i, rows, columns, raster), tiles.c_tile_column(i, rows, columns, raster))
        for i in range(rows * columns)
    ]
    assert sorted(visited) == list(product(range(rows), range(columns)))
    in_first_band = visited[: min(raster, rows) * columns]
    assert {row for row, _ in in_first_band} == set(range(min(raster, rows)))


@pytest.mark.parametrize(("steps", "parts"), [(1, 1), (7, 2), (16, 4), (9, 3), (5, 4)])
def test_parts_of_k_follow_each_other(tiles: Any, steps: int, parts: int) -> None:
    walked: list[int] = []
    for part in range(parts):
        first = tiles.c_first_step_of(part, steps, parts)
        walked += range(first, first + max(0, tiles.c_steps_of(part, steps, parts)))
    assert walked == list(range(steps))


SHAPES = list(product((2, 4, 8, 16, 32, 64), (1, 2)))  # chunks of a line, turn


@pytest.mark.parametrize(("chunks", "turn"), SHAPES)
def test_every_chunk_has_its_own_place(tiles: Any, chunks: int, turn: int) -> None:
    lines = 32
    places = sorted(
        tiles.c_swizzled(line, chunk, chunks, turn)
        for line, chunk in product(range(lines), range(chunks))
    )
    assert places == [16 * i for i in range(lines * chunks)]


def meetings(places: list[int], width: int) -> int:
    """How often the fullest of 32 banks of 4 bytes is asked, by accesses of `width` bytes."""
    words = {(place + byte) // 4 for place in places for byte in range(0, width, 4)}
    counts = [sum(word % 32 == bank for word in words) for bank in range(32)]
    return max(counts)


@pytest.mark.parametrize("chunks", [2, 4, 8, 16, 32, 64])
def test_matrix_loads_meet_in_no_bank(tiles: Any, chunks: int) -> None:
    """`ldmatrix` takes a chunk of each of 8 lines at a time: those of a matrix, 8 aligned lines."""
    for first, chunk in product((0, 8, 16), range(chunks)):
        places = [tiles.c_swizzled(first + i, chunk, chunks, 1) for i in range(8)]
        assert meetings(places, 16) == 1


@pytest.mark.parametrize("chunks", [8, 16, 32, 64])
def test_single_elements_across_k_meet_in_no_bank(tiles: Any, chunks: int) -> None:
    """Lane l of 4-byte fragments takes element l / 4 of 8 neighbours, of line l % 4."""
    for first, chunk in product((0, 4, 8), range(0, chunks, 2)):
        places = [
            tiles.c_swizzled(first + lane % 4, chunk + lane // 16, chunks, 2) + lane // 4 % 4 * 4
            for lane in range(32)
        ]
        assert meetings(places, 4) == 1


@pytest.mark.parametrize("chunks", [4, 8, 16, 32])
def test_vectors_meet_in_no_bank(tiles: Any, chunks: int) -> None:
    """Eight lanes at a time take 16 bytes each, four neighbours of each of two lines."""
    for line, first in product(range(0, 16, 2), range(0, chunks, 4)):
        places = [tiles.c_swizzled(line + i // 4, first + i % 4, chunks, 4) for i in range(8)]
        assert meetings(places, 16) == 1


@pytest.mark.parametrize("chunks", [2, 4, 8, 16])
def test_vectors_of_8_bytes_meet_in_no_bank(tiles: Any, chunks: int) -> None:
    """Sixteen lanes at a time, four neighbours of each of four lines: int8 of a quantised B."""
    for line, first in product(range(0, 16, 4), range(0, chunks, 2)):
        places = [
            tiles.c_swizzled(line + i // 4, first + i % 4 // 2, chunks, 2) + i % 2 * 8
            for i in range(16)
        ]
        assert meetings(places, 8) == 1


@pytest.mark.parametrize("chunks", [1, 2, 4, 8])
def test_words_meet_in_no_bank(tiles: Any, chunks: int) -> None:
    """All lanes, four neighbours of each of eight lines: int4 of a quantised B."""
    for line, chunk in product((0, 8, 16), range(chunks)):
        places = [tiles.c_swizzled(line + i // 4, chunk, chunks, 1) + i % 4 * 4 for i in range(32)]
        assert meetings(places, 4) == 1


def test_pairs_of_k_lie_together(tiles: Any) -> None:
    """A step's 32 lines: eight places for pair x of the eights that lanes multiply."""
    places = [tiles.c_in_turn(line) for line in range(64)]
    assert sorted(places) == list(range(64))
    for x in range(4):
        pairs = [places[8 * eight + 2 * x + i] for eight, i in product(range(4), range(2))]
        assert pairs == list(range(8 * x, 8 * x + 8))


@pytest.mark.parametrize(("chunks", "turn"), [(1, 1), (2, 4), *SHAPES])
def test_lines_that_are_8_apart_are_permuted_alike(tiles: Any, chunks: int, turn: int) -> None:
    for line, chunk in product(range(8), range(chunks)):
        first = tiles.c_swizzled(line, chunk, chunks, turn)
        assert tiles.c_swizzled(line + 8, chunk, chunks, turn) == first + 8 * chunks * 16


@pytest.mark.parametrize(("chunks", "turn"), SHAPES)
def test_copies_meet_in_no_bank(tiles: Any, chunks: int, turn: int) -> None:
    """Eight lanes at a time write eight neighbouring chunks."""
    for first in range(0, 16 * chunks, 8):
        each = range(first, first + 8)
        places = [tiles.c_swizzled(i // chunks, i % chunks, chunks, turn) for i in each]
        assert meetings(places, 16) == 1


@pytest.mark.parametrize("width", [16, 32, 64, 128])
def test_sums_on_their_way_to_c_meet_in_no_bank(tiles: Any, width: int) -> None:
    """Two neighbours of a row at once, lines 8 words apart; or one of a column, 4 apart."""
    lanes = [(tiles.c_sum_row(lane, 0), tiles.c_sum_column(lane, 0)) for lane in range(32)]
    for half in (lanes[:16], lanes[16:]):
        if width > 16:
            assert meetings([4 * (row * (width + 8) + column) for row, column in half], 8) == 1
    assert meetings([4 * (column * (width + 4) + row) for row, column in lanes], 4) == 1


def test_lanes_own_every_sum_once(tiles: Any) -> None:
    owned = {
        (tiles.c_sum_row(lane, i), tiles.c_sum_column(lane, i))
        for lane, i in product(range(32), range(4))
    }
    assert owned == set(product(range(16), range(8)))
