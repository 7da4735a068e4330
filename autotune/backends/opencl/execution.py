"""A kernel with its arrays on an OpenCL device, as the measuring protocol drives it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy.typing as npt

from autotune.backends.guarded import GuardedArrays
from autotune.backends.opencl.driver import errors
from autotune.backends.opencl.flush import Flusher
from autotune.backends.opencl.kernels import Kernels
from autotune.backends.opencl.memory import OpenCLMemory
from records.canonical import Value
from search_spaces.kernel import KernelSource
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
        with errors("memory for the arrays"):
            self._arrays = GuardedArrays(source, inputs, partial(OpenCLMemory, queue))
        try:
            self._kernels.bind(self._arrays.arguments)
        except BaseException:
            self.close()
            raise

    @property
    def details(self) -> Mapping[str, Value]:
        return self._kernels.details

    def poison(self) -> None:
        with errors("poisoning"):
            self._arrays.poison()
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
        with errors("reading the outputs"):
            return self._arrays.outputs()

    def damage(self) -> str:
        with errors("reading the guard bands"):
            return self._arrays.damage()

    def close(self) -> None:
        self._arrays.close()
