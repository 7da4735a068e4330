"""Where it runs: the identity and the limits of one kind of silicon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from records import fields
from records.canonical import Items, Value, canonical_json, freeze


@dataclass(frozen=True)
class Target:
    """One kind of device as a tuning result knows it.

    `backend` is `"opencl"`, `"cuda"` or `"sim"`; `device` the driver's name of the silicon;
    `arch` what code is generated for, suffix kept (`"sm_90a"`), or the vendor's instruction set
    (`"x86-64-avx512"`). Two devices with equal (backend, device, arch, limits) are the same
    target. Driver versions, clocks and temperatures are circumstances and belong to a
    `Measurement`'s environment.

    Limits used by templates, absent where the device does not tell:

    - `kind`: `"cpu"` or `"gpu"`
    - `units`: compute units (cores, streaming multiprocessors)
    - `max_group`: work-items in one work-group
    - `shared_bytes`: local memory of one work-group, bytes
    - `registers`, `max_unit_threads`: 32-bit registers and work-items that one unit holds (GPU)
    - `warp`: work-items that execute in lockstep; 1 on a CPU
    - `vector_bytes`: width of a hardware vector register, bytes
    - `cache_bytes`: last-level cache, bytes; `l1_bytes`, `l2_bytes`: a core's own
    - `memory_bytes`: global memory; `max_buffer_bytes`: the largest single buffer
    - `clock_mhz`: the highest clock of a unit (GPU)
    - `dtypes`: names of the arithmetic types that kernels may use
    """

    backend: str
    device: str
    arch: str
    limits: Items

    @classmethod
    def of(cls, backend: str, device: str, arch: str, limits: Mapping[str, object]) -> Target:
        return cls(backend, device, arch, freeze(limits))

    @cached_property
    def _limits(self) -> dict[str, Value]:
        return dict(self.limits)

    def limit(self, name: str, default: Any = 0) -> Any:
        """A limit by name, or `default` where the device does not tell."""
        return self._limits.get(name, default)

    @property
    def is_cpu(self) -> bool:
        return bool(self.limit("kind", "") == "cpu")

    @cached_property
    def key(self) -> str:
        """Canonical JSON of the whole identity."""
        return canonical_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "backend": self.backend,
            "device": self.device,
            "arch": self.arch,
            "limits": dict(self.limits),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Target:
        return cls.of(
            fields.text(data, "backend"),
            fields.text(data, "device"),
            fields.text(data, "arch"),
            fields.mapping(data, "limits"),
        )

    def __str__(self) -> str:
        return f"{self.backend}:{self.device} ({self.arch})"
