"""Guard bands: bytes around a buffer that a correct kernel never writes, nor reads to any use."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

GUARD_BYTES = 64 << 10  # each side: an overrun by one row of 16 K float32 is still caught
POISON = 0xFF  # a NaN in every floating type, -1 in every signed integer

Bytes = npt.NDArray[np.uint8]


@cache
def pattern(seed: int) -> Bytes:
    """`GUARD_BYTES` bytes that are NaN in every floating type, and differ between seeds.

    In float8, where a byte holds too few NaNs, they are NaN or beyond 143 in size. Not to be
    written to: seeds are few, and each one's bytes are kept.

    A kernel that reads beyond an input then spoils its result; one that copies one buffer's
    guard to another's does not go unseen.
    """
    random = np.random.default_rng(seed)
    band = np.full(GUARD_BYTES, 0xFF, np.uint8)
    band[::2] = random.integers(0xF1, 0xFF, GUARD_BYTES // 2)
    band.flags.writeable = False
    return band


def damage(name: str, seed: int, before: Bytes, after: Bytes) -> str:
    """`""`, or how the bands before and after a buffer were written."""
    band = pattern(seed)
    below = np.flatnonzero(before != band)
    if below.size:
        return _described(name, below.size, f"ending {GUARD_BYTES - below[-1]} bytes before it")
    above = np.flatnonzero(after != band)
    if above.size:
        return _described(name, above.size, f"starting {above[0]} bytes past its end")
    return ""


def _described(name: str, count: int, where: str) -> str:
    return f"{name}: {count} bytes written outside the buffer, {where}"
