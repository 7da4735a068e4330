"""Targets that tests of templates share: what devices of each kind tell of themselves."""

from __future__ import annotations

from typing import Any

from records.target import Target

GPU_LIMITS: dict[str, Any] = {
    "kind": "gpu",
    "units": 132,
    "max_group": 1024,
    "shared_bytes": 227 << 10,
    "registers": 65536,
    "warp": 32,
    "cache_bytes": 50 << 20,
    "memory_bytes": 80 << 30,
    "dtypes": ("float16", "float32", "float64"),
}
_CPU_LIMITS: dict[str, Any] = {
    "kind": "cpu",
    "units": 2,
    "max_group": 8192,
    "shared_bytes": 256 << 10,
    "vector_bytes": 64,
    "l1_bytes": 32 << 10,
    "l2_bytes": 1 << 20,
    "cache_bytes": 32 << 20,
    "memory_bytes": 32 << 30,
    "warp": 1,
    "dtypes": ("float16", "float32", "float64"),
}


def gpu(arch: str = "sm_90a", **limits: Any) -> Target:
    """An NVIDIA GPU of 132 units, but for `limits`."""
    return Target.of("cuda", "Some NVIDIA", arch, GPU_LIMITS | limits)


def cpu(**limits: Any) -> Target:
    """A server with AVX-512 and two cores, but for `limits`."""
    return Target.of("opencl", "Some CPU", "x86-64", _CPU_LIMITS | limits)
