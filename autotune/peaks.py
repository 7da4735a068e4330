"""The peaks of this machine's devices: probed once, and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autotune import backends, child
from autotune.backends.base import DeviceInfo
from autotune.cache import cache_directory, write_atomically
from autotune.device_names import resolve
from records.canonical import canonical_json, digest
from records.peaks import Peaks

__all__ = ["Peaks", "known", "measure", "probe"]

PROBE_TIMEOUT_S = 120.0
_VERSION = 1  # of the probes: raise it when they would measure something else


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
    except (OSError, TypeError, ValueError):
        return None


def _path(info: DeviceInfo) -> Path:
    target = info.target.to_json() if info.target else {}
    key = digest(canonical_json([_VERSION, target, info.driver]))
    return cache_directory("peaks") / f"{key}.json"
