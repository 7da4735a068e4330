"""How long the kernels run that probe a device's peaks."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from autotune.backends.base import Backend, Execution
from autotune.backends.probes import CopyProbe, FlopsProbe, Probes
from autotune.peaks import Peaks
from records.errors import CompileError, DeviceError
from search_spaces.kernel import KernelSource

_RUN_S = 0.004  # long beside a launch, short enough to fall between other processes' turns
_SEARCH_S = (0.3, 3.0)  # how long to look for such moments, at least and at most,
_AGREEING_RUNS = 10  # until so many runs
_AGREEMENT = 1.01  # are this close to the fastest, which counts
_MOST_ITERATIONS = 1 << 29

_PROBES = {
    "cuda": "autotune.backends.cuda.peak_probes",
    "opencl": "autotune.backends.opencl.peak_probes",
}


def measure(backend: Backend) -> Peaks:
    """Peaks of an open device. Raises `DeviceError` where it has no probes or they fail."""
    module = _PROBES.get(backend.dialect.name)
    if module is None:
        raise DeviceError(f"no peak probes in dialect {backend.dialect.name}")
    probes = cast(Probes, importlib.import_module(module))
    rates = {}
    for probe in probes.flops_probes(backend.target):
        with suppress(CompileError):  # listed by the driver, unknown to its compiler
            rates[probe.dtype] = _flops_per_s(backend, probe)
    return Peaks(_copy_bytes_per_s(backend, probes.copy_probe(backend.target)), rates)


def _flops_per_s(backend: Backend, probe: FlopsProbe) -> float:
    """Repeats the arithmetic ever more often until one run is long enough to trust."""
    binary = backend.compile(probe.source)
    iterations = 100
    while True:
        with _prepared(backend, probe.source, binary, _scalars(probe, iterations)) as execution:
            once_s = min(execution.launch() for _ in range(3))
            if once_s >= _RUN_S / 2 or iterations == _MOST_ITERATIONS:
                return probe.flops * iterations / _fastest_s(execution)
        grown = iterations * min(30.0, max(2.0, _RUN_S / once_s))
        iterations = min(_MOST_ITERATIONS, int(grown))


def _scalars(probe: FlopsProbe, iterations: int) -> dict[str, npt.NDArray[Any]]:
    scalars = [array for array in probe.source.arrays if array.role == "scalar"]
    return {
        array.name: np.array(iterations if array.name == "iterations" else 0.5, array.storage)
        for array in scalars
    }


def _copy_bytes_per_s(backend: Backend, probe: CopyProbe) -> float:
    words = np.arange(probe.bytes // 4, dtype=np.float32)
    binary = backend.compile(probe.source)
    with _prepared(backend, probe.source, binary, {"from": words}) as execution:
        execution.launch()  # touches the pages
        return 2 * probe.bytes / _fastest_s(execution)


def _fastest_s(execution: Execution) -> float:
    """The fastest run, once enough others come close to it or the time for looking is over."""
    least_s, most_s = _SEARCH_S
    runs_s = [execution.launch()]
    start_s = time.monotonic()
    while True:
        runs_s.append(execution.launch())
        passed_s = time.monotonic() - start_s
        fastest_s = min(runs_s)
        agreeing = sum(run_s <= _AGREEMENT * fastest_s for run_s in runs_s)
        if passed_s >= most_s or (passed_s >= least_s and agreeing >= _AGREEING_RUNS):
            return fastest_s


@contextmanager
def _prepared(
    backend: Backend, source: KernelSource, binary: bytes, inputs: dict[str, npt.NDArray[Any]]
) -> Iterator[Execution]:
    execution = backend.prepare(source, binary, inputs)
    try:
        yield execution
    finally:
        execution.close()
