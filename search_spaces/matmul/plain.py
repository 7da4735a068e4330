"""What a template of plain products says of a workload that asks for more."""

from __future__ import annotations

from records.workload import Workload
from search_spaces.matmul.parameters import Parameters

PLAIN_DTYPES = ("float16", "float32", "float64")


def plain_reason(workload: Workload) -> str:
    """`""` for A, B and C of one of float16, float32 and float64, all products of one size.

    Else the reason, in words, why a template that knows nothing more does not serve.
    """
    given = Parameters.of(workload)
    if given.dtype not in PLAIN_DTYPES:
        return f"it multiplies {', '.join(PLAIN_DTYPES)}, not {given.dtype}"
    if given.quantised:
        return f"it takes B in the type of A, {given.dtype}, not quantised to {given.b_dtype}"
    if given.out_dtype != given.dtype:
        return f"it stores C in the type of A, {given.dtype}, not in {given.out_dtype}"
    if given.groups:
        return f"it multiplies batches of one size, not {len(given.groups)} groups of rows"
    return ""
