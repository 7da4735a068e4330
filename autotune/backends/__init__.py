"""The table of backends. Each module is imported when one of its devices is asked for.

A backend's module has `list_devices() -> list[DeviceInfo]`, the usable ones first and fastest
first, which never raises; and `open(name) -> Backend` for a name that it listed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from autotune.backends.base import Backend, DeviceInfo

BACKENDS: Mapping[str, str] = {
    "cuda": "autotune.backends.cuda",
    "opencl": "autotune.backends.opencl",
    "sim": "autotune.backends.simulated",
}


class BackendModule(Protocol):
    def list_devices(self) -> list[DeviceInfo]: ...

    def open(self, name: str) -> Backend: ...


def load(name: str) -> BackendModule:
    """The module of a backend of the table."""
    return cast(BackendModule, importlib.import_module(BACKENDS[name]))
