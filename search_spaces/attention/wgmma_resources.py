"""What a schedule of the wgmma attention asks of the hardware: formulas beside their meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from records.schedule import Schedule
from records.workload import Workload
from search_spaces import warpgroup
from search_spaces.attention.parameters import Parameters
from search_spaces.rounding import ceil_divide

ROWS = 64  # of queries, for each warpgroup that multiplies
PANEL = 64  # columns of 16 bits in shared memory, as wide as TMA's widest swizzle
LINE_BYTES = 128  # of a panel
SLICE = 16  # columns of Q and K, or rows of V, in one product
ELEMENT_BYTES = 2
ALIGNMENT_BYTES = 1024  # after which the swizzle repeats
UNIT_SHARED_BYTES = (
    228 << 10
)  # of compute capability 9.0; each block takes another 1 KiB for the system
BLOCK_SHARED_BYTES = 1 << 10
LOADER_REGISTERS = 24
OTHER_REGISTERS = 32  # limits, sums of rows, addresses; NVRTC 13 spills nothing above that
BIAS_REGISTERS = 4  # more, where scores are biased,
SOFTCAP_REGISTERS = 28  # or capped, as the compiler computes many hyperbolic tangents at once
INSTRUCTION_REGISTERS = 30  # beside the sums, that ptxas of CUDA 13 wants for one instruction


@dataclass(frozen=True)
class Problem:
    """An attention workload as the template's formulas see it."""

    given: Parameters

    @classmethod
    def of(cls, workload: Workload) -> Problem:
        return cls(Parameters.of(workload))

    @property
    def q_panels(self) -> int:
        return ceil_divide(self.given.head_dim, PANEL)

    @property
    def v_panels(self) -> int:
        return ceil_divide(self.given.v_dim, PANEL)

    @property
    def query_slices(self) -> int:
        """Products along a row of Q, the last one padded with zeros."""
        return ceil_divide(self.given.head_dim, SLICE)

    def packed_heads(self, pack_heads: bool) -> int:
        """Heads of Q among the rows of a tile."""
        return self.given.queries_per_kv_head if pack_heads else 1

    def lines(self, pack_heads: bool) -> int:
        """Heads of all sequences, or groups of them, that have tiles of their own."""
        return self.given.batch * self.given.heads // self.packed_heads(pack_heads)

    def row_tiles(self, consumers: int, pack_heads: bool, cluster: int = 1) -> int:
        """Tiles of queries, or clusters of them, in each line of the longest sequence."""
        rows = self.given.q_len * self.packed_heads(pack_heads)
        return ceil_divide(rows, ROWS * consumers * cluster)

    def units(self, consumers: int, pack_heads: bool, splits: int, cluster: int = 1) -> int:
        """Units of work for a cluster."""
        return self.lines(pack_heads) * self.row_tiles(consumers, pack_heads, cluster) * splits

    def stage_bytes(self, tile_n: int) -> int:
        """A tile of K and one of V."""
        return (self.q_panels + self.v_panels) * tile_n * LINE_BYTES

    def query_bytes(self, consumers: int) -> int:
        return self.q_panels * ROWS * consumers * LINE_BYTES

    def shared_bytes(
        self, consumers: int, tile_n: int, stages: int, store: str, buffers: int
    ) -> int:
        """Q, stages, pieces of 16 rows of the output for each warp, barriers; and what aligning
        costs."""
        staging = consumers * 4 * buffers * 16 * LINE_BYTES if store == "tma" else 0
        tiles = self.query_bytes(consumers) + stages * self.stage_bytes(tile_n)
        return tiles + staging + 16 + 32 * stages + ALIGNMENT_BYTES

    def registers(self, tile_n: int, overlap: bool, query: str) -> int:
        """Of a thread that multiplies: scores, output, and weights beside scores; all of them where
        both are in use, else while the first take the place of the others."""
        weights = tile_n // 4 if overlap else tile_n // 16
        fragments = tile_n // 2 + weights + self.given.v_dim // 2
        queries = 4 * self.query_slices if query == "registers" else 0
        further = BIAS_REGISTERS if self.given.bias != "none" else 0
        if self.given.softcap:
            further = SOFTCAP_REGISTERS
        return fragments + queries + OTHER_REGISTERS + further

    def page_rows(self, tile_n: int) -> int:
        """Rows of a page that one copy loads; 0 without pages."""
        return math.gcd(self.given.page_size, tile_n) if self.given.page_size else 0


@dataclass(frozen=True)
class Grid:
    """How a schedule cuts a problem."""

    lines: int
    row_tiles: int  # of a line, in clusters
    splits: int  # of the keys of a tile
    clusters: int  # launched
    cluster: int  # blocks in one

    @classmethod
    def of(cls, problem: Problem, schedule: Schedule) -> Grid:
        consumers, packs, cluster = (
            schedule[name] for name in ("consumers", "pack_heads", "cluster")
        )
        units = problem.units(consumers, packs, schedule["splits"], cluster)
        return cls(
            problem.lines(packs),
            problem.row_tiles(consumers, packs, cluster),
            schedule["splits"],
            min(schedule["blocks"] // cluster or units, units),
            cluster,
        )

    @property
    def units(self) -> int:
        """Of work, for a cluster."""
        return self.lines * self.row_tiles * self.splits

    @property
    def blocks(self) -> int:
        return self.clusters * self.cluster


def shared_bytes(problem: Problem, schedule: Schedule) -> int:
    names = ("consumers", "tile_n", "stages", "store", "buffers")
    return problem.shared_bytes(*_values(schedule, names))


def _values(schedule: Schedule, names: tuple[str, ...]) -> list[Any]:
    return [schedule[name] for name in names]


def consumer_registers(consumers: int, resident: int) -> int:
    """What a consumer's thread gets when the loader gives its surplus away; 0 for no exchange."""
    return warpgroup.consumer_registers(consumers, resident, LOADER_REGISTERS)
