"""What a schedule of the decode template asks of the hardware: formulas beside their meaning.

The floor is bytes of K and V over the bandwidth of memory. To reach it, by Little's law,
bandwidth × latency must be under way all the time: on an H200 4.8 TB/s × 1 µs, 36 KiB a unit, and
more where the memory is busy. The knobs trade the tiles of a warp against the number of warps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from search_spaces.attention.parameters import Parameters, visible_keys
from search_spaces.attention.warp_operands import FRAGMENT, WARP, Operands
from search_spaces.rounding import ceil_divide

MAX_QUERIES = 16
MAX_HEAD_DIM = 256
LINE = 8  # elements that a head dimension must be a multiple of: 16 bytes of Q, 8 of float8
# Addresses, counters, fragments on their way to a product: what NVRTC 13 for sm_80 and sm_90a needs
# so that nothing spills. More for larger tiles and more copies, and for elements that are widened
# first; and, by keys of a tile, for bounds of what rows see, their biases and places of pages.
OTHER_REGISTERS = 52
_LARGE_TILE_REGISTERS = 16
_FEATURE_REGISTERS = {16: 16, 32: 28}
_FEATURE_REGISTERS_OF_ROWS = 20  # of each 16 rows more
_HIDDEN_COPIES = 16  # of a thread and tile: so many need no registers of their own
_FLOAT_BYTES = 4
PIECE = 8  # elements of 16 bytes


def line_lanes(width: int) -> int:
    """Lanes that share a line of 2-byte elements, 16 bytes each: as in decode_vector.h."""
    return max(2, 1 << (width // PIECE - 1).bit_length())


@dataclass(frozen=True)
class Problem(Operands):
    """An attention workload as the template's formulas see it."""

    @property
    def rows(self) -> int:
        """Of one head of K, at most: the queries of all heads that share it."""
        return self.given.q_len * self.given.queries_per_kv_head

    @property
    def seen_keys(self) -> int:
        """That some query of a sequence sees, at most."""
        given = self.given
        if not given.window:
            return given.kv_len
        return min(given.kv_len, (1 if given.causal else 2) * given.window + given.q_len)

    @property
    def even_lengths(self) -> bool:
        """Whether all sequences have as many keys."""
        return not self.given.kv_lens

    def row_blocks(self, warp_rows: int, warps_rows: int) -> int:
        """Blocks that read the same keys for other rows."""
        return ceil_divide(self.rows, warp_rows * warps_rows)

    def shared_bytes(
        self,
        warp_rows: int,
        warps_rows: int,
        warps_keys: int,
        tile_keys: int,
        stages: int,
        q_registers: bool,
    ) -> int:
        """Q and the rings; afterwards, in the same place, each warp's sums of the output."""
        block_rows = warp_rows * warps_rows
        q_tile = 0 if q_registers else block_rows * self.qk_width * self.element_bytes
        rings = warps_keys * stages * self.kv_tile_bytes(tile_keys)
        kept_rows = min(block_rows, self.rows)
        sums = warps_keys * (self.v_width + 8 + 2) + 2  # of a row: padded, with marks; the total's
        return max(q_tile + rings, kept_rows * sums * _FLOAT_BYTES)

    @property
    def has_vector_path(self) -> bool:
        """Whether multiply-add units can do it: one row, and lanes that share lines alike."""
        lanes = (line_lanes(self.qk_width), line_lanes(self.v_width))
        return self.rows == 1 and self.kv_bytes == 2 and lanes[0] == lanes[1]

    def rows_multiplied(self, use_mma: bool, warp_rows: int, warps_rows: int) -> int:
        """Of one head of K, padding included."""
        if not use_mma:
            return self.rows
        return self.row_blocks(warp_rows, warps_rows) * warp_rows * warps_rows

    def registers(self, use_mma: bool, warp_rows: int, tile_keys: int, q_registers: bool) -> int:
        """32-bit registers of a thread: sums of the output, scores, Q, and the rest.

        A lane keeps 4 of 16 x 8 sums, and 2 x 2 neighbours of 16 x 16 elements of Q. Weights take
        the place of the scores. Without tensor cores it keeps 16 bytes' elements of both, and two
        more on their way.
        """
        if not use_mma:
            scores = tile_keys * line_lanes(self.qk_width) // WARP
            others = self._other_registers(tile_keys) + self._feature_registers(tile_keys, 1)
            return 4 * PIECE + scores + others
        sums = self.v_width // 8 * 4
        scores = tile_keys // 8 * 4
        queries = self.qk_width // FRAGMENT * 4 if q_registers else 4
        fragments = warp_rows // FRAGMENT
        others = self._other_registers(tile_keys) + self._feature_registers(tile_keys, fragments)
        return fragments * (sums + scores + queries + 4) + others

    def _other_registers(self, tile_keys: int) -> int:
        copies = self.kv_tile_bytes(tile_keys) // (16 * WARP)
        of_tile = max(_LARGE_TILE_REGISTERS if tile_keys > 16 else 0, copies - _HIDDEN_COPIES)
        widened = 16 + self.v_width // 8 if self.kv_bytes == 1 else 0
        return OTHER_REGISTERS + of_tile + widened

    def _feature_registers(self, tile_keys: int, fragments: int) -> int:
        given = self.given
        masks = given.causal or given.window or given.kv_lens
        if not (masks or given.softcap or given.bias != "none"):
            return 0
        return _FEATURE_REGISTERS[tile_keys] + _FEATURE_REGISTERS_OF_ROWS * (fragments - 1)

    def most_tiles(self, warps_keys: int, tile_keys: int) -> int:
        """Of a block's keys, in a sequence: `MOST_TILES` of decode.cu."""
        block_keys = warps_keys * tile_keys
        if self.seen_keys == self.given.kv_len:
            return ceil_divide(self.given.kv_len, block_keys)
        return (self.seen_keys + block_keys) // block_keys + 1

    def walked_keys(self, block_keys: int) -> int:
        """Of all sequences, in whole tiles of blocks."""
        return _walked_keys(self.given, block_keys)


@lru_cache(maxsize=256)
def _walked_keys(given: Parameters, block_keys: int) -> int:
    return sum(
        (ceil_divide(keys.stop, block_keys) - keys.start // block_keys) * block_keys
        for keys in visible_keys(given)
        if keys
    )
