"""The constructor of matmul workloads: every parameter checked, defaults filled in."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.matmul.steps import STEPS

LAYOUTS = ("nn", "nt", "tn", "tt")
ACCUMULATORS = {  # dtype of the arrays -> dtypes that may accumulate it, the default first
    "float16": ("float32", "float16"),
    "float32": ("float32",),
    "float64": ("float64",),
}
# Scalars of the epilogue, and its arithmetic, by the dtype of the arrays.
EPILOGUE_DTYPES = {"float16": "float32", "float32": "float32", "float64": "float64"}
MAX_EXTENT = 2**31 - 1  # kernels count rows and columns in 32-bit integers
MAX_ELEMENTS = 2**40  # of the three matrices together; terabytes, more than any device holds


def matmul(
    *,
    m: int,
    n: int,
    k: int,
    batch: int = 1,
    dtype: str = "float32",
    accumulate: str | None = None,
    layout: str = "nn",
    epilogue: str | Sequence[str] = (),
) -> Workload:
    """C = epilogue(A B) for A of m × k and B of k × n elements, `batch` times.

    `dtype`: of A, B, C and the arrays of the epilogue: float16, float32 or float64.
    `accumulate`: of the sums; the dtype itself, or float32 for float16 (its default).
    `layout`: one letter for A and one for B; `n` is stored as written, row-major; `t` is stored
    transposed (A as k × m, B as n × k).
    `epilogue`: steps applied to each sum in this order, as a sequence or a comma-separated
    string: `alpha` (times a scalar), `beta` (plus a scalar times `c_in`, m × n), `bias` (plus
    `bias`, n, shared by the batch), `residual` (plus `residual`, m × n), and the activations
    `relu`, `gelu` (exact, by erf), `gelu_tanh` (its tanh approximation), `silu`.
    Raises `InvalidInputError` for anything else.
    """
    sizes = {
        name: _extent(name, value)
        for name, value in (("m", m), ("n", n), ("k", k), ("batch", batch))
    }
    _check_elements(**sizes)
    _one_of("dtype", dtype, tuple(ACCUMULATORS))
    accumulators = ACCUMULATORS[dtype]
    accumulate = accumulators[0] if accumulate is None else accumulate
    _one_of(f"accumulate for {dtype}", accumulate, accumulators)
    _one_of("layout", layout, LAYOUTS)
    return Workload.of(
        "matmul",
        {
            **sizes,
            "dtype": dtype,
            "accumulate": accumulate,
            "layout": layout,
            "epilogue": _steps(epilogue),
        },
    )


def _extent(name: str, value: object) -> int:
    need = f"matmul: {name} must be a whole number from 1 to {MAX_EXTENT}"
    try:
        extent = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(f"{need}, got {value!r}; pass an int") from None
    if isinstance(value, bool):
        raise InvalidInputError(f"{need}, got {value!r}; pass an int")
    if extent < 1:
        raise InvalidInputError(f"{need}, got {extent}; skip an empty product instead of tuning it")
    if extent > MAX_EXTENT:
        raise InvalidInputError(f"{need}, got {extent}; cut the product into smaller ones")
    return extent


def _check_elements(m: int, n: int, k: int, batch: int) -> None:
    elements = batch * (m * k + k * n + m * n)
    if elements >= MAX_ELEMENTS:
        raise InvalidInputError(
            f"matmul: m={m}, n={n}, k={k}, batch={batch} needs {elements} elements in A, B and C; "
            f"the limit is 2^{int(math.log2(MAX_ELEMENTS))}; cut the product into smaller ones"
        )


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidInputError(
            f"matmul: {name} must be {' or '.join(allowed)}, got {value!r}; choose one of these"
        )


def _steps(epilogue: object) -> tuple[str, ...]:
    if isinstance(epilogue, str):
        epilogue = [step.strip() for step in epilogue.split(",")] if epilogue.strip() else []
    if not isinstance(epilogue, Sequence):
        raise InvalidInputError(
            f"matmul: epilogue must be step names, got {epilogue!r}; "
            "pass a list or a comma-separated string, such as 'bias,gelu'"
        )
    for step in epilogue:
        _one_of("an epilogue step", step, tuple(STEPS))
        if STEPS[step].once and list(epilogue).count(step) > 1:
            raise InvalidInputError(
                f"matmul: epilogue step {step!r} may stand once, as there is one array or scalar "
                f"of that name; got {', '.join(epilogue)}; remove the others"
            )
    return tuple(epilogue)
