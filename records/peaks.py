"""What a kind of device reaches at best: the rates that a roofline divides by."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from records import fields
from records.target import Target


@dataclass(frozen=True)
class Peaks:
    """Measured, not from a data sheet; positive and finite (`ValueError` otherwise).

    `copy_bytes_per_s`: bytes read plus bytes written by a copy far larger than any cache.
    `flops_per_s`: by dtype, a fused multiply-add counted as two.
    """

    copy_bytes_per_s: float
    flops_per_s: Mapping[str, float]

    def __post_init__(self) -> None:
        rates = (self.copy_bytes_per_s, *self.flops_per_s.values())
        if not all(0.0 < rate < math.inf for rate in rates):
            raise ValueError(f"peaks need positive finite rates, got {rates!r}")

    def floor_s(self, flops: float, bytes: float, dtype: str = "float32") -> float:
        """Seconds that work of `flops` operations and `bytes` of traffic takes at the least.

        The roofline (Williams, Waterman, Patterson 2009): the slower of the two. A dtype that
        was not probed is bounded by memory alone.
        """
        rate = self.flops_per_s.get(dtype, 0.0)
        return max(bytes / self.copy_bytes_per_s, flops / rate if rate else 0.0)

    def to_json(self) -> dict[str, Any]:
        return {
            "copy_bytes_per_s": self.copy_bytes_per_s,
            "flops_per_s": dict(self.flops_per_s),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Peaks:
        """`TypeError` or `ValueError` for what is none."""
        rates = fields.mapping(data, "flops_per_s")
        return cls(
            fields.number(data, "copy_bytes_per_s"),
            {name: fields.number(rates, name) for name in rates},
        )


def stored_peaks(text: str) -> Peaks | None:
    """As the database keeps them; `None` for what is none."""
    try:
        return Peaks.from_json(json.loads(text))
    except (TypeError, ValueError):
        return None


PeaksOf: TypeAlias = Mapping[Target, Peaks]
"""The peaks of those targets of which they are known."""

NO_PEAKS: PeaksOf = MappingProxyType({})
