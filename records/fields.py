"""Typed fields of parsed JSON: what is missing or of another type is said by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(data: object, name: str) -> str:
    value = _field(data, name)
    if isinstance(value, str):
        return value
    raise TypeError(f"{name}: need a text, got {value!r}")


def integer(data: object, name: str) -> int:
    value = _field(data, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"{name}: need a whole number, got {value!r}")


def number(data: object, name: str) -> float:
    value = _field(data, name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"{name}: need a number, got {value!r}")


def numbers(data: object, name: str) -> tuple[float, ...]:
    value = _field(data, name)
    if isinstance(value, (list, tuple)) and set(map(type, value)) <= {int, float}:
        return tuple(map(float, value))
    raise TypeError(f"{name}: need a list of numbers, got {value!r}")


def mapping(data: object, name: str) -> Mapping[str, Any]:
    value = _field(data, name)
    if isinstance(value, (dict, Mapping)):
        return value
    raise TypeError(f"{name}: need an object, got {value!r}")


def _field(data: object, name: str) -> object:
    if not isinstance(data, (dict, Mapping)):  # dict first: asking an abstract class is slow
        raise TypeError(f"need an object with a field {name!r}, got {data!r}")
    if name not in data:
        raise ValueError(f"the field {name!r} is missing")
    return data[name]
