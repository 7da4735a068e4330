"""Which OpenCL devices there are, and whether each can do anything."""

from __future__ import annotations

from typing import Any

from autotune import child
from autotune.backends.base import DeviceInfo
from autotune.backends.opencl import runtimes
from autotune.backends.opencl.driver import devices, platforms
from autotune.backends.opencl.target import is_simulator, rank, target_of
from autotune.cache import cache_directory, write_atomically
from records.canonical import canonical_json, digest
from records.errors import DeviceError

SIMULATOR = "a simulator, for checking kernels, not for tuning"
CHECK_TIMEOUT_S = 30.0

_NAMELESS = "opencl"  # stands in the list where there is no device to name


def list_devices() -> list[DeviceInfo]:
    """Every OpenCL device, usable ones first, fastest first; or why there is none."""
    found: list[tuple[tuple[bool, int, int], DeviceInfo]] = []
    listed = platforms()
    for platform_index, platform in enumerate(listed):
        for device_index, device in enumerate(devices(platform)):
            info = _info(f"opencl:{platform_index}:{device_index}", device)
            found.append((rank(device), info))
    found.sort(key=lambda pair: (pair[1].usable, pair[0]), reverse=True)
    return [info for _, info in found] + _absent([platform.name for platform in listed])


def _absent(platform_names: list[str]) -> list[DeviceInfo]:
    """A line for a runtime that should be there, or for none being there."""
    has_intel = any("intel" in name.lower() for name in platform_names)
    if has_intel or (runtimes.pip_runtime() is None and platform_names):
        return []
    problem = runtimes.loading_problem()
    if not problem and not platform_names:
        problem = f"no OpenCL platform where {runtimes.settings()} says: unset it"
    return [DeviceInfo(_NAMELESS, "opencl", "OpenCL on the CPU", problem)] if problem else []


def _info(name: str, device: Any) -> DeviceInfo:
    platform = device.platform
    description = f"{device.name.strip()} ({platform.name.strip()})"
    try:
        target = target_of(device)
    except Exception as error:  # a driver that cannot even describe itself
        return DeviceInfo(name, "opencl", description, f"does not describe itself: {error}")
    problem = SIMULATOR if is_simulator(device) else _problem(name, device)
    return DeviceInfo(name, "opencl", description, problem, target, device.driver_version)


def _problem(name: str, device: Any) -> str:
    """`""`, or why the device cannot run a tiny kernel. Success is remembered per driver."""
    facts = [device.platform.name, device.platform.version, device.name, device.driver_version]
    passed = cache_directory("opencl-checked") / digest(canonical_json(facts))
    if passed.exists():
        return ""
    try:
        child.ask(f"{__name__}:check", name, timeout_s=CHECK_TIMEOUT_S)
    except DeviceError as error:
        return f"cannot run a tiny kernel ({error}): reinstall or update its driver"
    write_atomically(passed, canonical_json(facts).encode())
    return ""


def check(name: str) -> bool:
    """Compile a tiny kernel, run it and compare; in a child process, for it may never return."""
    import numpy as np

    from autotune.backends.opencl.backend import open_device
    from search_spaces.kernel import Array, KernelSource, Launch

    source = KernelSource(
        "opencl",
        "__kernel void twice(__global const float *x, __global float *y)\n"
        "{ const size_t i = get_global_id(0); y[i] = 2.0f * x[i]; }\n",
        (Launch("twice", (4, 1, 1), (1, 1, 1), ("x", "y")),),
        (Array("x", (4,), "float32", "input"), Array("y", (4,), "float32", "output")),
    )
    backend = open_device(name)
    x = np.arange(4, dtype=np.float32)
    execution = backend.prepare(source, backend.compile(source), {"x": x})
    execution.launch()
    if not np.array_equal(execution.outputs()["y"], 2 * x):
        raise DeviceError("2 * x came out wrong")
    return True
