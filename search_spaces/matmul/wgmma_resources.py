"""What a schedule of the wgmma template asks of the hardware: formulas beside their meaning.

`rows` and `columns` are those of the product that the tensor cores see: C, or C transposed where a
schedule swaps the operands. `tile_m` and `tile_n` count along them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes, warpgroup
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.row_groups import row_group_tiles
from search_spaces.rounding import ceil_divide
from search_spaces.warpgroup import INSTRUCTIONS, ROWS, WARPGROUP, Instruction

TILES = ("tile_m", "tile_n", "cluster_m", "cluster_n", "swap")  # knobs that cut C
SWIZZLE_BYTES = 128  # width of a panel in shared memory, the widest pattern of TMA
ALIGNMENT_BYTES = 1024  # after which the pattern repeats
UNIT_SHARED_BYTES = (
    228 << 10
)  # of compute capability 9.0; each block takes another 1 KiB for the system
BLOCK_SHARED_BYTES = 1 << 10
LOADER_REGISTERS = 40
OTHER_REGISTERS = 36  # addresses, counters, one piece of C; NVRTC 13 spills nothing above that
INSTRUCTION_REGISTERS = 26  # beside the sums, that ptxas of CUDA 13 wants for one instruction
_MAX_CHUNK_BYTES = 128  # of a row of a piece of C on its way through shared memory


class Operand(NamedTuple):
    """A or B as a tile's rows or columns see it."""

    array: str
    products: int  # matrices
    parts: tuple[int, ...]  # rows of A, by groups where there are any; or columns of B
    along_k: bool  # neighbours in memory differ in k

    @property
    def extent(self) -> int:
        return sum(self.parts)

    @property
    def largest(self) -> int:
        """What tiles are laid over: the extent, or the largest group of rows."""
        return max(self.parts)

    def clusters(self, tile: int, cluster: int) -> int:
        """Clusters of tiles side by side; none reaches from one group into another."""
        return row_group_tiles(self.parts, tile * cluster)


