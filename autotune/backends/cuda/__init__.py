"""NVIDIA GPUs through CUDA: PyCUDA for the device, NVRTC or nvcc for the compiler."""

from __future__ import annotations

from autotune.backends.base import Backend, DeviceInfo


def list_devices() -> list[DeviceInfo]:
    """Every CUDA device by index, or one line that says why there is none. Never raises."""
    from autotune.backends.cuda import discovery

    return discovery.list_devices()


def open(name: str) -> Backend:
    """The device of a canonical name, `cuda:<index>`. Its memory is not touched yet."""
    from autotune.backends.cuda import backend

    return backend.open_device(name)
