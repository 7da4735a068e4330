"""Whole numbers of pieces: arithmetic that templates of every op share."""

from __future__ import annotations


def ceil_divide(extent: int, size: int) -> int:
    """How many pieces of `size` cover `extent`."""
    return -(-extent // size)
