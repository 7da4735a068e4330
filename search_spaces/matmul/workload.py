"""The constructor of matmul workloads: every parameter checked, defaults filled in."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.matmul.parameters import (
    ACCUMULATORS,
    EPILOGUE_DTYPES,
    LAYOUTS,
    OUT_DTYPES,
    QUANTISABLE_DTYPES,
    QUANTISED_DTYPES,
    SCALED_DTYPES,
    SCALES,
    Parameters,
)
from search_spaces.matmul.steps import STEPS

__all__ = ["ACCUMULATORS", "EPILOGUE_DTYPES", "LAYOUTS", "MAX_ELEMENTS", "MAX_EXTENT", "matmul"]

MAX_EXTENT = 2**31 - 1  # kernels count rows and columns in 32-bit integers
MAX_ELEMENTS = 2**40  # of the three matrices together; terabytes, more than any device holds
MAX_GROUPS = 4096
MAX_INT8_K = 2**17 - 1  # as (-128)² k must stay below 2^31


def matmul(
    *,
    m: int | None = None,
    n: int,
    k: int,
    batch: int = 1,
    dtype: str = "float32",
    accumulate: str | None = None,
    layout: str = "nn",
    epilogue: str | Sequence[str] = (),
    out_dtype: str | None = None,
    scale: str = "none",
    groups: Sequence[int] = (),
    b_dtype: str | None = None,
    group_size: int | None = None,
    zero_point: bool = False,
) -> Workload:
    """C = epilogue(A B) for A of m × k and B of k × n elements, `batch` times.

    `dtype`: of A and B: float16, bfloat16, float32, float64; tf32, which is float32 in memory
    and multiplied with 10 bits of mantissa; float8_e4m3, float8_e5m2; int8.
    `out_dtype`: of C: as A; of float8 bfloat16; of int8 int32, where that is the plain sums.
    Or float32 for each of 16 bits or less, float16, and float8 too for float8.
    `accumulate`: of the sums; float32, float64 for float64, int32 for int8, and float16 for
    float16 where asked.
    `layout`: one letter for A and one for B; `n` is stored as written, row-major; `t` is stored
    transposed (A as k × m, B as n × k).
    `epilogue`: steps applied to each sum in this order, as a sequence or a comma-separated
    string: `alpha` (times a scalar), `beta` (plus a scalar times `c_in`, m × n), `bias` (plus
    `bias`, n, shared by the batch), `residual` (plus `residual`, m × n), `row_scale` and
    `column_scale` (times such an array, m or n, shared by the batch), and the activations
    `relu`, `gelu` (exact, by erf), `gelu_tanh` (its tanh approximation), `silu`. Scalars and
    scales are float32 (float64 for float64), the other arrays as C (bfloat16 for float8).
    `scale`, for float8 and int8: float32 factors `a_scale` and `b_scale` of the sums, before the
    epilogue: `tensor`, two scalars; `row_column`, a vector of m (of each batch) and of n (of
    each B).
    `groups`: the numbers of rows, some maybe 0, that each of as many matrices B multiplies, as in
    a mixture of experts. A is m × k and C m × n with m their sum, which may be left out.
    `b_dtype`, with float16 and bfloat16: `int8` or `int4`: B is kept as integers, of which
    (b - `b_zero`) · `b_scale` is the matrix. Both are k / `group_size` × n, of A's dtype; each row
    holds for `group_size` neighbours in k, by default for all; without `zero_point` there is no
    `b_zero`. int4 needs B stored n × k: it is packed by two along k, where the products are
    summed, so that a kernel unpacks a byte into two neighbours of the same sum.
    Raises `InvalidInputError` for anything else.
    """
    rows = _groups(groups)
    sizes = {
        name: _extent(name, value)
        for name, value in (("m", _rows(m, rows)), ("n", n), ("k", k), ("batch", batch))
    }
    _one_of("dtype", dtype, tuple(ACCUMULATORS))
    _one_of("layout", layout, LAYOUTS)
    parameters = Parameters(
        **sizes,
        dtype=dtype,
        accumulate=_choice(f"accumulate for {dtype}", accumulate, ACCUMULATORS[dtype]),
        layout=layout,
        epilogue=_steps(epilogue),
        out_dtype=_choice(f"out_dtype for {dtype}", out_dtype, OUT_DTYPES[dtype]),
        b_dtype=_b_dtype(dtype, b_dtype),
        scale=_scale(dtype, scale),
        groups=rows,
        group_size=_group_size(b_dtype, group_size, sizes["k"]),
        zero_point=_flag("zero_point", zero_point),
    )
    _check_elements(parameters)
    _check_together(parameters)
    return Workload.of("matmul", parameters.canonical())


def _extent(name: str, value: object, least: int = 1) -> int:
    need = f"matmul: {name} must be a whole number from {least} to {MAX_EXTENT}"
    try:
        extent = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(f"{need}, got {value!r}; pass an int") from None
    if isinstance(value, bool):
        raise InvalidInputError(f"{need}, got {value!r}; pass an int")
    if extent < least:
        raise InvalidInputError(f"{need}, got {extent}; skip an empty product instead of tuning it")
    if extent > MAX_EXTENT:
        raise InvalidInputError(f"{need}, got {extent}; cut the product into smaller ones")
    return extent


def _groups(groups: object) -> tuple[int, ...]:
    if isinstance(groups, str) or not isinstance(groups, Sequence):
        raise InvalidInputError(
            f"matmul: groups must be numbers of rows, got {groups!r}; pass a list of ints"
        )
    if len(groups) > MAX_GROUPS:
        raise InvalidInputError(
            f"matmul: at most {MAX_GROUPS} groups, got {len(groups)}; cut them into several calls"
        )
    return tuple(_extent("every group", rows, least=0) for rows in groups)


def _rows(m: object, groups: tuple[int, ...]) -> object:
    """m, which groups make superfluous."""
    if not groups:
        return m
    if m is not None and m != sum(groups):
        raise InvalidInputError(
            f"matmul: m must be the sum of the groups, {sum(groups)}, got {m!r}; leave it out"
        )
    return sum(groups)


def _b_dtype(dtype: str, b_dtype: str | None) -> str:
    if b_dtype is None or b_dtype == dtype:
        return dtype
    _one_of("b_dtype", b_dtype, QUANTISED_DTYPES)
    if dtype not in QUANTISABLE_DTYPES:
        raise InvalidInputError(
            f"matmul: b_dtype {b_dtype} needs A in {' or '.join(QUANTISABLE_DTYPES)}, to which B "
            f"is dequantised, got {dtype}; choose one of these"
        )
    return b_dtype


def _group_size(b_dtype: str | None, group_size: object, k: int) -> int:
    if b_dtype not in QUANTISED_DTYPES:
        if group_size not in (None, 0):
            raise InvalidInputError(
                f"matmul: group_size is that of a quantised B's scales, got {group_size!r} without "
                f"b_dtype {' or '.join(QUANTISED_DTYPES)}; give that too, or leave it out"
            )
        return 0
    size = k if group_size is None else _extent("group_size", group_size)
    if k % size:
        raise InvalidInputError(
            f"matmul: group_size must divide k={k}, got {size}; choose a divisor, or pad k"
        )
    return size


def _scale(dtype: str, scale: str) -> str:
    _one_of("scale", scale, SCALES)
    if scale != "none" and dtype not in SCALED_DTYPES:
        raise InvalidInputError(
            f"matmul: scale {scale!r} is for {', '.join(SCALED_DTYPES)}, got {dtype}; use the "
            "epilogue steps alpha, row_scale and column_scale"
        )
    return scale


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"matmul: {name} must be true or false, got {value!r}")
    return value


def _check_elements(given: Parameters) -> None:
    m, n, k, batch, products = given.m, given.n, given.k, given.batch, given.products
    elements = batch * (m * k + m * n) + products * k * n
    if elements >= MAX_ELEMENTS:
        raise InvalidInputError(
            f"matmul: m={m}, n={n}, k={k}, batch={batch} needs {elements} elements in A, B and C; "
            f"the limit is 2^{int(math.log2(MAX_ELEMENTS))}; cut the product into smaller ones"
        )


def _check_together(given: Parameters) -> None:
    """What single parameters do not show."""
    if given.groups and given.batch != 1:
        raise InvalidInputError(
            f"matmul: groups are a batch of their own: batch must be 1, got {given.batch}; "
            "repeat the groups instead"
        )
    if given.zero_point and not given.quantised:
        raise InvalidInputError(
            "matmul: zero_point is that of a quantised B; give b_dtype int8 or int4 too"
        )
    if given.dtype == "int8" and given.k > MAX_INT8_K:
        raise InvalidInputError(
            f"matmul: k of int8 is at most {MAX_INT8_K}, as sums of int32 may overflow beyond, "
            f"got {given.k}; cut k into parts"
        )
    if given.out_dtype == "int32" and (given.epilogue or given.scale != "none"):
        raise InvalidInputError(
            "matmul: out_dtype int32 holds the plain sums of int8, an epilogue or scale gives "
            "fractions; choose out_dtype bfloat16, float16 or float32"
        )
    if given.b_dtype == "int4":
        _check_int4(given)


def _check_int4(given: Parameters) -> None:
    if given.layout[1] != "t":
        raise InvalidInputError(
            f"matmul: int4 is packed by two along k, so B must be stored n × k, got layout "
            f"{given.layout}; choose layout {given.layout[0]}t"
        )
    if given.group_size % 2:
        raise InvalidInputError(
            f"matmul: int4 is packed by two along k, so k and group_size must be even, got "
            f"k={given.k} and group_size={given.group_size}; pad k"
        )


def _choice(name: str, value: str | None, allowed: Sequence[str]) -> str:
    """`value`, or the first of those allowed."""
    if value is None:
        return allowed[0]
    _one_of(name, value, allowed)
    return value


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
