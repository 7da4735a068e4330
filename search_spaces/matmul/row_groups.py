"""Groups of rows, each multiplied with a B of its own, as the tables of `row_groups.h`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import accumulate

from search_spaces.rounding import ceil_divide


def row_group_tiles(groups: Sequence[int], tile_rows: int) -> int:
    """Tiles along m; none reaches from one group into another."""
    return sum(ceil_divide(rows, tile_rows) for rows in groups)


def row_group_defines(groups: Sequence[int], tile_rows: int) -> str:
    """The macros of `row_groups.h`, to stand above it; `""` for a product of one size."""
    if not groups:
        return ""
    ends = list(accumulate(groups))
    tiles = list(accumulate(ceil_divide(rows, tile_rows) for rows in groups))
    return (
        f"#define ROW_GROUPS {len(ends)}\n"
        f"#define ROW_GROUP_ENDS {{{_list(ends)}}}\n"
        f"#define ROW_GROUP_TILES {{{_list(tiles)}}}\n"
        f"#define ALL_ROW_GROUP_TILES {tiles[-1]}\n"
    )


def _list(numbers: Iterable[int]) -> str:
    return " \\\n    ".join(textwrap.wrap(", ".join(map(str, numbers)), 90))
