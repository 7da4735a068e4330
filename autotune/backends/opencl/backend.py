"""One open OpenCL device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from autotune.backends.opencl.binaries import options_of, packed, unpacked
from autotune.backends.opencl.driver import build, cl, errors, find_device
from autotune.backends.opencl.execution import OpenCLExecution
from autotune.backends.opencl.flush import Flusher
from autotune.backends.opencl.kernels import Kernels
from autotune.backends.opencl.launcher import OpenCLLauncher
from autotune.backends.opencl.target import standard, target_of
from records.canonical import Value
from records.errors import DeviceError, InvalidInputError
from records.target import Target
from search_spaces.dialect import OPENCL, Dialect
from search_spaces.kernel import KernelSource


def open_device(name: str) -> OpenCLBackend:
    """The device of a canonical name, `opencl:<platform>:<device>`."""
    try:
        _, platform_index, device_index = name.split(":")
        device = find_device(int(platform_index), int(device_index))
    except ValueError:
        raise InvalidInputError(f"{name!r}: need opencl:<platform index>:<device index>") from None
    return OpenCLBackend(device)


class OpenCLBackend:
    """`autotune.backends.base.Backend` over one context and one in-order queue."""

    def __init__(self, device: Any) -> None:
        self._device = device
        with errors(f"opening {device.name.strip()}"):
            self._context = cl.Context([device])
            profiling = cl.command_queue_properties.PROFILING_ENABLE
            self._queue: Any = cl.CommandQueue(self._context, properties=profiling)
        self._flusher = Flusher(self._queue)
        self._target = target_of(device)

    @property
    def target(self) -> Target:
        return self._target

    @property
    def dialect(self) -> Dialect:
        return OPENCL

    @property
    def environment(self) -> Mapping[str, Value]:
        platform = self._device.platform
        return {
            "driver": self._device.driver_version,
            "platform": platform.name.strip(),
            "platform_version": platform.version.strip(),
            "compiler": self._device.opencl_c_version.strip(),
            "compiler_options": standard(self._device),
            "pyopencl": cl.VERSION_TEXT,
        }

    def compile(self, source: KernelSource) -> bytes:
        self._check_open()
        options = options_of(self._device, source)
        return packed(self._device, build(self._context, self._device, source.text, options))

    def prepare(
        self, source: KernelSource, binary: bytes, inputs: Mapping[str, npt.NDArray[Any]]
    ) -> OpenCLExecution:
        self._check_open()
        program = unpacked(self._context, self._device, source, binary)
        kernels = Kernels(program, self._device, source)
        return OpenCLExecution(self._queue, kernels, self._flusher, source, inputs)

    def launcher(self, source: KernelSource, binary: bytes) -> OpenCLLauncher:
        self._check_open()
        return OpenCLLauncher(self._queue, source, binary)

    def close(self) -> None:
        self._flusher.close()
        self._queue = None

    def _check_open(self) -> None:
        if self._queue is None:
            raise DeviceError(f"{self._device.name.strip()} was closed: open it again")
