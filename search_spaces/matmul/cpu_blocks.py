"""How a schedule of the CPU template cuts a product: formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from records.schedule import Schedule
from records.workload import Workload
from search_spaces.rounding import ceil_divide

K_MULTIPLE = 4  # blocks of k end on a multiple of this, so that unrolled loops have no rest


@dataclass(frozen=True)
class Problem:
    """A matmul workload as the template's formulas see it."""

    m: int
    n: int
    k: int
    batch: int
    stored_bytes: int  # an element of A, B, C
    sum_bytes: int  # an element of a panel and of the sums
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
            sum_bytes=total,
            a_along_k=a_letter == "n",
            b_along_k=b_letter == "t",
        )

    @property
    def b_bytes(self) -> int:
        """B of one product of the batch."""
        return self.k * self.n * self.stored_bytes

    def block_k(self, k_blocks: int) -> int:
        """Steps of k between two visits of C."""
        if k_blocks == 1:
            return self.k
        steps = ceil_divide(self.k, k_blocks)
        return min(self.k, ceil_divide(steps, K_MULTIPLE) * K_MULTIPLE)

    def block_m(self, row_blocks: int, tile_m: int) -> int:
        """Rows of a block: even shares in whole tiles."""
        return ceil_divide(ceil_divide(self.m, row_blocks), tile_m) * tile_m

    def has_row_blocks(self, row_blocks: int, tile_m: int) -> bool:
        """Whether rows in whole tiles come out as that many blocks, and not as fewer."""
        return ceil_divide(self.m, self.block_m(row_blocks, tile_m)) == row_blocks

    def panels_bytes(self, lanes: int, tile_vectors: int, column_tiles: int, k_blocks: int) -> int:
        """The panels of B that a work-item packs: its block's columns, one block of k deep."""
        return column_tiles * tile_vectors * lanes * self.block_k(k_blocks) * self.sum_bytes

    def a_panel_bytes(self, tile_m: int, k_blocks: int) -> int:
        """The rows of one tile, packed, but for the space between them."""
        return tile_m * self.block_k(k_blocks) * self.sum_bytes

    def partial_bytes(self, k_blocks: int) -> int:
        """Sums between two blocks of k, where C would round them."""
        rounds = self.block_k(k_blocks) < self.k and self.stored_bytes < self.sum_bytes
        return self.batch * self.m * self.n * self.sum_bytes if rounds else 0


@dataclass(frozen=True)
class Blocks:
    """The blocks of one schedule."""

    block_m: int
    block_n: int
    block_k: int
    rows: int  # of blocks
    columns: int

    @classmethod
    def of(cls, problem: Problem, schedule: Schedule) -> Blocks:
        block_m = problem.block_m(schedule["row_blocks"], schedule["tile_m"])
        tile_n = schedule["lanes"] * schedule["tile_vectors"]
        block_n = schedule["column_tiles"] * tile_n
        return cls(
            block_m,
            block_n,
            problem.block_k(schedule["k_blocks"]),
            ceil_divide(problem.m, block_m),
            ceil_divide(problem.n, block_n),
        )

    @property
    def count(self) -> int:
        return self.rows * self.columns


def busy_share(problem: Problem, row_blocks: int, block_n: int, units: int) -> float:
    """Share of the cores' time that is work, if a free core takes the next block.

    Rows are cut evenly; the last column of blocks may be narrower, and comes last. Time is
    counted in columns.
    """
    rows = row_blocks * problem.batch  # blocks in a column of blocks, over the batch
    whole_columns, last_width = divmod(problem.n, block_n)
    rounds, busy = divmod(rows * whole_columns, units)
    time = rounds * block_n
    if busy:
        time += block_n
    if last_width:
        # While the last whole blocks run, the other cores take narrow ones.
        hidden = (units - busy) * (block_n // last_width) if busy else 0
        time += ceil_divide(max(0, rows - hidden), units) * last_width
    return rows * problem.n / (units * time)
