"""What a schedule of the mma_sync template asks of the hardware: formulas beside their meaning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from records.schedule import Schedule
from search_spaces.attention.parameters import Parameters, Sequence
from search_spaces.attention.warp_operands import FRAGMENT, Operands
from search_spaces.rounding import ceil_divide

OTHER_REGISTERS = 44  # addresses, counters, bounds, fragments of K or V
WIDENING_REGISTERS = 8  # for elements of float8 on their way to a product
AHEAD_REGISTERS = 8  # for places in a second tile of K, whose scores are ahead
_BIAS_WORDS = {"none": 0, "alibi": 1}  # of a row; others have an address, of 2


@dataclass(frozen=True)
class Problem(Operands):
    """An attention workload as the template's formulas see it."""

    def row_heads(self, pack_heads: bool) -> int:
        """Query heads among the rows of a tile."""
        return self.given.queries_per_kv_head if pack_heads else 1

    def heads(self, pack_heads: bool) -> int:
        """Heads, of all sequences, that have tiles of their own."""
        return self.given.batch * self.given.heads // self.row_heads(pack_heads)

    def tiles_of_head(self, pack_heads: bool, warps: int, warp_rows: int) -> int:
        """Of rows; as many as the longest sequence has."""
        return ceil_divide(self.given.q_len * self.row_heads(pack_heads), warps * warp_rows)

    def seen_keys(self, queries: int) -> int:
        """The most keys that neighbouring queries of a sequence see together."""
        given = self.given
        if not given.window:
            return given.kv_len
        return min(given.kv_len, (1 if given.causal else 2) * given.window + queries)

    def q_tile_bytes(self, warps: int, warp_rows: int) -> int:
        return warps * warp_rows * self.qk_width * self.element_bytes

    def shared_bytes(
        self, warps: int, warp_rows: int, tile_keys: int, stages: int, q_registers: bool
    ) -> int:
        """The tiles; afterwards, in the same place, 16 rows of the output of each warp."""
        q_tile = 0 if q_registers else self.q_tile_bytes(warps, warp_rows)
        slabs = warps * FRAGMENT * self.v_width * self.element_bytes
        return max(q_tile + stages * self.kv_tile_bytes(tile_keys), slabs)

    def registers(
        self, warp_rows: int, tile_keys: int, q_registers: bool, scores_ahead: bool
    ) -> int:
        """32-bit registers of a thread: sums of the output, scores, Q, and the rest.

        A lane keeps 4 of 16 x 8 sums, 2 x 2 neighbours of 16 x 16 elements of Q, and 2 words and
        a bias of each of 2 rows. Weights take the place of the scores. Formulas and NVRTC 13 for
        sm_80 and sm_90a agree in that what they let through spills some 100 bytes at most.
        """
        fragments, bias_words = warp_rows // FRAGMENT, _BIAS_WORDS.get(self.given.bias, 2)
        sums = self.v_width // 8 * 4
        scores = tile_keys // 8 * 4 * (2 if scores_ahead else 1)
        queries = self.qk_width // FRAGMENT * 4 if q_registers else 4
        others = OTHER_REGISTERS + AHEAD_REGISTERS * scores_ahead
        others += WIDENING_REGISTERS if self.kv_bytes == 1 else 0
        return fragments * (sums + scores + queries + 4 + 2 * bias_words) + others

    def products(self, warp_rows: int, tile_keys: int) -> int:
        """Instructions of tensor cores in the body of the loop over keys."""
        per_keys = (self.qk_width + self.v_width) // FRAGMENT
        return warp_rows // FRAGMENT * (tile_keys // 8) * per_keys

    def key_tiles(self, block_rows: int, tile_keys: int, row_heads: int) -> int:
        """Tiles of keys that the blocks of one head of every sequence walk, all together."""
        return _key_tiles(self.given, block_rows, tile_keys, row_heads)


def shared_bytes(problem: Problem, schedule: Schedule) -> int:
    names = ("warps", "warp_rows", "tile_keys", "stages", "q_registers")
    return problem.shared_bytes(*(schedule[name] for name in names))


def registers(problem: Problem, schedule: Schedule) -> int:
    names = ("warp_rows", "tile_keys", "q_registers", "scores_ahead")
    return problem.registers(*(schedule[name] for name in names))


def tiles(problem: Problem, schedule: Schedule) -> int:
    """Of rows, in all heads of all sequences: blocks, but for parts of the keys."""
    names = ("pack_heads", "warps", "warp_rows")
    return problem.heads(schedule["pack_heads"]) * problem.tiles_of_head(
        *(schedule[name] for name in names)
    )


@lru_cache(maxsize=4096)
def _key_tiles(given: Parameters, block_rows: int, tile_keys: int, row_heads: int) -> int:
    return sum(
        count * _tiles_of_sequence(given, sequence, block_rows, tile_keys, row_heads)
        for sequence, count in Counter(given.sequences).items()
    )


def _tiles_of_sequence(
    given: Parameters, sequence: Sequence, block_rows: int, tile_keys: int, row_heads: int
) -> int:
    """Every block walks tiles from the first key that its first row sees to its last row's last.

    `Parameters.visible`, for many rows at a time.
    """
    rows = sequence.q_len * row_heads
    first_rows = np.arange(0, rows, block_rows)
    last_rows = np.minimum(first_rows + block_rows, rows) - 1
    ahead = sequence.kv_len - sequence.q_len
    start = np.maximum(0, first_rows // row_heads + ahead - given.window + 1) if given.window else 0
    end = np.full(len(first_rows), sequence.kv_len)
    if given.causal or given.window:
        reach = 1 if given.causal else given.window
        end = np.clip(last_rows // row_heads + ahead + reach, 0, sequence.kv_len)
    return int(np.maximum(0, -(-end // tile_keys) - start // tile_keys).sum())
