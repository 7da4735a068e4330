"""Canonical JSON: one text for one value, so that equal values have equal keys."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | tuple[Scalar, ...]
Items: TypeAlias = tuple[tuple[str, Value], ...]

_PLAIN = frozenset({bool, int, str})


def freeze(values: Mapping[str, object] | Iterable[tuple[str, object]]) -> Items:
    """Sorted, hashable items of a mapping whose values are scalars or sequences of scalars.

    Scalars become plain `bool`, `int`, `float` or `str`, also from numpy's numbers. Raises
    `TypeError` for any other value, `ValueError` for NaN, infinity and a name given twice.
    """
    pairs = list(values.items() if isinstance(values, Mapping) else values)
    frozen = {
        str(name): value if type(value) in _PLAIN else _frozen(name, value) for name, value in pairs
    }
    if len(frozen) < len(pairs):
        raise ValueError(f"need each name once, got {sorted(str(name) for name, _ in pairs)}")
    return tuple(sorted(frozen.items()))


def _frozen(name: object, value: object) -> Value:
    if isinstance(value, (list, tuple)):
        return tuple(_scalar(name, scalar) for scalar in value)
    return _scalar(name, value)


def _scalar(name: object, value: object) -> Scalar:
    if type(value) in _PLAIN:
        return value  # type: ignore[return-value]
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise ValueError(f"{name}={value!r}: need a finite number")
        return float(value) + 0.0  # -0.0 equals 0.0, so it must have the same text
    raise TypeError(f"{name}={value!r}: need a bool, int, float, str or a sequence of them")


def canonical_json(value: object) -> str:
    """`value` as JSON with sorted keys and no blanks; NaN and infinity are refused."""
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(text: str) -> str:
    """First 16 hexadecimal digits of SHA-256: short enough to print, long enough to be unique."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
