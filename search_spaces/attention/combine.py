"""The second kernel of a split attention: merges what parts of the keys gave (`combine.h`)."""

from __future__ import annotations

from functools import cache
from importlib import resources

from search_spaces.attention.defines import inputs, outputs
from search_spaces.attention.parameters import Parameters
from search_spaces.kernel import Launch, Scratch

COMBINE_THREADS = 128  # the default in combine.h
_FLOAT_BYTES = 4


@cache
def combine_text() -> str:
    """To stand after `sequence.h`; needs the macro SPLITS."""
    return resources.files("search_spaces.attention").joinpath("combine.h").read_text()


def partial_bytes(given: Parameters, splits: int) -> int:
    """Scratch of `splits` parts, in bytes; none for one part, which needs no merging."""
    return sum(each.bytes for each in partial_results(given, splits))


def partial_results(given: Parameters, splits: int) -> tuple[Scratch, ...]:
    """A row of float32 and two float32 more for each row of the output and each part."""
    if splits == 1:
        return ()
    rows = given.heads * given.total_q * splits
    return (
        Scratch("partial_out", rows * given.v_dim * _FLOAT_BYTES),
        Scratch("partial_sums", rows * 2 * _FLOAT_BYTES),
    )


def combine_launch(given: Parameters) -> Launch:
    elements = given.heads * given.total_q * given.v_dim
    return Launch(
        "combine",
        (-(-elements // COMBINE_THREADS), 1, 1),
        (COMBINE_THREADS, 1, 1),
        ("partial_out", "partial_sums", *inputs(given), *outputs(given)),
    )
