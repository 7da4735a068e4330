"""Knobs: the named choices of a template, their legal values, and how they become numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from records.canonical import Scalar
from records.errors import InvalidInputError


@dataclass(frozen=True)
class Knob:
    """A named choice. `values` are legal values in order; `help` says what it does, one line.

    Values are told apart by type too: 1, 1.0 and True are three values. Raises
    `InvalidInputError` if there are none, if two are equal, or if one is not exactly a bool,
    int, float or str.
    """

    name: str
    values: tuple[Scalar, ...]
    help: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise InvalidInputError(f"knob {self.name!r} needs at least one value")
        for value in self.values:
            if type(value) not in (bool, int, float, str):
                raise InvalidInputError(
                    f"knob {self.name!r}: value {value!r} is a {type(value).__name__}; "
                    "need a plain bool, int, float or str"
                )
        if len(self.positions) < len(self.values):
            raise InvalidInputError(f"knob {self.name!r} lists a value twice: {self.listed}")

    @cached_property
    def positions(self) -> dict[tuple[type, Scalar], int]:
        """Where each value stands in `values`, by (type, value)."""
        return {(type(value), value): at for at, value in enumerate(self.values)}

    def position(self, value: object) -> int | None:
        """Where `value` stands in `values`; `None` if it is not legal."""
        try:
            return self.positions.get((type(value), value))  # type: ignore[arg-type]
        except TypeError:  # not hashable
            return None

    @property
    def listed(self) -> str:
        """The legal values as a person would type them."""
        return ", ".join(str(value) for value in self.values)

    def parse(self, text: str) -> Scalar:
        """The legal value that `text` names, in any case: `"64"`, `"true"`."""
        for value in self.values:
            if str(value).lower() == text.strip().lower():
                return value
        raise InvalidInputError(f"{self.name}={text} is not legal; legal values: {self.listed}")

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of `codes`: the knob's own, or `name=value` where one-hot."""
        if self._is_boolean or self._is_numeric:
            return (self.name,)
        return tuple(f"{self.name}={value}" for value in self.values)

    @cached_property
    def codes(self) -> npt.NDArray[np.float32]:
        """A row of numbers for each value, shape (values, columns).

        Booleans are 0 and 1; positive integers (tiles, splits, powers of two) their log2; other
        numbers themselves; anything else is one-hot.
        """
        if self._is_numeric and all(isinstance(value, int) and value > 0 for value in self.values):
            numbers = [math.log2(value) for value in self.values]  # type: ignore[arg-type]
        elif self._is_boolean or self._is_numeric:
            numbers = [float(value) for value in self.values]
        else:
            return np.eye(len(self.values), dtype=np.float32)
        return np.array(numbers, dtype=np.float32)[:, None]

    @property
    def _is_boolean(self) -> bool:
        return all(type(value) is bool for value in self.values)

    @property
    def _is_numeric(self) -> bool:
        return all(type(value) in (int, float) for value in self.values)


def choice(name: str, values: Sequence[Scalar], help: str = "") -> Knob:
    """Any listed values, in that order."""
    return Knob(name, tuple(values), help)


def boolean(name: str, help: str = "") -> Knob:
    """Off or on: `False`, `True`."""
    return Knob(name, (False, True), help)


def power_of_two(name: str, low: int, high: int, help: str = "") -> Knob:
    """Powers of two between `low` and `high`, both included."""
    exponents = range(max(high, 0).bit_length())
    powers = tuple(1 << exponent for exponent in exponents if low <= 1 << exponent <= high)
    if not powers:
        raise InvalidInputError(
            f"knob {name!r}: no power of two between {low} and {high}; widen the range"
        )
    return Knob(name, powers, help)


def split(name: str, extent: int, help: str = "", low: int = 1, high: int | None = None) -> Knob:
    """Divisors of `extent` between `low` and `high`, both included; `high` is `extent` if None."""
    if extent < 1:
        raise InvalidInputError(f"knob {name!r}: cannot split an extent of {extent}; need >= 1")
    small = [divisor for divisor in range(1, math.isqrt(extent) + 1) if extent % divisor == 0]
    divisors = sorted({*small, *(extent // divisor for divisor in small)})
    largest = extent if high is None else high
    legal = tuple(divisor for divisor in divisors if low <= divisor <= largest)
    if not legal:
        raise InvalidInputError(
            f"knob {name!r}: {extent} has no divisor between {low} and {largest}; "
            "widen the range or pad the extent"
        )
    return Knob(name, legal, help)
