"""The parameter block of a launch, laid out as C lays out a struct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_POINTER_BYTES = 8


@dataclass(frozen=True)
class Block:
    """The bytes, and the offset and size of each parameter in them."""

    data: bytes
    layout: tuple[tuple[int, int], ...]


def packed(values: Sequence[int | np.generic]) -> Block:
    """Addresses (as integers) and numpy scalars, each at a multiple of its own size."""
    data = bytearray()
    layout = []
    for value in values:
        one = value.tobytes() if isinstance(value, np.generic) else _pointer(value)
        data.extend(bytes(-len(data) % len(one)))
        layout.append((len(data), len(one)))
        data.extend(one)
    return Block(bytes(data), tuple(layout))


def _pointer(address: int) -> bytes:
    return address.to_bytes(_POINTER_BYTES, "little")
