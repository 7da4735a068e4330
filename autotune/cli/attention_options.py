"""The options that describe an attention, named as its parameters are."""

from __future__ import annotations

import click

from autotune.cli.option_types import Counts, Decorator
from search_spaces.attention.parameters import BIASES, DTYPES, KV_DTYPES, LAYOUTS


def _size(name: str, help: str, *, required: bool = False) -> Decorator:
    return click.option(name, type=int, metavar="SIZE", required=required, help=help)


def _lengths(name: str, help: str) -> Decorator:
    return click.option(name, type=Counts("lengths"), metavar="SIZE,…", help=help)


ATTENTION_OPTIONS: tuple[Decorator, ...] = (
    _size("--batch", "Sequences.  [default: as many as lengths, or 1]"),
    _size("--heads", "Heads of Q.", required=True),
    _size("--kv-heads", "Heads of K and V, a divisor of --heads.  [default: --heads]"),
    _size("--q-len", "Queries of each sequence; needless with --q-lens."),
    _size("--kv-len", "Keys of each sequence.  [default: --q-len]"),
    _size("--head-dim", "Elements of a row of Q and K.", required=True),
    _size("--v-dim", "Elements of a row of V.  [default: --head-dim]"),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="float32",
        show_default=True,
        help="Type of Q, of the output, and of K and V.",
    ),
    click.option(
        "--kv-dtype",
        type=click.Choice(KV_DTYPES),
        help="Type of K and V beside a Q of 16 bits.  [default: that of Q]",
    ),
    click.option("--causal", is_flag=True, help="A query sees no later key; the ends align."),
    _size("--window", "Only that many keys back from each query, and ahead unless --causal."),
    click.option(
        "--scale",
        type=float,
        metavar="NUMBER",
        help="Factor of the scores.  [default: 1 / √head-dim]",
    ),
    click.option(
        "--softcap", type=float, metavar="NUMBER", help="Scores become cap · tanh(score / cap)."
    ),
    click.option(
        "--bias",
        type=click.Choice(BIASES),
        default="none",
        show_default=True,
        help="Added to scores: by distance (alibi), for each head, or for each sequence too.",
    ),
    click.option(
        "--layout",
        type=click.Choice(LAYOUTS),
        default="bhsd",
        show_default=True,
        help="Whether heads stand before rows or after.",
    ),
    _lengths("--q-lens", "Queries of each sequence, packed without padding; --layout bshd."),
    _lengths("--kv-lens", "Keys of each sequence.  [default: --q-lens]"),
    _size("--page-size", "Rows of a page, where K and V lie in pages of a cache."),
    click.option("--lse", is_flag=True, help="Logarithms of the sums of exponentials too."),
)
