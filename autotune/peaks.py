"""What a device reaches at best: the rates that a roofline divides by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import backends, child
from autotune.backends.base import DeviceInfo
from autotune.cache import cache_directory, write_atomically
from autotune.device_names import resolve
from records.canonical import canonical_json, digest

PROBE_TIMEOUT_S = 120.0
_VERSION = 1  # of the probes: raise it when they would measure something else


@dataclass(frozen=True)
class Peaks:
    """Measured, not from a data sheet.

    `copy_bytes_per_s`: bytes read plus bytes written by a copy far larger than any cache.
    `flops_per_s`: by dtype, a fused multiply-add counted as two.
    """

    copy_bytes_per_s: float
    flops_per_s: Mapping[str, float]

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
        rates = {str(name): float(rate) for name, rate in data["flops_per_s"].items()}
        return cls(float(data["copy_bytes_per_s"]), rates)


def probe(name: str | None = None, *, again: bool = False) -> Peaks:
    """The peaks of a device, measured in a child process once per target and driver, and kept.

    A busy machine shows lower peaks: `again` measures anew, on a quieter one.
    Raises as `autotune.device_names.resolve` does, and `DeviceError` where a probe fails.
    """
    info = resolve(name)
    peaks = None if again else _read(info)
    if peaks is None:
        measured = child.ask(f"{__name__}:measure", info.name, timeout_s=PROBE_TIMEOUT_S)
        peaks = Peaks.from_json(measured)
        write_atomically(_path(info), canonical_json(peaks.to_json()).encode())
    return peaks


def known(name: str | None = None) -> Peaks | None:
    """The peaks of a device where they were probed before; measures nothing."""
    return _read(resolve(name))


def measure(name: str) -> dict[str, Any]:
    """Measure now, in this process; `Peaks` in its JSON form."""
    from autotune import peak_kernels

    info = resolve(name)
    backend = backends.load(info.backend).open(info.name)
    try:
        return peak_kernels.measure(backend).to_json()
    finally:
        backend.close()


def _read(info: DeviceInfo) -> Peaks | None:
    try:
        return Peaks.from_json(json.loads(_path(info).read_text()))
    except (OSError, ValueError, KeyError):
        return None


def _path(info: DeviceInfo) -> Path:
    target = info.target.to_json() if info.target else {}
    key = digest(canonical_json([_VERSION, target, info.driver]))
    return cache_directory("peaks") / f"{key}.json"
