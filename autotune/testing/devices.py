"""Which devices a test runs on."""

from __future__ import annotations

import os

from autotune.device_names import list_devices, resolve

VARIABLE = "AUTOTUNE_TEST_DEVICES"


def names(backend: str) -> list[str]:
    """Canonical names of a backend's usable devices, to parametrise a fixture with.

    The environment variable `AUTOTUNE_TEST_DEVICES` (names as `--device` takes them, separated
    by commas) chooses instead; what it names must be usable. Raises `RuntimeError` where `CI` is
    set and there is no OpenCL device: a run that tests nothing must not pass.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        infos = [resolve(name.strip()) for name in chosen.split(",")]
    else:
        infos = [info for info in list_devices() if info.usable]
    found = [info.name for info in infos if info.backend == backend]
    if not found and backend == "opencl" and os.environ.get("CI"):
        raise RuntimeError('no usable OpenCL device in CI: pip install "autotune-kernels[cpu]"')
    return found
