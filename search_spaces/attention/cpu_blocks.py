"""How a schedule of the CPU template cuts an attention: formulas."""

from __future__ import annotations

from dataclasses import dataclass

from records.schedule import Schedule
from search_spaces.attention.cpu_vectors import (
    FLOAT_BYTES,
    kv_sequences,
    row_count,
)
from search_spaces.attention.parameters import Parameters
from search_spaces.rounding import ceil_divide


@dataclass(frozen=True)
class Blocks:
    """What one work-item computes, and how many there are."""

    given: Parameters
    tile_rows: int  # of a panel
    panels: int
    keys: int  # whose weights are kept
    splits: int = 1  # parts of the keys

    @classmethod
    def of(cls, given: Parameters, schedule: Schedule) -> Blocks:
        return cls(
            given,
            schedule["tile_vectors"] * schedule["lanes"],
            schedule["panels"],
            block_keys(schedule["block_keys"], schedule["tile_keys"]),
            schedule["splits"],
        )

    @property
    def rows(self) -> int:
        return self.panels * self.tile_rows

    @property
    def count(self) -> int:
        blocks = kv_sequences(self.given) * ceil_divide(row_count(self.given), self.rows)
        return blocks * self.splits

    @property
    def weights_bytes(self) -> int:
        """Weights of a block of keys for a panel; each product with V reads them again."""
        return self.keys * self.tile_rows * FLOAT_BYTES

    @property
    def panel_bytes(self) -> int:
        """Queries of a panel; each tile of keys reads them again."""
        return self.given.head_dim * self.tile_rows * FLOAT_BYTES

    def private_bytes(self, copy_k: bool, copy_v: bool) -> int:
        """Everything that a work-item keeps: queries, sums, weights, copies."""
        dims = self.given.head_dim + self.given.v_dim
        copied = copy_k * self.given.head_dim + copy_v * self.given.v_dim
        own = dims * self.rows + copied * self.keys
        return own * FLOAT_BYTES + self.weights_bytes

    def busy_share(self, units: int) -> float:
        """Share of what the cores can do that is work on rows that exist.

        If all blocks take equally long: those of a causal workload do not, but long ones come
        first.
        """
        rounds = ceil_divide(self.count, units)
        rows = row_count(self.given) * kv_sequences(self.given) * self.splits
        return rows / (rounds * units * self.rows)


def block_keys(about: int, tile_keys: int) -> int:
    """Whole tiles."""
    return ceil_divide(about, tile_keys) * tile_keys


def must_copy(given: Parameters) -> bool:
    """Whether K and V do not lie as floats, a fixed distance apart."""
    return given.kv_dtype != "float32" or bool(given.page_size)
