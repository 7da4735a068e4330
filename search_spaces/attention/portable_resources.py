"""What a schedule of the portable template asks of the hardware: formulas beside their meaning."""

from __future__ import annotations

from dataclasses import dataclass

from records.schedule import Schedule
from search_spaces import dtypes
from search_spaces.attention.parameters import Parameters
from search_spaces.rounding import ceil_divide

LOCAL_BYTES = 32 << 10  # of a group, at least, in the full profile of OpenCL
MAX_REGISTERS = 255  # of one work-item; the limit of NVIDIA's and the order of AMD's
SPARED_REGISTERS = 32  # that compilers save where they are short, by reading operands later
OTHER_REGISTERS = 40  # addresses, counters and sizes; NVRTC 13 for sm_90 uses 32 to 48
FLOAT_BYTES = 4
SHARED_KNOBS = (
    "block_q",
    "block_k",
    "threads_k",
    "lanes",
    "pad",
    "kv_tiles",
    "weights_local",
    "shuffle",
)
REGISTER_KNOBS = (
    "block_q",
    "block_k",
    "threads_q",
    "threads_k",
    "vector",
    "lanes",
    "prefetch",
)


@dataclass(frozen=True)
class Problem:
    """An attention as the template's formulas see it."""

    given: Parameters

    @property
    def kv_words(self) -> int:
        """32-bit registers of an element of K or V on its way to local memory."""
        return max(1, dtypes.storage(self.given.kv_dtype).itemsize // FLOAT_BYTES)

    def rows(self, pack_heads: bool) -> int:
        """Rows of one head, or of all those that share K and V, of the longest sequence."""
        return self.given.q_len * self.row_heads(pack_heads)

    def row_heads(self, pack_heads: bool) -> int:
        return self.given.queries_per_kv_head if pack_heads else 1

    def tiles(self, block_q: int, pack_heads: bool) -> int:
        """Of all sequences and heads, as many for each as the longest one has."""
        heads = self.given.heads // self.row_heads(pack_heads)
        return ceil_divide(self.rows(pack_heads), block_q) * heads * self.given.batch

    def columns(self, threads_k: int, lanes: int) -> int:
        """Of the output and of V that a work-item owns, padding included."""
        return ceil_divide(self.given.v_dim, threads_k * lanes) * lanes

    def shared_bytes(
        self,
        block_q: int,
        block_k: int,
        threads_k: int,
        lanes: int,
        pad: bool,
        kv_tiles: int,
        weights_local: bool,
        shuffle: bool,
    ) -> int:
        """Local memory, all of float32: tiles of Q, of K and V or of the larger of them, weights,
        and a number of each work-item for each of its rows, unless lanes exchange it.
        """
        padding = lanes * pad
        pitch = ceil_divide(self.given.head_dim, lanes) * lanes + padding
        pitch_v = ceil_divide(self.given.v_dim, lanes) * lanes
        tile_k = block_k * pitch
        tile_v = (block_k - 1) * pitch_v + self.columns(threads_k, lanes) * threads_k
        tiles = tile_k + tile_v if kv_tiles == 2 else max(tile_k, tile_v)
        weights = block_q * (block_k + max(lanes, threads_k) * pad) * weights_local
        exchanged = block_q * threads_k * (threads_k > 1 and not shuffle)
        return (block_q * pitch + tiles + weights + exchanged) * FLOAT_BYTES

    def staged(self, block_k: int, threads: int, vector: int) -> int:
        """Elements of a tile of K or V that a work-item fetches, the more of both."""
        widest = max(self.given.head_dim, self.given.v_dim)
        return ceil_divide(block_k * ceil_divide(widest, vector), max(1, threads)) * vector

    def registers(
        self,
        block_q: int,
        block_k: int,
        threads_q: int,
        threads_k: int,
        vector: int,
        lanes: int,
        prefetch: bool,
    ) -> int:
        """32-bit registers of a work-item: its scores and sums, for each row its number, maximum
        and total, what is multiplied, pieces of the next tile with an address for each vector of
        them, and what any kernel needs.

        Against NVRTC 13 for sm_90: within 25 %; nothing is spilled up to MAX_REGISTERS, hardly
        anything up to SPARED_REGISTERS more but for some schedules with prefetch.
        """
        rows, keys = ceil_divide(block_q, threads_q), ceil_divide(block_k, threads_k)
        columns = self.columns(threads_k, lanes)
        operands = max((rows + keys) * lanes, rows * lanes + lanes)
        pieces = self.staged(block_k, threads_q * threads_k, vector) * prefetch
        pieces_words = pieces * self.kv_words + 2 * (pieces // vector)
        kept = rows * (keys + columns + 3)
        return kept + operands + pieces_words + OTHER_REGISTERS

    def splits_useful(self, block_k: int, splits: int) -> bool:
        """Whether the longest sequence gives every part a step."""
        steps = ceil_divide(self.longest_walk, block_k)
        return splits == 1 or (splits - 1) * ceil_divide(steps, splits) < steps

    @property
    def longest_walk(self) -> int:
        """Keys that a row sees, at most."""
        window = self.given.window * (1 if self.given.causal else 2)
        return min(self.given.kv_len, window) if window else self.given.kv_len


def threads(schedule: Schedule) -> int:
    """Work-items of a group."""
    return int(schedule["threads_q"] * schedule["threads_k"])


def shared_bytes(problem: Problem, schedule: Schedule) -> int:
    return problem.shared_bytes(*(schedule[name] for name in SHARED_KNOBS))


def registers(problem: Problem, schedule: Schedule) -> int:
    return problem.registers(*(schedule[name] for name in REGISTER_KNOBS))
