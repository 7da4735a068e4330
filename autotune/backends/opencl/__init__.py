"""OpenCL devices: every one that a driver lists, on CPUs and GPUs."""

from __future__ import annotations

from autotune.backends.base import Backend, DeviceInfo


def list_devices() -> list[DeviceInfo]:
    """Every OpenCL device, usable ones first, fastest first. Never raises."""
    try:
        from autotune.backends.opencl import discovery
    except ImportError as error:
        problem = f"PyOpenCL does not load ({error}): pip install --force-reinstall pyopencl"
        return [DeviceInfo("opencl", "opencl", "OpenCL devices", problem)]
    return discovery.list_devices()


def open(name: str) -> Backend:
    """The device of a canonical name, `opencl:<platform>:<device>`."""
    from autotune.backends.opencl import backend

    return backend.open_device(name)
