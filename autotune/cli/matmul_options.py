"""The options that describe a matmul, named as its parameters are."""

from __future__ import annotations

import click

from autotune.cli.option_types import Counts, Decorator
from search_spaces.matmul.parameters import (
    ACCUMULATORS,
    LAYOUTS,
    OUT_DTYPES,
    QUANTISED_DTYPES,
    SCALES,
)
from search_spaces.matmul.steps import STEPS


def _all(choices: dict[str, tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(name for names in choices.values() for name in names))


MATMUL_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "-m", "m", type=int, metavar="SIZE", help="Rows of A and C; needless with --groups."
    ),
    click.option("-n", "n", type=int, metavar="SIZE", required=True, help="Columns of B and C."),
    click.option(
        "-k", "k", type=int, metavar="SIZE", required=True, help="Columns of A, rows of B."
    ),
    click.option(
        "--batch",
        type=int,
        metavar="N",
        default=1,
        show_default=True,
        help="Products side by side.",
    ),
    click.option(
        "--groups",
        type=Counts("numbers of rows"),
        metavar="ROWS,…",
        help="Rows of A that each of as many matrices B multiplies, as a mixture of experts has.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(list(ACCUMULATORS)),
        default="float32",
        show_default=True,
        help="Type of A and B.",
    ),
    click.option(
        "--out-dtype",
        type=click.Choice(_all(OUT_DTYPES)),
        help="Type of C.  [default: that of A, but bfloat16 for float8 and int32 for int8]",
    ),
    click.option(
        "--accumulate",
        type=click.Choice(_all(ACCUMULATORS)),
        help="Type of the sums.  [default: float32, but float64 for float64 and int32 for int8]",
    ),
    click.option(
        "--layout",
        type=click.Choice(LAYOUTS),
        default="nn",
        show_default=True,
        help="A letter for A, one for B: n as written, t stored transposed.",
    ),
    click.option(
        "--scale",
        type=click.Choice(SCALES),
        default="none",
        show_default=True,
        help="Factors of float8 and int8: one each for A and B, or one a row and a column.",
    ),
    click.option(
        "--b-dtype",
        type=click.Choice(QUANTISED_DTYPES),
        help="Type of a quantised B beside float16 or bfloat16.  [default: that of A]",
    ),
    click.option(
        "--group-size",
        type=int,
        metavar="N",
        help="Neighbours in k that share a scale of a quantised B.  [default: all]",
    ),
    click.option("--zero-point", is_flag=True, help="A quantised B has zero points too."),
    click.option(
        "--epilogue",
        default="",
        metavar="STEP,…",
        help=f"Steps on the result, in this order: {', '.join(STEPS)}.",
    ),
)
