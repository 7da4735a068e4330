"""A kernel with its arrays on an OpenCL device, as the measuring protocol drives it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.backends.opencl.driver import errors
from autotune.backends.opencl.flush import Flusher
from autotune.backends.opencl.kernels import Kernels
from autotune.backends.opencl.memory import GuardedBuffer
from records.canonical import Value
from records.errors import InvalidInputError
from search_spaces.kernel import Array, KernelSource
from search_spaces.op import Arrays


class OpenCLExecution:
    """`autotune.backends.base.Execution` on an in-order queue of our own."""

    def __init__(
        self,
        queue: Any,
        kernels: Kernels,
        flusher: Flusher,
        source: KernelSource,
        inputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self._queue = queue
        self._context = queue.context  # which not every driver's queue keeps alive
        self._kernels = kernels
        self._flusher = flusher
        self._outputs = [array for array in source.arrays if array.role == "output"]
        self._buffers: dict[str, GuardedBuffer] = {}
        self._inputs: set[str] = set()
        _check_names(source, inputs)
        try:
            with errors("memory for the arrays"):
                self._allocate(source, inputs)
            self.poison()
            self._kernels.bind(self._arguments(source, inputs))
        except BaseException:
            self.close()
            raise

    @property
    def details(self) -> Mapping[str, Value]:
        return self._kernels.details

    def poison(self) -> None:
        with errors("poisoning"):
            for name, buffer in self._buffers.items():
                if name not in self._inputs:
                    buffer.poison()
            self._queue.finish()

    def launch(self) -> float:
        """Seconds from the start of the first launch to the end of the last, by the device.

        Measured on Intel's CPU runtime: the host's clock around the same launches reads 4 µs
        more when idle, and milliseconds more when other processes delay the wake-up of its
        threads (median 5.6 ms against 3.8 ms); the fastest runs agree. Profiling costs nothing.
        """
        start_s = time.perf_counter()
        events = self._kernels.enqueue(self._queue)
        with errors("running the kernel"):
            self._queue.finish()
            host_s = time.perf_counter() - start_s
            self._kernels.refuse_failed(events)
            device_s = (events[-1].profile.end - events[0].profile.start) * 1e-9
        return device_s if 0.0 < device_s <= host_s else host_s  # a clock too coarse, or broken

    def flush(self, flush_bytes: int) -> None:
        with errors("flushing caches"):
            self._flusher.flush(flush_bytes)

    def outputs(self) -> Arrays:
        arrays: Arrays = {}
        with errors("reading the outputs"):
            for array in self._outputs:
                arrays[array.name] = np.empty(array.shape, array.dtype)
                self._buffers[array.name].read(arrays[array.name])
        return arrays

    def damage(self) -> str:
        with errors("reading the guard bands"):
            found = [buffer.damage() for buffer in self._buffers.values()]
        return "; ".join(filter(None, found))

    def close(self) -> None:
        for buffer in self._buffers.values():
            buffer.release()
        self._buffers.clear()

    def _allocate(self, source: KernelSource, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        for array in source.arrays:
            if array.role == "scalar":
                continue
            size = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
            buffer = self._add(array.name, size)
            if array.role == "input":
                self._inputs.add(array.name)
                buffer.write(_checked(array, inputs))
        for scratch in source.scratch:
            self._add(scratch.name, scratch.bytes)

    def _add(self, name: str, size: int) -> GuardedBuffer:
        buffer = GuardedBuffer(self._queue, name, size, seed=len(self._buffers))
        self._buffers[name] = buffer
        return buffer

    def _arguments(
        self, source: KernelSource, inputs: Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, Any]:
        scalars = {
            array.name: np.dtype(array.dtype).type(inputs[array.name])
            for array in source.arrays
            if array.role == "scalar"
        }
        return {name: buffer.buffer for name, buffer in self._buffers.items()} | scalars


def _check_names(source: KernelSource, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    needed = [array.name for array in source.arrays if array.role != "output"]
    missing = [name for name in needed if name not in inputs]
    if missing:
        raise InvalidInputError(f"inputs: missing {', '.join(missing)} of {', '.join(needed)}")


def _checked(array: Array, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    given = np.asarray(inputs[array.name])
    if given.shape != array.shape or given.dtype != np.dtype(array.dtype):
        raise InvalidInputError(
            f"input {array.name}: need {array.dtype} of shape {array.shape}, "
            f"got {given.dtype} of shape {given.shape}"
        )
    return given
