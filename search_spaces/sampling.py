"""Drawing distinct indices uniformly, also from ranges that no machine integer spans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def distinct_indices(size: int, n: int, rng: np.random.Generator) -> Sequence[int]:
    """min(n, size) different integers of [0, size), uniform, in random order."""
    wanted = min(n, size)
    if size < 1 << 62:
        drawn: list[int] = rng.choice(size, wanted, replace=False).tolist() if wanted > 0 else []
        return drawn
    kept: dict[int, None] = {}
    while len(kept) < wanted:
        kept[_below(size, rng)] = None
    return list(kept)


def _below(size: int, rng: np.random.Generator) -> int:
    """Uniform in [0, size): random bits, drawn again when too large."""
    bits = size.bit_length()
    while True:
        drawn = int.from_bytes(rng.bytes((bits + 7) // 8), "little") & ((1 << bits) - 1)
        if drawn < size:
            return drawn
