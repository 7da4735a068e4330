"""How far a right matmul kernel may be from the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from records.workload import Workload
from search_spaces import dtypes
from search_spaces.matmul.operands import Matrix, Product, epilogue_operands, products
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.steps import STEPS, Operands, Values
from search_spaces.threads import in_threads

# Rounding errors of a sum grow like a random walk. For independent data of zero mean the partial
# sums do so too, and the error stays, with high probability and in any order of summation, below
# a constant times u |a| |b|, with no growth in k: Higham and Mary, "Sharper probabilistic
# backward error analysis for basic linear algebra kernels with random data", SIAM J. Sci.
# Comput. 42 (2020). Measured for sequential sums, the worst order, one rounding for each product
# and each addition, k up to 4096: standard deviation 0.23, largest of 10^5 elements 3.7.
# `Matmul.inputs` draws such data; sums of values that all have one sign may err more.
_SUM_ROUNDOFFS = 12.0

# Tensor cores of Hopper add products of float8 with 13 bits of fraction, aligned to the largest
# addend and cut off: DeepSeek-V3 technical report, arXiv:2412.19437, section 3.3.2. A model of
# that, 32 products an instruction, errs by up to 2.1 of these units of |a| |b| among 10^4
# elements, with hardly any growth from k = 1024 to 8192.
_FLOAT8_SUM_UNIT = 2.0**-13
_FLOAT8_SUM_ROUNDOFFS = 4.0

# Independent roundings of the elements of A or B move a sum by u times the root of the sum of
# (a b)², about; six standard deviations of errors that are u / 2 each make 3. By Cauchy and
# Schwarz that root is at most the product of the 4-norms. tf32 may be cut off rather than
# rounded, which errs by up to two roundoffs of one sign, in A and in B.
_OPERAND_ROUNDOFFS = 3.0
_TF32_ROUNDOFFS = 4 * _OPERAND_ROUNDOFFS


def tolerance(workload: Workload, inputs: Operands, reference: Values) -> Values:
    """Largest error allowed for each element of `c`.

    `size` bounds each value on its way through the epilogue, by |a_i| |b_j| at first (Cauchy and
    Schwarz); `error` is what rounding may have done to it. The smallest normal number is added
    last, as devices may flush anything below it to zero. Plain sums of int8 must be equal.
    """
    given = Parameters.of(workload)
    if given.out_dtype == "int32":
        return np.full(given.c_shape, 0.5)
    unit = dtypes.unit_roundoff(given.accumulate) or dtypes.unit_roundoff(given.epilogue_dtype)
    size, error = _sums(given, inputs, unit)
    operands = epilogue_operands(given, inputs)
    for name in given.epilogue:
        step = STEPS[name]
        size = size * step.slope(operands) + step.addend(operands)
        error = error * step.slope(operands) + size * (unit * step.ulps)
    out = dtypes.dtype(given.out_dtype if given.dtype != "tf32" else "float32")
    rounded = error * (1 + out.unit_roundoff) + np.abs(reference) * out.unit_roundoff
    return np.asarray(rounded + out.smallest)


def _sums(given: Parameters, inputs: Operands, unit: float) -> tuple[Values, Values]:
    """`size` and `error` of the scaled sums."""
    size = np.empty((given.batch * given.m, given.n))
    error = np.empty_like(size)
    for product in products(given, inputs):
        bound = np.multiply.outer(_norms(product.a, given.k), _norms(product.b, given.k))
        size[product.rows] = bound
        error[product.rows] = bound * _sum_error(given, unit)
        error[product.rows] += _operands_error(given, product, bound)
        if product.scale is not None:
            scale = np.abs(product.scale)
            size[product.rows] *= scale
            error[product.rows] = error[product.rows] * scale + size[product.rows] * (2 * unit)
    return size.reshape(given.c_shape), error.reshape(given.c_shape)


def _sum_error(given: Parameters, unit: float) -> float:
    """Of a sum, relative to |a_i| |b_j|."""
    if given.accumulate == "int32":
        return unit  # its conversion
    ordinary = unit * min(given.k, _SUM_ROUNDOFFS)
    if given.dtype.startswith("float8"):
        return max(ordinary, _FLOAT8_SUM_UNIT * min(given.k, _FLOAT8_SUM_ROUNDOFFS))
    return ordinary


def _operands_error(given: Parameters, product: Product, bound: Values) -> Values | float:
    """What rounding A and B before they are multiplied may do to a sum."""
    a, b, k = product.a, product.b, given.k
    if given.quantised:
        worst, usual = 1.0, _OPERAND_ROUNDOFFS
    elif given.dtype == "tf32" and not (_is_tf32(a, k) and _is_tf32(b, k)):
        worst, usual = 4.0, _TF32_ROUNDOFFS
    else:
        return 0.0
    bound_4 = np.multiply.outer(_norms_4(a, k), _norms_4(b, k))
    errors = np.minimum(worst * bound, usual * bound_4) * dtypes.unit_roundoff(given.dtype)
    return np.asarray(errors)


def _is_tf32(matrix: Matrix, k: int) -> bool:
    """Whether tf32 holds every element as it is."""
    bits = (panel.astype(np.float32).view(np.uint32) for _, panel in matrix.panels(k))
    return not any(np.any(each & 0x1FFF) for each in bits)


def _norms(matrix: Matrix, k: int) -> Values:
    """Euclidean norms of the rows."""
    return _of_rows(matrix, k, lambda panel: np.sqrt(_dots(panel)))


def _norms_4(matrix: Matrix, k: int) -> Values:
    """4-norms of the rows."""
    return _of_rows(matrix, k, lambda panel: np.sqrt(np.sqrt(_dots(panel * panel))))


def _dots(panel: Values) -> Values:
    """Of each row with itself."""
    return np.asarray(np.einsum("ij,ij->i", panel, panel))


def _of_rows(matrix: Matrix, k: int, number: Callable[[Values], Values]) -> Values:
    """A number of each row, panels side by side."""
    return np.concatenate(in_threads(lambda rows: number(matrix.panel(rows)), matrix.parts(k)))
