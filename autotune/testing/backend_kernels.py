"""Tiny kernels for the conformance of backends, in OpenCL C and CUDA C alike."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.kernel import Array, KernelSource, Launch, Scratch

_PRELUDES: Mapping[str, str] = {
    "opencl": """
#ifdef cl_khr_fp16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#endif
#define KERNEL __kernel void
#define GLOBAL __global
#define SHARED __local
#define ITEM ((int)get_global_id(0))
""",
    "cuda": """
#define KERNEL extern "C" __global__ void
#define GLOBAL
#define SHARED __shared__
#define ITEM ((int)(blockIdx.x * blockDim.x + threadIdx.x))
""",
}
_TYPES = {
    "bfloat16": "__nv_bfloat16",  # in CUDA only
    "float16": "half",
    "float32": "float",
    "float64": "double",
}
_CUDA_HEADERS = {"bfloat16": "#include <cuda_bf16.h>\n", "float16": "#include <cuda_fp16.h>\n"}
SCALAR_DTYPES = frozenset(_TYPES)  # those of `scaled`
GROUPS = 4


def broken(dialect: str) -> KernelSource:
    text = "KERNEL broken(GLOBAL float *y) { y[0] = no_such_function(1.0f); }\n"
    return _source(dialect, text, ("y",), (_output("y", GROUPS),))


def scaled(dialect: str, n: int, dtype: str = "float32") -> KernelSource:
    """`y = x * factor + shift`, the shift an int32."""
    header = _CUDA_HEADERS.get(dtype, "") if dialect == "cuda" else ""
    text = f"""{header}
KERNEL scaled(GLOBAL const {_TYPES[dtype]} *x, const {_TYPES[dtype]} factor, const int shift,
              GLOBAL {_TYPES[dtype]} *y)
{{
    for (int i = ITEM; i < {n}; i += {GROUPS})
        y[i] = x[i] * factor + ({_TYPES[dtype]})shift;
}}
"""
    arrays = (
        Array("x", (n,), dtype, "input"),
        Array("factor", (), dtype, "scalar"),
        Array("shift", (), "int32", "scalar"),
        _output("y", n, dtype),
    )
    return _source(dialect, text, ("x", "factor", "shift", "y"), arrays)


def chained(dialect: str, n: int) -> KernelSource:
    """`y = 2 (x + 1)²` in three launches over two scratch buffers; the second reverses."""
    text = f"""
#define EACH for (int i = ITEM; i < {n}; i += {GROUPS})
KERNEL plus(GLOBAL const float *x, GLOBAL float *t) {{ EACH t[i] = x[i] + 1.0f; }}
KERNEL reverse(GLOBAL const float *t, GLOBAL float *u) {{ EACH u[i] = t[{n - 1} - i]; }}
KERNEL twice(GLOBAL const float *t, GLOBAL const float *u, GLOBAL float *y)
{{ EACH y[i] = 2.0f * t[i] * u[{n - 1} - i]; }}
"""
    return KernelSource(
        dialect,
        _PRELUDES[dialect] + text,
        (_launch("plus", "x", "t"), _launch("reverse", "t", "u"), _launch("twice", "t", "u", "y")),
        (Array("x", (n,), "float32", "input"), _output("y", n)),
        (Scratch("t", 4 * n), Scratch("u", 4 * n)),
    )


def writing_at(dialect: str, n: int, name: str, index: int) -> KernelSource:
    """A right copy `y = x` through scratch `t` that also writes `name[index]`."""
    text = f"""
KERNEL stray(GLOBAL float *x, GLOBAL float *t, GLOBAL float *y)
{{
    for (int i = ITEM; i < {n}; i += {GROUPS}) {{
        t[i] = x[i];
        y[i] = t[i];
    }}
    if (ITEM == 0)
        {name}[{index}] = 1.0f;
}}
"""
    arrays = (Array("x", (n,), "float32", "input"), _output("y", n))
    return _source(dialect, text, ("x", "t", "y"), arrays, (Scratch("t", 4 * n),))


def revealing(dialect: str, n: int) -> KernelSource:
    """Writes scratch nobody wrote to `y`, and leaves the int32 output `untouched` so."""
    text = f"""
KERNEL reveal(GLOBAL const float *t, GLOBAL float *y, GLOBAL int *untouched)
{{
    for (int i = ITEM; i < {n}; i += {GROUPS})
        y[i] = t[i];
}}
"""
    arrays = (_output("y", n), _output("untouched", n, "int32"))
    return _source(dialect, text, ("t", "y", "untouched"), arrays, (Scratch("t", 4 * n),))


def oversized_group(dialect: str, items: int) -> KernelSource:
    text = "KERNEL wide(GLOBAL float *y) { if (ITEM == 0) y[0] = 1.0f; }\n"
    launch = Launch("wide", (1, 1, 1), (items, 1, 1), ("y",))
    return KernelSource(dialect, _PRELUDES[dialect] + text, (launch,), (_output("y", 1),))


def oversized_local(dialect: str, size: int) -> KernelSource:
    text = f"""
KERNEL hoarding(GLOBAL float *y)
{{
    SHARED float hoard[{size // 4}];
    for (int i = 0; i < {size // 4}; ++i)
        hoard[i] = (float)(i ^ ITEM);
    y[ITEM] = hoard[(ITEM * 7919) % {size // 4}];
}}
"""
    return _source(dialect, text, ("y",), (_output("y", GROUPS),))


def misnamed(dialect: str) -> KernelSource:
    text = "KERNEL present(GLOBAL float *y) { y[0] = 1.0f; }\n"
    launch = _launch("absent", "y")
    return KernelSource(dialect, _PRELUDES[dialect] + text, (launch,), (_output("y", 1),))


def _source(
    dialect: str,
    text: str,
    arguments: tuple[str, ...],
    arrays: tuple[Array, ...],
    scratch: tuple[Scratch, ...] = (),
) -> KernelSource:
    """A source of one launch of the only kernel of `text`."""
    kernel = text.partition("KERNEL ")[2].partition("(")[0]
    launch = _launch(kernel, *arguments)
    return KernelSource(dialect, _PRELUDES[dialect] + text, (launch,), arrays, scratch)


def _launch(kernel: str, *arguments: str) -> Launch:
    return Launch(kernel, (GROUPS, 1, 1), (1, 1, 1), arguments)


def _output(name: str, n: int, dtype: str = "float32") -> Array:
    return Array(name, (n,), dtype, "output")
