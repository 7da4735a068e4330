"""What a schedule of the decode template asks of the hardware: formulas beside their meaning.

The floor is bytes of K and V over the bandwidth of memory. To reach it, by Little's law,
bandwidth × latency must be under way all the time: on an H200 4.8 TB/s × 1 µs, 36 KiB a unit, and
more where the memory is busy. The knobs trade the tiles of a warp against the number of warps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from search_spaces.attention.parameters import Parameters, visible_keys
from search_spaces.attention.warp_operands import FRAGMENT, Operands
from search_spaces.matmul.tiling import ceil_divide

MAX_QUERIES = 16
MAX_HEAD_DIM = 256
LINE = 8  # elements that a head dimension must be a multiple of: 16 bytes of Q, 8 of float8
# Addresses, counters, fragments on their way to a product: what NVRTC 13 for sm_80 and sm_90a needs
# so that nothing spills. More for twice as many copies and for elements that are widened first;
# and, a key of a tile, for bounds of what rows see, their biases and the places of pages.
OTHER_REGISTERS = 52
_LARGE_TILE_REGISTERS = 16
_FEATURE_REGISTERS = {16: 16, 32: 28}
_FLOAT_BYTES = 4


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
        return not given_lengths(self.given)

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

    def registers(self, warp_rows: int, tile_keys: int, q_registers: bool) -> int:
        """32-bit registers of a thread: sums of the output, scores, Q, and the rest.

        A lane keeps 4 of 16 x 8 sums, and 2 x 2 neighbours of 16 x 16 elements of Q. Weights take
        the place of the scores.
        """
        sums = self.v_width // 8 * 4
        scores = tile_keys // 8 * 4
        queries = self.qk_width // FRAGMENT * 4 if q_registers else 4
        fragments = warp_rows // FRAGMENT
        return fragments * (sums + scores + queries + 4) + self._other_registers(tile_keys)

    def _other_registers(self, tile_keys: int) -> int:
        given = self.given
        others = OTHER_REGISTERS + (_LARGE_TILE_REGISTERS if tile_keys > 16 else 0)
        if self.kv_bytes == 1:
            others += 16 + self.v_width // 8
        has_features = given.causal or given.window or given.softcap or given.bias != "none"
        return others + (_FEATURE_REGISTERS[tile_keys] if has_features or given.kv_lens else 0)

    def most_tiles(self, warps_keys: int, tile_keys: int) -> int:
        """Of a block's keys, in a sequence: `MOST_TILES` of decode.cu."""
        block_keys = warps_keys * tile_keys
        if self.seen_keys == self.given.kv_len:
            return ceil_divide(self.given.kv_len, block_keys)
        return (self.seen_keys + block_keys) // block_keys + 1

    def walked_keys(self, block_keys: int) -> int:
        """Of all sequences, in whole tiles of blocks."""
        return _walked_keys(self.given, block_keys)


def given_lengths(given: Parameters) -> bool:
    """Whether sequences may have different numbers of keys."""
    return bool(given.kv_lens)


@lru_cache(maxsize=256)
def _walked_keys(given: Parameters, block_keys: int) -> int:
    return sum(
        (ceil_divide(keys.stop, block_keys) - keys.start // block_keys) * block_keys
        for keys in visible_keys(given)
        if keys
    )
