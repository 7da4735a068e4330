"""The seam to a device. The whole contract of a backend stands here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from records.canonical import Value
from records.target import Target
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource
from search_spaces.op import Arrays


@dataclass(frozen=True)
class DeviceInfo:
    """A device as `autotune devices` lists it, usable or not.

    `name` is what `--device` takes (`"opencl:0:0"`, `"cuda:0"`, `"sim:steady"`). `problem` is
    `""`, or why it cannot be used, with the remedy. `target` and `driver` are absent where the
    driver does not say enough.
    """

    name: str
    backend: str
    description: str
    problem: str = ""
    target: Target | None = None
    driver: str = ""

    @property
    def usable(self) -> bool:
        return not self.problem and self.target is not None


class Execution(Protocol):
    """A kernel with its arrays on the device: the measuring protocol drives this.

    Outputs and scratch are filled with a poison (NaN, or a bit pattern for integers) and every
    buffer lies between guard bands. Not thread-safe. `close()` frees the device's memory.
    """

    @property
    def details(self) -> Mapping[str, Value]:
        """Facts of the binary: registers, spill bytes, … where the driver tells."""

    def poison(self) -> None:
        """Fill outputs and scratch with poison again."""

    def launch(self) -> float:
        """Run all launches once, wait, and return the seconds that the device spent.

        Raises `DeviceError` where the driver refuses the launch.
        """

    def flush(self, flush_bytes: int) -> None:
        """Evict caches by streaming through that many bytes."""

    def outputs(self) -> Arrays:
        """Copies of the outputs, on the host."""

    def damage(self) -> str:
        """`""`, or which buffer was written outside its bounds."""

    def close(self) -> None: ...


class Launcher(Protocol):
    """A winner, ready to be called by a user. Thread-safe only if one thread calls at a time.

    Takes every input and scalar of the workload by name: numpy arrays (outputs come back as new
    numpy arrays) or the backend's own device arrays (outputs are device arrays; nothing is
    copied; the work is enqueued on `queue` where one is given and not waited for).
    `out` may name outputs to write into.
    """

    def __call__(
        self, arrays: Mapping[str, Any], out: Mapping[str, Any] | None = None, queue: Any = None
    ) -> dict[str, Any]: ...


class Backend(Protocol):
    """One open device. Used by one thread of one process; `close()` releases it.

    Errors: `CompileError` with the compiler's log; `DeviceError` for anything else the driver
    refuses. A kernel may hang or kill the process: callers that cannot afford that go through
    a `Runner`.
    """

    @property
    def target(self) -> Target: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def environment(self) -> Mapping[str, Value]:
        """Circumstances that a time depends on: driver and compiler versions, clocks."""

    def compile(self, source: KernelSource) -> bytes:
        """Compile to a binary that `prepare` takes in any process on the same machine."""

    def prepare(
        self, source: KernelSource, binary: bytes, inputs: Mapping[str, npt.NDArray[Any]]
    ) -> Execution: ...

    def launcher(self, source: KernelSource, binary: bytes) -> Launcher: ...

    def close(self) -> None: ...
