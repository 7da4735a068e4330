"""The kernels that probe a device's peaks, in OpenCL C, and how long they run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.backends.base import Backend, Execution
from autotune.peaks import Peaks
from records.errors import CompileError, DeviceError
from records.target import Target
from search_spaces.kernel import Array, KernelSource, Launch

_RUN_S = 0.004  # long beside a launch, short enough to fall between other processes' turns
_SEARCH_S = (0.3, 3.0)  # how long to look for such moments, at least and at most,
_AGREEING_RUNS = 10  # until so many runs
_AGREEMENT = 1.01  # are this close to the fastest, which counts
_MOST_ITERATIONS = 1 << 29
_CHAINS = 12  # independent sums in registers: a latency of 4 cycles × 2 units, and some to spare
_COPY_BYTES = (64 << 20, 1 << 30)  # at least and at most; between, four times the last cache
_CHUNK_BYTES = 64 << 10  # what one work-item of a CPU copies
_GPU_GROUP = 256
_GPU_LANES = 4
_C_TYPES = {"float16": "half", "float32": "float", "float64": "double"}

_FMA_TEXT = """
#ifdef EXTENSION
#pragma OPENCL EXTENSION EXTENSION : enable
#endif

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void multiply_add(const int iterations, const T x, __global T *out)
{
    V sums[CHAINS];
    #pragma unroll
    for (int chain = 0; chain < CHAINS; ++chain)
        sums[chain] = (V)(x + (T)chain);
    const V factor = (V)(x);
    const V term = (V)(x * x);
    for (int i = 0; i < iterations; ++i) {
        #pragma unroll
        for (int chain = 0; chain < CHAINS; ++chain)
            sums[chain] = fma(sums[chain], factor, term);
    }
    V sum = sums[0];
    #pragma unroll
    for (int chain = 1; chain < CHAINS; ++chain)
        sum += sums[chain];
    VSTORE(sum, get_global_id(0), out);
}
"""

# A store past the caches saves reading each line before it is overwritten: twice the rate on CPUs.
_COPY_TEXT = """
#ifdef __has_builtin
#if __has_builtin(__builtin_nontemporal_store)
#define STORE(vector, i, to) __builtin_nontemporal_store(vector, (__global V *)(to) + (i))
#endif
#endif
#ifndef STORE
#define STORE(vector, i, to) VSTORE(vector, i, to)
#endif

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void copy(__global const float *from, __global float *to)
{
    const size_t first = get_global_id(0) * VECTORS;
    for (size_t i = first; i < first + VECTORS; ++i)
        STORE(VLOAD(i, from), i, to);
}
"""


def measure(backend: Backend) -> Peaks:
    """Peaks of an open device. Raises `DeviceError` where it has no probes or they fail."""
    if backend.dialect.name != "opencl":
        raise DeviceError(f"no peak probes in dialect {backend.dialect.name}")
    rates = {}
    for dtype in backend.target.limit("dtypes", ("float32",)):
        try:
            rates[dtype] = _flops_per_s(backend, dtype)
        except CompileError:
            continue  # listed by the driver, unknown to its compiler
    return Peaks(_copy_bytes_per_s(backend), rates)


def _flops_per_s(backend: Backend, dtype: str) -> float:
    """Repeats the multiply-adds ever more often until one run is long enough to trust."""
    source, flops = _fma_source(backend.target, dtype)
    binary = backend.compile(source)
    iterations = 100
    while True:
        inputs = {"x": np.array(0.5, dtype), "iterations": np.array(iterations, np.int32)}
        with _prepared(backend, source, binary, inputs) as execution:
            once_s = min(execution.launch() for _ in range(3))
            if once_s >= _RUN_S / 2 or iterations == _MOST_ITERATIONS:
                return flops * iterations / _fastest_s(execution)
        grown = iterations * min(30.0, max(2.0, _RUN_S / once_s))
        iterations = min(_MOST_ITERATIONS, int(grown))


def _copy_bytes_per_s(backend: Backend) -> float:
    source, size = _copy_source(backend.target)
    words = np.arange(size // 4, dtype=np.float32)
    with _prepared(backend, source, backend.compile(source), {"from": words}) as execution:
        execution.launch()  # touches the pages
        return 2 * size / _fastest_s(execution)


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


def _fma_source(target: Target, dtype: str) -> tuple[KernelSource, float]:
    """The kernel, and the operations of one iteration over the whole device."""
    lanes = _lanes(target, np.dtype(dtype).itemsize)
    group = _group(target)
    groups = target.limit("units", 1) * (16 if target.is_cpu else 32)
    c_type = _C_TYPES[dtype]
    defines = {"T": c_type, "GROUP": group, "CHAINS": _CHAINS, **_vector(c_type, lanes)}
    if dtype != "float32":
        defines["EXTENSION"] = "cl_khr_fp16" if dtype == "float16" else "cl_khr_fp64"
    items = groups * group
    source = KernelSource(
        "opencl",
        _defined(defines, _FMA_TEXT),
        (Launch("multiply_add", (groups, 1, 1), (group, 1, 1), ("iterations", "x", "out")),),
        (
            Array("iterations", (), "int32", "scalar"),
            Array("x", (), dtype, "scalar"),
            Array("out", (items * lanes,), dtype, "output"),
        ),
    )
    return source, 2.0 * _CHAINS * lanes * items


def _copy_source(target: Target) -> tuple[KernelSource, int]:
    """The kernel, and the bytes that it reads; as many again are written."""
    least, most = _COPY_BYTES
    wanted = min(most, max(least, 4 * target.limit("cache_bytes", 0)))
    lanes = _lanes(target, 4)
    group = _group(target)
    vectors = _CHUNK_BYTES // (4 * lanes) if target.is_cpu else 1
    group_bytes = group * vectors * lanes * 4
    groups = max(1, min(wanted, target.limit("max_buffer_bytes", wanted) // 4) // group_bytes)
    size = groups * group_bytes
    defines = {"GROUP": group, "VECTORS": vectors, **_vector("float", lanes)}
    source = KernelSource(
        "opencl",
        _defined(defines, _COPY_TEXT),
        (Launch("copy", (groups, 1, 1), (group, 1, 1), ("from", "to")),),
        (
            Array("from", (size // 4,), "float32", "input"),
            Array("to", (size // 4,), "float32", "output"),
        ),
    )
    return source, size


def _lanes(target: Target, item_bytes: int) -> int:
    """Elements of the widest vector that OpenCL C and the CPU know; a few on a GPU."""
    if not target.is_cpu:
        return _GPU_LANES
    return int(min(16, max(2, target.limit("vector_bytes", 16) // item_bytes)))


def _group(target: Target) -> int:
    return 1 if target.is_cpu else int(min(_GPU_GROUP, target.limit("max_group", _GPU_GROUP)))


def _vector(c_type: str, lanes: int) -> dict[str, object]:
    return {"V": f"{c_type}{lanes}", "VLOAD": f"vload{lanes}", "VSTORE": f"vstore{lanes}"}


def _defined(defines: dict[str, object], text: str) -> str:
    return "".join(f"#define {name} {value}\n" for name, value in defines.items()) + text
