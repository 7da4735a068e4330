"""One CUDA device."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy.typing as npt

from autotune.backends.cuda import compiler, driver
from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.execution import CudaExecution, Instruments
from autotune.backends.cuda.launcher import CudaLauncher
from autotune.backends.cuda.target import target_of
from records.canonical import Value
from records.errors import DeviceError, InvalidInputError, MissingComponentError
from records.target import Target
from search_spaces.dialect import CUDA, Dialect
from search_spaces.kernel import KernelSource


def open_device(name: str) -> CudaBackend:
    """The device of a canonical name, `cuda:<index>`."""
    prefix, _, index = name.partition(":")
    if prefix != "cuda" or not index.isdigit():
        raise InvalidInputError(f"{name!r}: need cuda:<index>, such as cuda:0")
    return CudaBackend(int(index))


class CudaBackend:
    """`autotune.backends.base.Backend` in the device's primary context.

    The context is made at the first `prepare` or `launcher`: a process that only compiles takes
    no memory on the device.
    """

    def __init__(self, index: int) -> None:
        self._session: Session = Session(index)
        self._target = target_of(self._session)
        self._instruments = Instruments(self._session, self._target.arch)
        self._is_open = True

    @property
    def target(self) -> Target:
        return self._target

    @property
    def dialect(self) -> Dialect:
        return CUDA

    @cached_property
    def environment(self) -> Mapping[str, Value]:
        environment: dict[str, Value] = {
            "cuda": driver.driver_version(),
            "pycuda": driver.version(),
        }
        with suppress(MissingComponentError):  # binaries may come from elsewhere
            environment["compiler"] = compiler.compiler().version
        if self._instruments.telemetry.driver_version:
            environment["driver"] = self._instruments.telemetry.driver_version
        return environment

    def compile(self, source: KernelSource) -> bytes:
        self._check_open()
        return compiler.compile_for(source, self._target.arch)

    def prepare(
        self, source: KernelSource, binary: bytes, inputs: Mapping[str, npt.NDArray[Any]]
    ) -> CudaExecution:
        self._check_open()
        return CudaExecution(self._instruments, source, binary, inputs)

    def launcher(self, source: KernelSource, binary: bytes) -> CudaLauncher:
        """Device outputs that its calls make themselves live as long as the backend is open."""
        self._check_open()
        return CudaLauncher(self._session, source, binary)

    def close(self) -> None:
        self._is_open = False
        self._session.close()

    def _check_open(self) -> None:
        if not self._is_open:
            raise DeviceError(f"{self._target.device} was closed: open it again")
