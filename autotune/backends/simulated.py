"""A device that exists nowhere: right results, analytic times, and every failure on command.

It takes the place of a real device in tests, in demonstrations and in trials of search
strategies. It never runs the kernel's text; it reads from it only the `#define`s of numbers.

- **Results** come from the computation's own reference: by default that of the measurement under
  way, which knows its inputs; `solve` gives any other.
- **Time** is `(bytes of the arrays / 1 TB/s + 2 µs a launch) × (1 + Σ w·(log2 v − c)²)` over the
  defined numbers `v ≥ 1`, with weight `w` in 0.02 to 0.2 and centre `c` in 1 to 6 drawn from a
  hash of the name, and over half the difference of each name's logarithm and the next's, plus
  3.5, so that knobs depend on each other. Smooth, and the same in every process.
- **Noise** multiplies it by `exp(noise · N(0, 1))`, from a generator seeded with the kernel's text.
- **Failures** are chosen by `fail`, a function of the kernel: `requested` (the default) reads a
  line `#define SIMULATE_FAILURE <name of a Failure>` in the text, `at_rates` draws them.

A launch over the limits of the target is refused, as by a driver; a `Runner` finds it before.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from autotune.backends import guards
from autotune.backends.base import DeviceInfo, Launcher
from autotune.limits import breaks_limits
from autotune.problems import reference_for
from records.canonical import Value
from records.errors import CompileError, DeviceError, InvalidInputError
from records.target import Target
from search_spaces import dtypes
from search_spaces.dialect import OPENCL, Dialect
from search_spaces.kernel import KernelSource
from search_spaces.op import Arrays

Inputs: TypeAlias = Mapping[str, npt.NDArray[Any]]
Solve: TypeAlias = Callable[[KernelSource, Inputs], Mapping[str, npt.NDArray[Any]]]

_BYTES_PER_S = 1e12
_LAUNCH_S = 2e-6
_NUMBER = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+\(?(\d+)\)?[ \t]*$", re.MULTILINE)
_REQUEST = re.compile(r"^[ \t]*#[ \t]*define[ \t]+SIMULATE_FAILURE[ \t]+(\w+)", re.MULTILINE)


class Failure(StrEnum):
    """What can go wrong, and where."""

    COMPILE_ERROR = "compile_error"  # the compiler refuses the text
    COMPILE_CRASH = "compile_crash"  # the compiler ends its process by SIGSEGV
    COMPILE_HANG = "compile_hang"  # the compiler never returns
    LAUNCH_ERROR = "launch_error"  # the driver refuses the launch
    WRONG_RESULT = "wrong_result"  # one element of the first output is off
    WRONG_LATER = "wrong_later"  # the same, from the second launch on
    OUT_OF_BOUNDS = "out_of_bounds"  # the guard band of the first output is written
    HANG = "hang"  # the launch never returns
    SEGFAULT = "segfault"  # the launch ends the process by SIGSEGV
    ABORT = "abort"  # the launch ends the process by SIGABRT, with a message
    EXIT = "exit"  # the launch ends the process with exit status 3
    ABORT_AT_CLOSE = "abort_at_close"  # freeing memory ends the process: a corrupted heap


Fail: TypeAlias = Callable[[KernelSource], Failure | None]


def requested(source: KernelSource) -> Failure | None:
    """The failure that a line `#define SIMULATE_FAILURE <name>` of the text asks for."""
    found = _REQUEST.search(source.text)
    return Failure(found[1]) if found else None


def at_rates(rates: Mapping[Failure, float], seed: int = 0) -> Fail:
    """Failures by chance, with the share of all kernels each; the same kernel always the same."""
    return partial(_drawn, tuple(rates.items()), seed)


def _drawn(
    rates: tuple[tuple[Failure, float], ...], seed: int, source: KernelSource
) -> Failure | None:
    asked = requested(source)
    if asked is not None:
        return asked
    left = _uniform(f"{seed}:{source.digest}")
    for failure, rate in rates:
        left -= rate
        if left < 0.0:
            return failure
    return None


FLAKY = at_rates(dict.fromkeys(Failure, 0.3 / len(Failure)))  # of the device of that name


def numbers(source: KernelSource) -> dict[str, int]:
    """The whole numbers that the text defines, by name; of several definitions, the first."""
    found: dict[str, int] = {}
    for name, digits in _NUMBER.findall(source.text):
        found.setdefault(name, int(digits))
    return found


def ideal_time_s(source: KernelSource) -> float:
    """The time of a kernel without noise; see the module's text for the formula."""
    array_bytes = sum(array.size_bytes for array in source.arrays)
    floor_s = array_bytes / _BYTES_PER_S + _LAUNCH_S * len(source.launches)
    logs = [(name, math.log2(max(1, value))) for name, value in sorted(numbers(source).items())]
    penalty = sum(_penalty(name, log) for name, log in logs)
    for (first, first_log), (second, second_log) in zip(logs, logs[1:], strict=False):
        penalty += _penalty(f"{first}/{second}", 3.5 + (first_log - second_log) / 2)
    return floor_s * (1.0 + penalty)


