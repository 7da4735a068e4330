"""The right answer of an attention in float64."""

from __future__ import annotations

import numpy as np

from records.workload import Workload
from search_spaces.attention.operands import Inputs, Operands, Part, Values, parts
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.softmax import Softmax, weighted
from search_spaces.threads import in_threads, single_threaded_products


def reference(workload: Workload, inputs: Inputs) -> dict[str, Values]:
    """`out`, and `lse` where asked, in float64; a block of queries and of keys at a time."""
    given = Parameters.of(workload)
    out, lse = np.empty(given.out_shape), np.empty(given.lse_shape)

    def fill(part: Part) -> None:
        operands = Operands(part, inputs, np.float64)
        for queries in part.query_blocks():
            sums, logarithm = _block(operands, queries)
            part.rows(out)[:, queries] = sums
            part.logarithms(lse)[:, queries] = logarithm

    with single_threaded_products():
        in_threads(fill, parts(given, inputs))
    return {"out": out, "lse": lse} if given.lse else {"out": out}


def _block(operands: Operands, queries: slice) -> tuple[Values, Values]:
    softmax = Softmax(operands, queries)
    shape = (len(operands.queries), queries.stop - queries.start, operands.part.given.v_dim)
    sums = np.zeros(shape)
    for block in softmax.blocks():
        sums *= block.rescaling[..., None]
        sums += weighted(block.weights, operands.values[block.keys])
    return sums / softmax.divisor[..., None], softmax.logarithm
