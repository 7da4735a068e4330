"""The right answer of a matmul in float64, and how far a right kernel may be from it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from records.workload import Workload
from search_spaces.matmul.steps import STEPS, Operands, Values

_PANEL_ELEMENTS = 2**23  # of a float64 panel of A or B: 64 MiB

# Rounding errors of a sum grow like a random walk. For independent data of zero mean the partial
# sums do so too, and the error stays, with high probability and in any order of summation, below
# a constant times u |a| |b|, with no growth in k: Higham and Mary, "Sharper probabilistic
# backward error analysis for basic linear algebra kernels with random data", SIAM J. Sci.
# Comput. 42 (2020). Measured for sequential sums, the worst order, one rounding for each product
# and each addition, k up to 4096: standard deviation 0.23, largest of 10^5 elements 3.7.
# `Matmul.inputs` draws such data; sums of values that all have one sign may err more.
_SUM_ROUNDOFFS = 12.0


def reference(workload: Workload, inputs: Operands) -> Values:
    """epilogue(A B) in float64, shaped like the output `c`."""
    batch, m, n = workload["batch"], workload["m"], workload["n"]
    result = np.empty((batch, m, n))
    for index, (a, b) in enumerate(_operands(workload, inputs)):
        _multiply(a, b, result[index])
    result = result.reshape(output_shape(workload))
    for step in workload["epilogue"]:
        result = STEPS[step].apply(result, inputs)
    return result


def output_shape(workload: Workload) -> tuple[int, ...]:
    batch = workload["batch"]
    return ((batch,) if batch > 1 else ()) + (workload["m"], workload["n"])


def _operands(workload: Workload, inputs: Operands) -> Iterator[tuple[Values, Values]]:
    """A as m × k and B as k × n of each element of the batch: views, not yet float64."""
    a_letter, b_letter = workload["layout"]
    for index in range(workload["batch"]):
        a, b = inputs["a"], inputs["b"]
        if workload["batch"] > 1:
            a, b = a[index], b[index]
        yield (a.T if a_letter == "t" else a), (b.T if b_letter == "t" else b)


def _multiply(a: Values, b: Values, out: Values) -> None:
    """out = a b in float64; only panels of a and b are converted at a time."""
    m, k = a.shape
    step = max(1, _PANEL_ELEMENTS // k)
    for column in range(0, b.shape[1], step):
        columns = slice(column, column + step)
        b_panel = b[:, columns].astype(np.float64)
        for row in range(0, m, step):
            rows = slice(row, row + step)
            np.matmul(a[rows].astype(np.float64), b_panel, out=out[rows, columns])


def tolerance(workload: Workload, inputs: Operands, reference: Values) -> Values:
    """Largest error allowed for each element of `c`.

    `size` bounds each value on its way through the epilogue, by |a_i| |b_j| at first (Cauchy and
    Schwarz); `error` is what rounding may have done to it. The smallest normal number is added
    last, as devices may flush anything below it to zero.
    """
    unit = np.finfo(workload["accumulate"]).eps / 2
    size = np.stack(
        [np.multiply.outer(_norms(a, 1), _norms(b, 0)) for a, b in _operands(workload, inputs)]
    ).reshape(output_shape(workload))
    error = size * (unit * min(workload["k"], _SUM_ROUNDOFFS))
    for name in workload["epilogue"]:
        step = STEPS[name]
        size = size * step.slope(inputs) + step.addend(inputs)
        error = error * step.slope(inputs) + size * (unit * step.ulps)
    stored = np.finfo(workload["dtype"])
    return np.asarray(error + np.abs(reference) * (stored.eps / 2) + stored.tiny)


def _norms(matrix: Values, axis: int) -> Values:
    """Euclidean norms of the rows (axis 1) or columns (axis 0), in float64."""
    subscripts = "ij,ij->i" if axis == 1 else "ij,ij->j"
    squares = np.einsum(subscripts, matrix, matrix, dtype=np.float64, casting="safe")
    return np.asarray(np.sqrt(squares))
