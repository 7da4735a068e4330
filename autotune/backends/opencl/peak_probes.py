"""The kernels that probe an OpenCL device's peaks."""

from __future__ import annotations

from collections.abc import Iterator

from autotune.backends.probes import CopyProbe, FlopsProbe, copy_groups
from records.target import Target
from search_spaces import dtypes
from search_spaces.kernel import Array, KernelSource, Launch

_CHAINS = 12  # independent sums in registers: a latency of 4 cycles × 2 units, and some to spare
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


def flops_probes(target: Target) -> Iterator[FlopsProbe]:
    """Fused multiply-adds in vectors of every floating type that the device lists."""
    for dtype in target.limit("dtypes", ("float32",)):
        if dtype in _C_TYPES:
            yield _fma_probe(target, dtype)


def _fma_probe(target: Target, dtype: str) -> FlopsProbe:
    lanes = _lanes(target, dtypes.storage(dtype).itemsize)
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
    return FlopsProbe(dtype, source, 2.0 * _CHAINS * lanes * items)


def copy_probe(target: Target) -> CopyProbe:
    lanes = _lanes(target, 4)
    group = _group(target)
    vectors = _CHUNK_BYTES // (4 * lanes) if target.is_cpu else 1
    group_bytes = group * vectors * lanes * 4
    groups = copy_groups(target, group_bytes)
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
    return CopyProbe(source, size)


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
