"""What a backend offers to `autotune.peak_kernels`: kernels that reach a device's peaks.

A backend's module of probes has `flops_probes(target) -> Iterable[FlopsProbe]`, in the order in
which they are reported, and `copy_probe(target) -> CopyProbe`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from records.target import Target
from search_spaces.kernel import KernelSource

_COPY_BYTES = (64 << 20, 1 << 30)  # at least and at most; between, four times the last cache


@dataclass(frozen=True)
class FlopsProbe:
    """Arithmetic in registers, repeated as often as the scalar `iterations` (int32) says.

    `flops`: operations of one iteration over the whole device. Other scalars are numbers to
    compute with.
    """

    dtype: str
    source: KernelSource
    flops: float


@dataclass(frozen=True)
class CopyProbe:
    """A copy of `bytes` from the array `from` to the array `to`, both float32."""

    source: KernelSource
    bytes: int


class Probes(Protocol):
    def flops_probes(self, target: Target) -> Iterable[FlopsProbe]: ...

    def copy_probe(self, target: Target) -> CopyProbe: ...


def copy_groups(target: Target, group_bytes: int) -> int:
    """How many work-groups, each copying `group_bytes`, copy far more than the caches hold."""
    least, most = _COPY_BYTES
    wanted = min(most, max(least, 4 * target.limit("cache_bytes", 0)))
    most_bytes = int(min(wanted, target.limit("max_buffer_bytes", wanted) // 4))
    return max(1, most_bytes // group_bytes)
