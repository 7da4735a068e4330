"""Where warp_tiles.h puts chunks of tiles in shared memory: no two in a place, or in a bank."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest

HEADER = Path(__file__).parents[3] / "search_spaces" / "attention" / "warp_tiles.h"
CHUNK_BYTES, BANK_BYTES, LINES = 16, 128, 64
WIDTHS = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 30, 32, 48, 64]  # in chunks


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The integer functions of the header, as plain C."""
    directory = tmp_path_factory.mktemp("warp_tiles")
    text = HEADER.read_text()
    start, end = text.index("FUNCTION int permuted_chunks"), text.index("template <int WIDTH")
    (directory / "tiles.c").write_text("#define FUNCTION\n" + text[start:end])
    result = directory / "tiles.so"
    try:
        subprocess.run(
            ["gcc", "-O1", "-shared", "-fPIC", directory / "tiles.c", "-o", result], check=True
        )
    except FileNotFoundError:
        pytest.skip("needs gcc")
    return ctypes.CDLL(str(result))


@pytest.mark.parametrize("chunks", WIDTHS)
def test_every_chunk_has_a_place_of_its_own(header: Any, chunks: int) -> None:
    places = {
        header.chunk_offset(line, chunk, chunks) for line in range(LINES) for chunk in range(chunks)
    }
    assert places == set(range(0, LINES * chunks * CHUNK_BYTES, CHUNK_BYTES))


@pytest.mark.parametrize("chunks", WIDTHS)
def test_a_matrix_load_meets_in_no_bank(header: Any, chunks: int) -> None:
    """Eight lines' chunks of one number, together as wide as all banks."""
    for first in range(0, LINES, 8):
        for chunk in range(chunks):
            lines = range(first, first + 8)
            banks = {header.chunk_offset(line, chunk, chunks) % BANK_BYTES for line in lines}
            assert len(banks) == 8


@pytest.mark.parametrize("chunks", WIDTHS)
def test_permutations_repeat_after_eight_lines(header: Any, chunks: int) -> None:
    """As the addresses of matrix loads assume, that differ by numbers known at compile time."""
    for line in range(LINES - 8):
        for chunk in range(chunks):
            further = header.chunk_offset(line + 8, chunk, chunks)
            assert further - header.chunk_offset(line, chunk, chunks) == 8 * chunks * CHUNK_BYTES
