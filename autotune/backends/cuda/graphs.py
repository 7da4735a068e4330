"""CUDA graphs: short kernels launched by the device itself, one right after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from autotune.backends.cuda.driver import Session
from records.errors import DeviceError


class Graph:
    """What `enqueue` puts on a stream, `repeats` times. PyCUDA wraps no graphs: see `native`."""

    def __init__(self, session: Session, executable: int, repeats: int) -> None:
        self._session = session
        self._executable = executable
        self.repeats = repeats

    def launch(self, stream: Any) -> None:
        with self._session.active("launching a graph"):
            self._session.native.launch_graph(self._executable, stream.handle)

    def release(self) -> None:
        """Idempotent."""
        executable, self._executable = self._executable, 0
        if executable:
            with suppress(DeviceError), self._session.active("freeing a graph"):
                self._session.native.destroy_graph(executable)


def captured(
    session: Session, stream: Any, enqueue: Callable[[Any], None], repeats: int
) -> Graph | None:
    """A graph, or `None` where the driver cannot make one: then launch without."""
    with session.active("recording a graph"), session.recording():
        try:
            session.native.begin_capture(stream.handle)
        except DeviceError:
            return None
        try:
            for _ in range(repeats):
                enqueue(stream)
        except DeviceError:
            repeats = 0
        executable = _ended(session, stream)
    graph = Graph(session, executable, repeats)
    if executable and repeats:
        return graph
    graph.release()
    return None


def _ended(session: Session, stream: Any) -> int:
    """The stream leaves its recording in any case; 0 where that gave no graph."""
    try:
        return session.native.end_capture(stream.handle)
    except DeviceError:
        return 0
