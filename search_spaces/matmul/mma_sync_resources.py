"""What a schedule of the mma_sync template asks of the hardware: formulas beside their meaning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from math import gcd

from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.row_groups import row_group_tiles
from search_spaces.matmul.tensor_core_types import DEPTH_BYTES, sum_words
from search_spaces.matmul.tiling import Grid
from search_spaces.rounding import ceil_divide

WARP = 32
ROWS, PAIR = 16, 16  # of a fragment of A; columns of the two fragments of B that load together
MAX_REGISTERS = 255  # of one thread
OTHER_REGISTERS = 44  # addresses, counters, bounds; NVRTC 13 for sm_80 and sm_90a uses 35 to 55
QUANTISED_STEP = 32  # of k that fragments beside a quantised B are loaded for
TILE_ALIGNMENT = 128  # bytes, of a tile in shared memory: a line of all banks
SCALE_BYTES = 2  # a scale or zero of a quantised B
RESTORING_REGISTERS = 8  # columns of B as numbers, and addresses; NVRTC 13 spills with fewer
PARTIAL_BYTES = 4  # of a sum of a part of k
SLAB_PAD = 8  # words after each row on the way to C: two of each lane meet in no bank
QUANTISED_SLAB_PAD = 4  # the same, where lanes have two neighbours of a column
_COPIES = (16, 8, 4)  # bytes that cp.async moves


@dataclass(frozen=True)
class Problem:
    """A matmul workload as the template's formulas see it."""

    m: int
    n: int
    k: int
    batch: int
    groups: tuple[int, ...]  # rows for each matrix B, or none
    element_bytes: int  # of A, and of what it is multiplied with
    b_bits: int  # an element of B in memory; fewer if it is quantised
    group_size: int  # neighbours in k that share a scale; 0 if B is not quantised
    quantum_bytes: int  # of a scale and, where there is one, a zero
    c_bytes: int
    sum_words: int  # registers of a thread for 16 x 8 sums
    a_along_k: bool  # neighbours in memory differ in k
    b_along_k: bool

    @classmethod
    def of(cls, workload: Workload) -> Problem:
        given = Parameters.of(workload)
        return cls(
            m=given.m,
            n=given.n,
            k=given.k,
            batch=given.batch,
            groups=given.groups,
            element_bytes=dtypes.dtype(given.dtype).bits // 8,
            b_bits=dtypes.dtype(given.b_dtype).bits,
            group_size=given.group_size,
            quantum_bytes=(SCALE_BYTES * (1 + given.zero_point)) if given.quantised else 0,
            c_bytes=dtypes.storage(given.out_dtype).itemsize,
            sum_words=sum_words(given),
            a_along_k=given.layout[0] == "n",
            b_along_k=given.layout[1] == "t",
        )

    @property
    def row_parts(self) -> tuple[int, ...]:
        """Rows that tiles are laid over: those of each group, or all."""
        return self.groups or (self.m,)

    @property
    def largest(self) -> int:
        return max(self.row_parts)

    @property
    def quantised(self) -> bool:
        return self.group_size > 0

    @property
    def product_k(self) -> int:
        """Elements of k in one product."""
        return DEPTH_BYTES // self.element_bytes

    @property
    def step_k(self) -> int:
        """Elements of k that fragments are loaded for: of one product, or of two."""
        return QUANTISED_STEP if self.quantised else self.product_k

    @property
    def a_copy_bytes(self) -> int:
        """What one asynchronous copy of A moves; 0 if rows are not even multiples of 4 bytes. Of A
        across k every group has to begin at a multiple of it."""
        places = (self.k,) if self.a_along_k else (self.m, *accumulate(self.groups))
        return _copy_bytes(gcd(*places) * self.element_bytes)

    @property
    def b_copy_bytes(self) -> int:
        return _copy_bytes((self.k if self.b_along_k else self.n) * self.b_bits // 8)

    @property
    def quantum_copy_bytes(self) -> int:
        """The same of scales and zeros, which lie along n."""
        return _copy_bytes(self.n * SCALE_BYTES)

    @property
    def c_lanes(self) -> int:
        """Neighbours in a row of C that are stored together: up to 16 bytes, and such that a warp's
        lanes find work in 16 rows of 16 columns."""
        return next(lanes for lanes in (8, 4, 2, 1) if self._stores(lanes))

    def _stores(self, lanes: int) -> bool:
        return lanes * self.c_bytes <= 16 and self.n % lanes == 0

    def tile_bytes(self, block_m: int, block_n: int, block_k: int) -> int:
        """Of A and B that a block multiplies at a time, and what makes B numbers."""
        a_bytes = block_m * block_k * self.element_bytes
        return a_bytes + block_n * block_k * self.b_bits // 8 + self._quanta_bytes(block_n, block_k)

    def quantum_groups(self, block_k: int) -> int:
        """Groups of k that a tile may lie in; tiles begin at multiples of `block_k`."""
        if self.group_size == self.k or self.group_size % block_k == 0:
            return 1
        if block_k % self.group_size == 0:
            return block_k // self.group_size
        return (block_k - 2) // self.group_size + 2

    def _quanta_bytes(self, block_n: int, block_k: int) -> int:
        if not self.quantised or block_k == 0:
            return 0
        used = self.quantum_groups(block_k) * block_n * self.quantum_bytes
        return ceil_divide(used, TILE_ALIGNMENT) * TILE_ALIGNMENT

    def shared_bytes(
        self,
        block_m: int,
        block_n: int,
        block_k: int,
        warp_m: int,
        warp_n: int,
        stages: int,
        staged_store: bool,
    ) -> int:
        """The tiles; afterwards, in the same place, the slab of each warp on its way to C."""
        pad = QUANTISED_SLAB_PAD if self.quantised else SLAB_PAD
        slab = ROWS * (warp_n + pad) * PARTIAL_BYTES if staged_store else 0
        slabs = warps(block_m, block_n, warp_m, warp_n) * slab
        return max(stages * self.tile_bytes(block_m, block_n, block_k), slabs)

    def registers(self, warp_m: int, warp_n: int, fragments: int) -> int:
        """32-bit registers of a thread: its sums, `fragments` sets of operands, and the rest."""
        sums = warp_m // ROWS * (warp_n // 8) * self.sum_words
        return sums + fragments * self._operand_words(warp_m, warp_n) + OTHER_REGISTERS

    def _operand_words(self, warp_m: int, warp_n: int) -> int:
        """Four for 16 rows and a product; of integers as many as they fill, a scale and zero in one
        register, and what restores them."""
        a_words = 4 * (self.step_k // self.product_k) * (warp_m // ROWS)
        if not self.quantised:
            return a_words + 4 * (warp_n // PAIR)
        return a_words + (self.b_bits // 4 + 1) * (warp_n // 8) + RESTORING_REGISTERS

    def partial_sums_bytes(self, split_k: int) -> int:
        """Scratch: one value for each element of C and part of k."""
        if split_k == 1:
            return 0
        return split_k * self.batch * self.m * self.n * PARTIAL_BYTES


def warps(block_m: int, block_n: int, warp_m: int, warp_n: int) -> int:
    """Of a block."""
    return (block_m // warp_m) * (block_n // warp_n)


def grid(problem: Problem, schedule: Schedule) -> Grid:
    """Tiles of all groups of rows count as one column of them."""
    return replace(
        Grid.of(problem, schedule), rows=row_group_tiles(problem.row_parts, schedule["block_m"])
    )


def tiles(problem: Problem, block_m: int, block_n: int) -> int:
    """Of C, in one element of the batch."""
    return row_group_tiles(problem.row_parts, block_m) * ceil_divide(problem.n, block_n)


def _copy_bytes(row_bytes: int) -> int:
    return next((size for size in _COPIES if row_bytes % size == 0), 0)
