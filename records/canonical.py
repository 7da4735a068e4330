"""Canonical JSON: one text for one value, so that equal values have equal keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | tuple[Scalar, ...]
Items: TypeAlias = tuple[tuple[str, Value], ...]


def freeze(values: Mapping[str, object] | Iterable[tuple[str, object]]) -> Items:
    """Sorted, hashable items of a mapping whose values are scalars or sequences of scalars.

    Raises `TypeError` for any other value.
    """
    pairs = values.items() if isinstance(values, Mapping) else values
    return tuple(sorted((str(name), _frozen(name, value)) for name, value in pairs))


def _frozen(name: str, value: object) -> Value:
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        scalars = tuple(value)
        if all(isinstance(scalar, (bool, int, float, str)) for scalar in scalars):
            return scalars
    raise TypeError(f"{name}={value!r}: need a bool, int, float, str or a sequence of them")


def canonical_json(value: object) -> str:
    """`value` as JSON with sorted keys and no blanks; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(text: str) -> str:
    """First 16 hexadecimal digits of SHA-256: short enough to print, long enough to be unique."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