def _penalty(name: str, log: float) -> float:
    weight = 0.02 + 0.18 * _uniform(f"weight {name}")
    centre = 1.0 + 5.0 * _uniform(f"centre {name}")
    return weight * (log - centre) ** 2


def _uniform(text: str) -> float:
    """A number in 0 to 1 from a hash: the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64


class SimulatedBackend:
    """Implements `Backend`. `kind` is `"gpu"` or `"cpu"`; `noise` the spread of log times."""

    def __init__(
        self,
        name: str = "steady",
        *,
        kind: str = "gpu",
        noise: float = 0.0,
        fail: Fail = requested,
        solve: Solve | None = None,
    ) -> None:
        self._target = Target.of("sim", name, "sim", {**_LIMITS, "kind": kind})
        self._noise = noise
        self._fail = fail
        self._solve = solve or _solve_measured

    @property
    def target(self) -> Target:
        return self._target

    @property
    def dialect(self) -> Dialect:
        return OPENCL

    @property
    def environment(self) -> Mapping[str, Value]:
        return {"driver": "simulated 1", "noise": self._noise}

    def compile(self, source: KernelSource) -> bytes:
        match self._fail(source):
            case Failure.COMPILE_ERROR:
                raise CompileError("simulated: error: expected ';' after expression")
            case Failure.COMPILE_CRASH:
                os.kill(os.getpid(), signal.SIGSEGV)
            case Failure.COMPILE_HANG:
                _hang()
        return f"simulated:{source.digest}".encode()

    def prepare(self, source: KernelSource, binary: bytes, inputs: Inputs) -> SimulatedExecution:
        self._check(source, binary)
        outputs = self._solve(source, inputs)
        return SimulatedExecution(source, outputs, self._noise, self._fail(source))

    def launcher(self, source: KernelSource, binary: bytes) -> Launcher:
        """Calls `solve`, so it needs one that knows arrays other than those being measured."""
        self._check(source, binary)
        return partial(_launched, self, source, binary)

    def close(self) -> None:
        pass

    def _check(self, source: KernelSource, binary: bytes) -> None:
        if binary != f"simulated:{source.digest}".encode():
            raise DeviceError("simulated: the binary is not of this source; compile it again")
        reason = breaks_limits(source, self._target)
        if reason:
            raise DeviceError(f"simulated: {reason}")


class SimulatedExecution:
    """Implements `Execution`."""

    def __init__(
        self,
        source: KernelSource,
        solution: Mapping[str, npt.NDArray[Any]],
        noise: float,
        failure: Failure | None,
    ) -> None:
        given = [array for array in source.arrays if array.role == "output"]
        self._dtypes = {array.name: array.dtype for array in given}
        self._solution = {
            array.name: dtypes.encode(array.dtype, solution[array.name]) for array in given
        }
        self._time_s = ideal_time_s(source)
        self._noise = noise
        self._random = np.random.default_rng(int(source.digest, 16))
        self._failure = failure
        self._launched = 0
        self._outputs: Arrays = {}
        self._damage = ""
        self.poison()

    @property
    def details(self) -> Mapping[str, Value]:
        return {}

    def poison(self) -> None:
        self._outputs = {
            name: np.full(array.nbytes, guards.POISON, np.uint8)
            .view(array.dtype)
            .reshape(array.shape)
            for name, array in self._solution.items()
        }

    def launch(self) -> float:
        self._launched += 1
        self._die_as_told()
        for name, array in self._solution.items():
            self._outputs[name] = array
        self._spoil_as_told()
        return self._time_s * math.exp(self._noise * self._random.standard_normal())

    def flush(self, flush_bytes: int) -> None:
        pass

    def outputs(self) -> Arrays:
        return {name: array.copy() for name, array in self._outputs.items()}

    def damage(self) -> str:
        return self._damage

    def close(self) -> None:
        if self._failure is Failure.ABORT_AT_CLOSE:
            _abort("simulated: free(): invalid pointer")

    def _die_as_told(self) -> None:
        match self._failure:
            case Failure.LAUNCH_ERROR:
                raise DeviceError("simulated: out of resources")
            case Failure.HANG:
                _hang()
            case Failure.SEGFAULT:
                os.kill(os.getpid(), signal.SIGSEGV)
            case Failure.ABORT:
                _abort("simulated: assertion failed")
            case Failure.EXIT:
                os._exit(3)

    def _spoil_as_told(self) -> None:
        name = next(iter(self._solution))
        later = self._failure is Failure.WRONG_LATER and self._launched > 1
        if self._failure is Failure.WRONG_RESULT or later:
            spoilt = self._outputs[name].copy()
            middle = slice(spoilt.size // 2, spoilt.size // 2 + 1)
            right = dtypes.decode(self._dtypes[name], spoilt.flat[middle])
            spoilt.flat[middle] = dtypes.encode(
                self._dtypes[name], right + np.maximum(1, abs(right))
            )
            self._outputs[name] = spoilt
        elif self._failure is Failure.OUT_OF_BOUNDS:
            self._damage = f"simulated: {name} was written 4 bytes past its end"


def _launched(
    backend: SimulatedBackend,
    source: KernelSource,
    binary: bytes,
    arrays: Mapping[str, Any],
    out: Mapping[str, Any] | None = None,
    queue: Any = None,
) -> dict[str, Any]:
    execution = backend.prepare(source, binary, arrays)
    execution.launch()
    results = execution.outputs()
    for name, array in (out or {}).items():
        array[...] = results[name]
        results[name] = array
    return results


def _solve_measured(source: KernelSource, inputs: Inputs) -> Mapping[str, npt.NDArray[Any]]:
    reference = reference_for(inputs)
    if reference is None:
        raise DeviceError(
            "simulated: only a kernel that is being measured can be run, as its reference is "
            "known; for other arrays, open the device with a `solve` function"
        )
    return reference


def _hang() -> None:
    while True:
        time.sleep(3600)


def _abort(message: str) -> None:
    os.write(2, message.encode() + b"\n")
    os.abort()


_LIMITS: Mapping[str, object] = {
    "units": 16,
    "max_group": 1024,
    "shared_bytes": 48 << 10,
    "registers": 65536,
    "warp": 32,
    "vector_bytes": 16,
    "cache_bytes": 32 << 20,
    "memory_bytes": 16 << 30,
    "max_buffer_bytes": 4 << 30,
    "dtypes": ("float16", "float32", "float64", "int32"),
}


@dataclass(frozen=True)
class _Device:
    description: str
    noise: float = 0.0
    fail: Fail = requested


_DEVICES: Mapping[str, _Device] = {
    "steady": _Device("simulated GPU whose times never vary"),
    "noisy": _Device("simulated GPU whose times vary by 5 %", noise=0.05),
    "flaky": _Device(
        "simulated GPU on which three kernels in ten fail, in every way",
        noise=0.01,
        fail=FLAKY,
    ),
}


def list_devices() -> list[DeviceInfo]:
    """The simulated devices, all usable."""
    return [
        DeviceInfo(f"sim:{name}", "sim", device.description, "", open(name).target, "simulated 1")
        for name, device in _DEVICES.items()
    ]


def open(name: str) -> SimulatedBackend:  # noqa: A001 - every backend module has this name
    """Open `"steady"`, `"noisy"` or `"flaky"`, with or without `sim:` before it."""
    short = name.removeprefix("sim:")
    if short not in _DEVICES:
        names = ", ".join(f"sim:{known}" for known in _DEVICES)
        raise InvalidInputError(f"no simulated device {name!r}; there are: {names}")
    device = _DEVICES[short]
    return SimulatedBackend(short, noise=device.noise, fail=device.fail)
