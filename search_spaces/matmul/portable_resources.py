"""What a schedule of the portable template asks of the hardware: formulas beside their meaning.

`m`, `n`, `k` below are knobs: `block_m` is the tile of a work-group, `thread_m` that of a
work-item.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from records.workload import Workload
from search_spaces.matmul.workload import EPILOGUE_DTYPES
from search_spaces.rounding import ceil_divide

STATIC_SHARED_BYTES = 48 << 10  # CUDA C++ Programming Guide: of arrays declared with a size
MAX_REGISTERS = 255  # of one work-item; the limit of NVIDIA's and the order of AMD's
OTHER_REGISTERS = 28  # addresses, counters and sizes; NVRTC 13 for sm_90 uses 24 to 32


@dataclass(frozen=True)
class Problem:
    """A matmul workload as the template's formulas see it."""

    m: int
    n: int
    k: int
    batch: int
    stored_bytes: int  # an element of A, B, C
    sum_words: int  # 32-bit registers of a sum
    stored_words: int  # 32-bit registers of an element
    partial_bytes: int  # an element of the partial sums of split-K
    a_along_k: bool  # neighbours in memory differ in k
    b_along_k: bool

    @classmethod
    def of(cls, workload: Workload) -> Problem:
        a_letter, b_letter = workload["layout"]
        stored, total = (np.dtype(workload[name]).itemsize for name in ("dtype", "accumulate"))
        return cls(
            m=workload["m"],
            n=workload["n"],
            k=workload["k"],
            batch=workload["batch"],
            stored_bytes=stored,
            sum_words=ceil_divide(total, 4),
            stored_words=ceil_divide(stored, 4),
            partial_bytes=np.dtype(EPILOGUE_DTYPES[workload["dtype"]]).itemsize,
            a_along_k=a_letter == "n",
            b_along_k=b_letter == "t",
        )

    @property
    def a_stride(self) -> int:
        """Elements from one row of A in memory to the next."""
        return self.k if self.a_along_k else self.m

    @property
    def b_stride(self) -> int:
        return self.k if self.b_along_k else self.n

    def shared_bytes(self, block_m: int, block_n: int, block_k: int, stages: int, pad: int) -> int:
        """Local memory: `stages` tiles of A and B; rows of a transposed tile are padded."""
        pitch_a = block_m + pad * self.a_along_k
        pitch_b = block_n + pad * self.b_along_k
        return stages * block_k * (pitch_a + pitch_b) * self.stored_bytes

    def registers(
        self,
        block_m: int,
        block_n: int,
        block_k: int,
        thread_m: int,
        thread_n: int,
        vector_a: int,
        vector_b: int,
        prefetch: bool,
    ) -> int:
        """32-bit registers of a work-item: its sums, the row and column being multiplied, the
        pieces of the tiles on their way to local memory with an address for each vector of them,
        and what any kernel needs.

        With prefetch the pieces live while multiplying; else never both at once. Against NVRTC
        13 for sm_90: hundreds of bytes are spilled where this exceeds 255, hardly any elsewhere.
        """
        items = max(1, threads(block_m, block_n, thread_m, thread_n))
        a_pieces, b_pieces = block_m * block_k // items, block_n * block_k // items
        addresses_words = 2 * (a_pieces // vector_a + b_pieces // vector_b)
        pieces_words = (a_pieces + b_pieces) * self.stored_words + addresses_words
        operands_words = (thread_m + thread_n) * self.sum_words
        passing = operands_words + pieces_words if prefetch else max(operands_words, pieces_words)
        return thread_m * thread_n * self.sum_words + passing + OTHER_REGISTERS

    def partial_sums_bytes(self, split_k: int) -> int:
        """Scratch: one value for each element of C and part of k."""
        if split_k == 1:
            return 0
        return split_k * self.batch * self.m * self.n * self.partial_bytes


def threads(block_m: int, block_n: int, thread_m: int, thread_n: int) -> int:
    """Work-items of a group."""
    return (block_m // thread_m) * (block_n // thread_n)


def no_empty_part(extent: int, block_k: int, split_k: int) -> bool:
    """Whether each of `split_k` parts gets a tile: parts are equally many tiles, but the last."""
    tiles = ceil_divide(extent, block_k)
    return split_k == 1 or (split_k - 1) * ceil_divide(tiles, split_k) < tiles


def bank_conflicts(pitch: int, lanes: int, block_k: int, element_bytes: int) -> int:
    """How many of 32 work-items stashing a transposed tile meet in one of 32 banks of 4 bytes.

    1 is free of conflicts. Work-items that write the same word count once.
    """
    words: dict[int, set[int]] = {}
    for item in range(32):
        step, row = item % (block_k // lanes) * lanes, item // (block_k // lanes)
        word = (step * pitch + row) * element_bytes // 4
        words.setdefault(word % 32, set()).add(word)
    return max(map(len, words.values()))


def next_power_of_two(extent: int) -> int:
    return 1 << math.ceil(math.log2(extent)) if extent > 1 else 1
