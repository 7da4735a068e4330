"""The right answer of a matmul in float64."""

from __future__ import annotations

import numpy as np

from records.workload import Workload
from search_spaces import dtypes
from search_spaces.matmul.operands import Product, epilogue_operands, products
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.steps import STEPS, Operands, Values


def reference(workload: Workload, inputs: Operands) -> Values:
    """epilogue(A B) in float64, shaped like the output `c`; exact for int8.

    A float8 output is clipped to its largest value, as conversion on the device saturates.
    """
    given = Parameters.of(workload)
    sums = np.empty((given.batch * given.m, given.n))
    for product in products(given, inputs):
        _multiply(product, given.k, sums[product.rows])
    result = sums.reshape(given.c_shape)
    operands = epilogue_operands(given, inputs)
    for step in given.epilogue:
        result = STEPS[step].apply(result, operands)
    if given.out_dtype.startswith("float8"):
        largest = dtypes.dtype(given.out_dtype).largest
        result = np.clip(result, -largest, largest)
    return result


def _multiply(product: Product, k: int, out: Values) -> None:
    """out = a b, scaled; only panels of a and b are converted at a time."""
    for columns, b_panel in product.b.panels(k):
        for rows, a_panel in product.a.panels(k):
            np.matmul(a_panel, b_panel.T, out=out[rows, columns])
    if product.scale is not None:
        out *= product.scale
