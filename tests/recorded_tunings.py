"""Tunings of matmul on CPUs that do not exist, as records."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from records import Measurement, TuningRecord, exchange
from records.target import Target
from search_spaces import registry

_LIMITS = {
    "units": 2,
    "kind": "cpu",
    "dtypes": ["float32"],
    "warp": 1,
    "max_group": 8192,
    "vector_bytes": 64,
    "l1_bytes": 32768,
    "l2_bytes": 1 << 20,
    "cache_bytes": 1 << 25,
    "shared_bytes": 1 << 18,
    "memory_bytes": 1 << 34,
    "max_buffer_bytes": 1 << 33,
}


def target(backend: str = "opencl", device: str = "EPYC", arch: str = "x86-64-avx512") -> Target:
    return Target.of(backend, device, arch, _LIMITS)


def records(size: int, device: str = "EPYC", count: int = 40) -> list[TuningRecord]:
    """Search trials of a square matmul: large register tiles are fast, whatever the size."""
    workload = registry.op("matmul").workload(m=size, n=size, k=size)
    template = registry.template("matmul", "cpu")
    space = template.space(workload, target(device=device))
    return [
        TuningRecord(
            workload,
            target(device=device),
            schedule,
            Measurement.ok((size**3 / schedule["tile_m"] / schedule["tile_vectors"] * 1e-9,)),
            "2024-01-01T00:00:00.000+00:00",
        )
        for schedule in space.sample(count, np.random.default_rng(size))
    ]


def written(path: Path, *groups: list[TuningRecord]) -> str:
    exchange.write_file(path, [record for group in groups for record in group])
    return str(path)
