"""How tiles cut a product: arithmetic that templates of matmul share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from records.schedule import Schedule
from search_spaces.rounding import ceil_divide


class Extents(Protocol):
    """A product as a grid sees it."""

    @property
    def m(self) -> int: ...

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...


@dataclass(frozen=True)
class Grid:
    """How many tiles a schedule cuts a problem into."""

    rows: int  # of tiles of C
    columns: int
    steps: int  # tiles along k, all parts together
    parts: int  # of split-K

    @classmethod
    def of(cls, problem: Extents, schedule: Schedule) -> Grid:
        return cls(
            ceil_divide(problem.m, schedule["block_m"]),
            ceil_divide(problem.n, schedule["block_n"]),
            ceil_divide(problem.k, schedule["block_k"]),
            schedule["split_k"],
        )

    @property
    def tiles(self) -> int:
        return self.rows * self.columns
