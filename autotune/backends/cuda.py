"""CUDA devices. Lists those that PyCUDA sees, or says what is missing to see any."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from autotune.backends.base import Backend, DeviceInfo
from records.errors import MissingComponentError
from records.target import Target

_INSTALL = 'pip install "autotune-kernels[cuda]"'


def list_devices() -> list[DeviceInfo]:
    """Every CUDA device by index, or one line that says why there is none. Never raises."""
    if importlib.util.find_spec("pycuda") is None:
        return [_absent(f"PyCUDA not installed: {_INSTALL}")]
    try:
        driver = importlib.import_module("pycuda.driver")
        driver.init()
        return [_info(driver, index) for index in range(driver.Device.count())]
    except Exception as error:  # no libcuda.so (ImportError), or no device (pycuda's own)
        return [_absent(f"no NVIDIA driver or device ({error}): install NVIDIA's driver")]


def open(name: str) -> Backend:
    raise MissingComponentError(f"{name}: this version has no CUDA backend; use OpenCL")


def _absent(problem: str) -> DeviceInfo:
    return DeviceInfo("cuda", "cuda", "NVIDIA GPUs by CUDA", problem)


def _info(driver: Any, index: int) -> DeviceInfo:
    device = driver.Device(index)
    major, minor = device.compute_capability()
    target = Target.of("cuda", device.name(), f"sm_{major}{minor}", {"kind": "gpu"})
    version = ".".join(map(str, driver.get_version()))
    problem = "this version measures NVIDIA GPUs through OpenCL only"
    return DeviceInfo(f"cuda:{index}", "cuda", device.name(), problem, target, version)
