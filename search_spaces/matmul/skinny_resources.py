"""What a schedule of the skinny template asks of the hardware: formulas beside their meaning.

The floor is bytes of B over the bandwidth of memory. To reach it, by Little's law, bandwidth ×
latency must be under way all the time: on an H200 4.3 TB/s × 0.7 µs, 23 KiB a unit. The knobs
trade copies of one thread against the number of threads for that.
"""

from __future__ import annotations

from dataclasses import dataclass

from records.workload import Workload
from search_spaces import dtypes
from search_spaces.matmul.parameters import Parameters
from search_spaces.rounding import ceil_divide

WARP = 32
LOAD_BYTES = 16  # of one thread at a time
MAX_ROWS = 16
MMA_DTYPES = ("float16", "bfloat16")
MMA_ROWS = 8  # of A in one product, the operands being swapped
MAX_REGISTERS = 255  # of one thread
OTHER_REGISTERS = 44  # addresses, counters, bounds; NVRTC 13 for sm_80 and sm_90a
PARTIAL_BYTES = 4  # of a sum of a part of k


@dataclass(frozen=True)
class Shape:
    """How a warp walks: columns of C and steps of k in one group of loads."""

    columns: int  # of a group
    step_k: int
    vectors: int  # loads of a thread for both


@dataclass(frozen=True)
class Problem:
    """A matmul workload as the template's formulas see it."""

    m: int  # rows of a product: of the largest, where there are groups
    n: int
    k: int
    batch: int  # products that have rows
    all_rows: int  # of these together
    line_m: int  # rows of A side by side, where it is stored k x m
    element_bytes: int  # of A
    b_bits: int  # an element of B; fewer than one of A if it is quantised
    c_bytes: int
    a_along_k: bool  # neighbours in memory differ in k
    b_along_k: bool
    has_mma: bool
    quantised: bool

    @classmethod
    def of(cls, workload: Workload) -> Problem:
        given = Parameters.of(workload)
        return cls(
            m=max(given.groups, default=given.m),
            n=given.n,
            k=given.k,
            batch=len([rows for rows in given.groups if rows]) or given.batch,
            all_rows=given.batch * given.m,
            line_m=given.m,
            element_bytes=dtypes.dtype(given.dtype).bits // 8,
            b_bits=dtypes.dtype(given.b_dtype).bits,
            c_bytes=dtypes.storage(given.out_dtype).itemsize,
            a_along_k=given.layout[0] == "n",
            b_along_k=given.layout[1] == "t",
            has_mma=given.dtype in MMA_DTYPES,
            quantised=given.quantised,
        )

    @property
    def vector(self) -> int:
        """Elements of A in one load."""
        return LOAD_BYTES // self.element_bytes

    @property
    def b_vector(self) -> int:
        """Elements of B in one load."""
        return LOAD_BYTES * 8 // self.b_bits

    @property
    def a_load_bytes(self) -> int:
        """The widest load that every row of A begins at a multiple of."""
        return _load_bytes((self.k if self.a_along_k else self.line_m) * self.element_bytes)

    @property
    def b_load_bytes(self) -> int:
        return _load_bytes((self.k if self.b_along_k else self.n) * self.b_bits // 8)

    def shape(self, use_mma: bool) -> Shape:
        """16 bytes of each lane make 16 columns by 32 steps or 64 by 32 with tensor cores (of int8
        twice as many along the lines of B); else one column by 32 vectors, or 32 vectors of columns
        by as many steps as a vector has of A."""
        if use_mma:
            return Shape(16, 4 * self.b_vector, 2) if self.b_along_k else self._wide_mma()
        if self.b_along_k:
            return Shape(1, WARP * self.vector, 1)
        return Shape(WARP * self.vector, self.vector, self.vector)

    def _wide_mma(self) -> Shape:
        return Shape(8 * self.b_vector, 4 * self.vector, self.vector)

    def rows(self, use_mma: bool) -> int:
        """Of A that are multiplied, padding included."""
        return ceil_divide(self.m, MMA_ROWS) * MMA_ROWS if use_mma else self.m

    def block_n(self, use_mma: bool, groups: int, warps_n: int) -> int:
        return self.shape(use_mma).columns * groups * warps_n

    def chunk_k(self, use_mma: bool, warps_k: int, unroll: int) -> int:
        """Steps of k of a block between two rounds of loads."""
        return self.shape(use_mma).step_k * warps_k * unroll

    def shared_bytes(
        self, use_mma: bool, groups: int, warps_n: int, warps_k: int, unroll: int, stages: int
    ) -> int:
        """Rounds of copies of B; afterwards, in the same place, the sums of each part of k."""
        copies = warps_n * warps_k * stages * self.round_bytes(use_mma, groups, unroll)
        sums = warps_k * self.m * self.block_n(use_mma, groups, warps_n) * PARTIAL_BYTES
        return max(copies, sums)

    def round_bytes(self, use_mma: bool, groups: int, unroll: int) -> int:
        """Of B that a warp copies at a time."""
        return WARP * LOAD_BYTES * unroll * groups * self.shape(use_mma).vectors

    def registers(self, use_mma: bool, groups: int) -> int:
        """32-bit registers of a thread: its sums, one step of B with an address for each group, a
        vector of each row of A, elements of these on their way to a product, and the rest."""
        shape, rows = self.shape(use_mma), self.rows(use_mma)
        sums = groups * shape.columns * rows // (1 if shape.columns == 1 else WARP)
        weights = (4 * shape.vectors + 2) * groups
        a_words = 4 * (rows // MMA_ROWS if use_mma else rows)
        own_columns = 2 if self.b_along_k else self.b_vector
        quanta = own_columns * groups + 8 if self.quantised else 0  # and four restored pairs
        decoded = quanta if use_mma else 2 * groups + self.vector
        return sums + weights + a_words + decoded + OTHER_REGISTERS

    def partial_sums_bytes(self, split_k: int) -> int:
        """Scratch: one value for each element of C and part of k."""
        if split_k == 1:
            return 0
        return split_k * self.all_rows * self.n * PARTIAL_BYTES


def _load_bytes(row_bytes: int) -> int:
    return next(size for size in (16, 8, 4, 2, 1) if row_bytes % size == 0)
