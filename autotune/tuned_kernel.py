"""A tuned kernel as a function of arrays."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from autotune import call_arguments
from autotune.backends.base import Backend, Launcher
from records.errors import InvalidInputError
from records.record import TuningRecord
from records.schedule import Schedule
from records.workload import Workload
from search_spaces.kernel import Array, KernelSource


class TunedKernel:
    """A computation on one device, called as `kernel(a, b)` or `kernel(a=…, b=…)`.

    Positions follow `parameters`: the op's inputs and scalars in its own order. Arrays are all
    on the host (numpy, or anything there that speaks DLPack) and outputs come back as numpy
    arrays; or all on the device, and outputs are device arrays. Shapes and dtypes must be the
    workload's; nothing is cast or broadcast. Host arrays need not be contiguous: a copy is made.
    Scalars may be Python numbers.

    `out` names arrays to write into: one array where the workload has one output, else a mapping
    by name. `queue` is handed to the backend; with it, device work is enqueued and not waited
    for. A single output is returned bare, several by name. Calls from several threads take turns.
    The kernel owns its open device: `close()` it, or use it as a context manager.
    """

    def __init__(
        self, record: TuningRecord, source: KernelSource, launcher: Launcher, backend: Backend
    ) -> None:
        self.record = record
        self.source = source
        self.backend = backend
        self.parameters: tuple[Array, ...] = tuple(
            array for array in source.arrays if array.role != "output"
        )
        self.outputs: tuple[Array, ...] = tuple(
            array for array in source.arrays if array.role == "output"
        )
        self._launcher: Launcher | None = launcher
        self._turn = threading.Lock()

    @property
    def workload(self) -> Workload:
        return self.record.workload

    @property
    def schedule(self) -> Schedule:
        return self.record.schedule

    @property
    def expected_time_s(self) -> float:
        """Median of the measurement that won, seconds; without copies to and from the host."""
        time_s = self.record.measurement.time_s
        assert time_s is not None, "a winner was measured"
        return time_s

    def __call__(self, *positional: Any, out: Any = None, queue: Any = None, **named: Any) -> Any:
        given = call_arguments.by_name(self.parameters, positional, named)
        wanted = call_arguments.outputs_by_name(self.outputs, out)
        call = call_arguments.checked(self.parameters, self.outputs, given, wanted)
        with self._turn:
            if self._launcher is None:
                raise InvalidInputError(f"{self} was closed; load it again")
            results = self._launcher(call.arrays, call.out or None, queue)
        results = call.delivered(results)
        return next(iter(results.values())) if len(self.outputs) == 1 else results

    def close(self) -> None:
        """Release the device. Closing twice is harmless; a closed kernel cannot be called."""
        with self._turn:
            if self._launcher is not None:
                self._launcher = None
                self.backend.close()

    def __enter__(self) -> TunedKernel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(array.name for array in self.parameters)
        return f"<TunedKernel {self.workload}: ({names}) on {self.record.target}>"
