"""A kernel with its arrays on a CUDA device, as the measuring protocol drives it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import numpy.typing as npt

from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.flush import Flusher
from autotune.backends.cuda.graphs import Graph, captured
from autotune.backends.cuda.host_arrays import HostArrays
from autotune.backends.cuda.kernels import Kernels
from autotune.backends.cuda.memory import CudaMemory
from autotune.backends.cuda.nvml import Telemetry
from autotune.backends.cuda.timer import Timer
from autotune.backends.cuda.uploads import Uploads
from autotune.backends.guarded import GuardedArrays
from records.canonical import Value
from search_spaces.kernel import KernelSource
from search_spaces.op import Arrays

_SHORT_S = 20e-6  # launches that take less than this are launch-bound
_GRAPH_S = 200e-6  # what a graph of them fills, so that its own start counts for little
_MAX_REPEATS = 50


class Instruments:
    """What measuring on a device takes besides a kernel; its executions share them."""

    def __init__(self, session: Session, arch: str) -> None:
        self.session = session
        self.flusher = Flusher(session)
        self.host_arrays = HostArrays(session)
        self.telemetry = Telemetry(session.device.pci_bus_id())
        self._arch = arch

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(self.session)

    @cached_property
    def timer(self) -> Timer:
        with self.session.active("making events"):
            return Timer(self.session, self._arch)


class CudaExecution:
    """`autotune.backends.base.Execution` on the session's own stream.

    `launch` runs the launches once. Only where caches are warm (the launch before was neither
    poisoned nor flushed away) and they took less than 20 µs, it replays a CUDA graph that holds
    them some 10 times, and returns the mean: `graph_launches` of the details says how many. Where
    the driver records no graph, they are launched one by one, as ever.
    """

    def __init__(
        self,
        instruments: Instruments,
        source: KernelSource,
        binary: bytes,
        inputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        session = self._session = instruments.session
        self._instruments = instruments
        self._graph: Graph | None = None
        self._warm_s = 0.0  # of the latest launch, 0 where the next finds other caches
        self._can_graph = True
        self._kernels = Kernels(session, source, binary)
        allocate = partial(CudaMemory, session, uploaded=instruments.uploads)
        self._arrays = GuardedArrays(source, inputs, allocate, instruments.host_arrays.empty)
        instruments.telemetry.restart()
        try:
            self._kernels.bind(self._arrays.arguments)
        except BaseException:
            self.close()
            raise

    @property
    def details(self) -> Mapping[str, Value]:
        details = {**self._kernels.details, **self._instruments.telemetry.details}
        if self._graph is not None:
            details["graph_launches"] = self._graph.repeats
        return details

    def poison(self) -> None:
        self._warm_s = 0.0
        with self._session.active("poisoning"):
            self._arrays.poison()

    def launch(self) -> float:
        """Seconds from the start of the first launch to the end of the last, by the device."""
        graph = self._graph_for(self._warm_s)
        timer = self._instruments.timer
        with self._session.active("running the kernel"):
            if graph is None:
                time_s = timer.time_s(self._kernels.enqueue)
            else:
                time_s = timer.time_s(graph.launch) / graph.repeats
        self._warm_s = time_s
        self._instruments.telemetry.sample()
        return time_s

    def flush(self, flush_bytes: int) -> None:
        if flush_bytes > 0:
            self._warm_s = 0.0
        self._instruments.flusher.flush(flush_bytes)

    def outputs(self) -> Arrays:
        with self._session.active("reading the outputs"):
            return self._arrays.outputs()

    def damage(self) -> str:
        with self._session.active("reading the guard bands"):
            return self._arrays.damage()

    def close(self) -> None:
        if self._graph is not None:
            self._graph.release()
        self._arrays.close()
        self._kernels.release()

    def _graph_for(self, warm_s: float) -> Graph | None:
        if not 0.0 < warm_s < _SHORT_S or not self._can_graph:
            return None
        if self._graph is None:
            repeats = min(_MAX_REPEATS, max(1, round(_GRAPH_S / warm_s)))
            with self._session.active("recording a graph"):
                stream = self._session.stream
                self._graph = captured(self._session, stream, self._kernels.enqueue, repeats)
            self._can_graph = self._graph is not None
        return self._graph