@dataclass(frozen=True)
class Problem:
    """A matmul workload as the template's formulas see it."""

    m: int
    n: int
    k: int
    batch: int
    groups: tuple[int, ...]  # rows for each matrix B, or none
    dtype: str
    out_dtype: str
    a_along_k: bool
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
            dtype=given.dtype,
            out_dtype=given.out_dtype,
            a_along_k=given.layout[0] == "n",
            b_along_k=given.layout[1] == "t",
        )

    @property
    def instruction(self) -> Instruction:
        return INSTRUCTIONS[self.dtype]

    @property
    def operand_bytes(self) -> int:
        return self.instruction.element_bytes

    @property
    def c_bytes(self) -> int:
        return dtypes.storage(self.out_dtype).itemsize

    def sides(self, swap: bool) -> tuple[Operand, Operand]:
        """The left operand, whose rows a tile counts, and the right one."""
        products = len(self.groups) or self.batch
        a = Operand("a", self.batch, self.groups or (self.m,), self.a_along_k)
        b = Operand("b", products, (self.n,), self.b_along_k)
        return (b, a) if swap else (a, b)

    def chunk(self, tile_n: int) -> int:
        """Columns of a piece of C: as wide as TMA's widest pattern, or less to divide a tile."""
        return math.gcd(tile_n, _MAX_CHUNK_BYTES // self.c_bytes)

    def staging_bytes(self, tile_n: int, consumers: int, buffers: int, store: str) -> int:
        """Shared memory for C: `buffers` pieces of 16 rows for each of 4 warps a consumer."""
        if store == "direct":
            return 0
        return consumers * 4 * buffers * 16 * self.chunk(tile_n) * self.c_bytes

    def stage_bytes(self, tile_m: int, tile_n: int, tile_k: int) -> int:
        return (tile_m + tile_n) * tile_k * self.operand_bytes

    def shared_bytes(
        self,
        tile_m: int,
        tile_n: int,
        tile_k: int,
        stages: int,
        consumers: int,
        buffers: int,
        store: str,
    ) -> int:
        """Stages, pieces of C, two barriers a stage and two more, and what aligning costs."""
        tiles = stages * self.stage_bytes(tile_m, tile_n, tile_k)
        staging = self.staging_bytes(tile_n, consumers, buffers, store)
        return tiles + staging + 16 * (stages + 1) + ALIGNMENT_BYTES

    def clusters(
        self, tile_m: int, tile_n: int, cluster_m: int, cluster_n: int, swap: bool
    ) -> tuple[int, int]:
        """Rows and columns of clusters of tiles."""
        left, right = self.sides(swap)
        return left.clusters(tile_m, cluster_m), right.clusters(tile_n, cluster_n)

    def units(
        self, tile_m: int, tile_n: int, cluster_m: int, cluster_n: int, swap: bool, split_k: int
    ) -> int:
        """Units of work for a cluster: one for each of its places, part of k and product."""
        rows, columns = self.clusters(tile_m, tile_n, cluster_m, cluster_n, swap)
        return self.batch * split_k * rows * columns

    def partial_sums_bytes(self, split_k: int) -> int:
        """Scratch of split-K: a sum of 4 bytes for each element of C and part of k."""
        return 0 if split_k == 1 else 4 * split_k * self.batch * self.m * self.n


@dataclass(frozen=True)
class Grid:
    """How a schedule cuts a problem: into tiles, clusters of tiles, and units of work."""

    cluster_rows: int  # of clusters of tiles
    cluster_columns: int
    steps: int  # along k, all parts together
    parts: int  # of split-K
    units: int  # of work, for a cluster
    clusters: int  # launched
    cluster: int  # blocks in one
    stream_tiles: int  # units whose steps all clusters share

    @classmethod
    def of(cls, problem: Problem, schedule: Schedule) -> Grid:
        rows, columns = problem.clusters(*(schedule[name] for name in TILES))
        units = problem.batch * schedule["split_k"] * rows * columns
        cluster = schedule["cluster_m"] * schedule["cluster_n"]
        most = schedule["blocks"] // cluster if schedule["blocks"] else units
        shared = schedule["stream_k"]
        return cls(
            cluster_rows=rows,
            cluster_columns=columns,
            steps=ceil_divide(problem.k, schedule["tile_k"]),
            parts=schedule["split_k"],
            units=units,
            clusters=most if shared else min(most, units),
            cluster=cluster,
            stream_tiles=stream_tiles(units, most) if shared else 0,
        )

    @property
    def blocks(self) -> int:
        return self.clusters * self.cluster

    @property
    def rounds(self) -> float:
        """Units that the busiest cluster works on; shares of stream-K count by their steps."""
        whole = self.units - self.stream_tiles
        return ceil_divide(whole, self.clusters) + self.stream_tiles / self.clusters

    def scratch_bytes(self, problem: Problem, schedule: Schedule) -> int:
        if self.stream_tiles:
            return shares_bytes(schedule["tile_m"], schedule["tile_n"], self.blocks)
        return problem.partial_sums_bytes(self.parts)


def stream_tiles(units: int, clusters: int) -> int:
    """Tiles that stream-K shares out: those that would not fill a round, and a round more, so that
    shares are between one and two tiles long (Osama and others, arXiv:2301.03598)."""
    return units if units < clusters else units % clusters + clusters


def shares_bytes(tile_m: int, tile_n: int, blocks: int) -> int:
    """Scratch of stream-K: the sums of two tiles for each block."""
    return 2 * blocks * tile_m * tile_n * 4


def consumer_registers(consumers: int, resident: int) -> int:
    """What a consumer's thread gets when the loader gives its surplus away; 0 for no exchange."""
    return warpgroup.consumer_registers(consumers, resident, LOADER_REGISTERS)


def sums_registers(tile_m: int, tile_n: int, sharers: int) -> int:
    """Sums that a consumer's thread holds; `sharers` consumers share the rows of a tile."""
    return tile_m * tile_n // (WARPGROUP * sharers)


def sharers(consumers: int, pingpong: bool) -> int:
    return 1 if pingpong else consumers


def row_blocks(tile_m: int, consumers: int, pingpong: bool) -> int:
    """Instructions' worth of rows of a consumer; 0 where its share is not whole ones."""
    each = ROWS * sharers(consumers, pingpong)
    return 0 if tile_m % each else tile_m // each
