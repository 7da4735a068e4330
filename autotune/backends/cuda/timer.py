"""How long the device takes for what is enqueued, by its own clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from autotune.backends.cuda.compiler import compile_for
from autotune.backends.cuda.driver import Session
from records.errors import CompileError, MissingComponentError
from search_spaces.kernel import KernelSource, Launch

_HOLD_S = (30e-6, 1e-3)  # at least and at most; between, twice what enqueuing took before
_HOLD = KernelSource(
    "cuda",
    'extern "C" __global__ void hold(long long cycles)\n'
    "{ long long end = clock64() + cycles; while (clock64() < end) ; }\n",
    (Launch("hold", (1, 1, 1), (1, 1, 1), ()),),
    (),
)


class Timer:
    """Times work on the session's stream between two events. Use inside `Session.active`.

    An idle device would reach the first event before the host has enqueued the work, and the
    launch's way through the driver, some 5 µs, would count. So a thread spins on the device until
    everything is enqueued. Where nothing can be compiled, this is left out.
    """

    def __init__(self, session: Session, arch: str) -> None:
        self._session = session
        self._start, self._end = session.cuda.Event(), session.cuda.Event()
        self._hold: Any = None
        self._hold_s, _ = _HOLD_S
        self._clock_hz = 1000 * session.attribute("CLOCK_RATE")
        binary = _hold_binary(arch)
        if binary:
            self._module = session.cuda.module_from_buffer(binary)
            self._hold = self._module.get_function("hold")
            self._hold.prepare("q")

    def time_s(self, enqueue: Callable[[Any], None]) -> float:
        """Seconds between the events around the work, once everything is done.

        Where that is nonsense (a coarse or broken clock), the host's time.
        """
        stream = self._session.stream
        host_start_s = time.perf_counter()
        if self._hold is not None:
            cycles = int(self._hold_s * self._clock_hz)
            self._hold.prepared_async_call((1, 1, 1), (1, 1, 1), stream, cycles)
        held_s = time.perf_counter()
        self._start.record(stream)
        enqueue(stream)
        self._end.record(stream)
        least_s, most_s = _HOLD_S
        self._hold_s = min(most_s, max(least_s, 2 * (time.perf_counter() - held_s)))
        self._end.synchronize()
        host_s = time.perf_counter() - host_start_s
        device_s = float(self._start.time_till(self._end)) * 1e-3
        return device_s if 0.0 < device_s <= host_s else host_s


@cache
def _hold_binary(arch: str) -> bytes:
    try:
        return compile_for(_HOLD, arch)
    except (CompileError, MissingComponentError):
        return b""
