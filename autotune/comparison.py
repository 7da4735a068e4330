"""Large arrays compared element by element or byte by byte, in threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import dtypes
from search_spaces.threads import in_threads, slices

_BLOCK_ELEMENTS = 1 << 19  # compared at a time: temporaries stay in the caches, calls are few
_EQUAL_ELEMENTS = 1 << 22  # the same, where bytes are compared: nothing but what is read


@dataclass(frozen=True)
class Verdict:
    """`error` is `""` for a right answer. `max_error_ratio`: largest error / error allowed."""

    error: str
    max_error_ratio: float


def equal_bytes(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Whether two arrays are the same bytes in the same shape; false for any that lie apart."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if not (first.flags.c_contiguous and second.flags.c_contiguous):
        return False
    bits = np.dtype(f"u{first.itemsize}")  # -0.0 is not 0.0 here, and a NaN equals itself
    flat_first, flat_second = (each.reshape(-1).view(bits) for each in (first, second))
    begin = slice(0, _BLOCK_ELEMENTS)  # where they differ, mostly here already
    if not np.array_equal(flat_first[begin], flat_second[begin]):
        return False
    parts = slices(flat_first.size, _EQUAL_ELEMENTS)
    return all(in_threads(lambda part: np.array_equal(flat_first[part], flat_second[part]), parts))


def compared(
    name: str,
    actual: npt.NDArray[Any] | None,
    expected: npt.NDArray[Any],
    allowed: npt.NDArray[np.float64],
    dtype: str | None,
) -> Verdict:
    """`allowed`: the largest error of each element. `dtype`: of `actual`, where it holds bits."""
    if actual is None or actual.shape != expected.shape:
        shape = None if actual is None else actual.shape
        return Verdict(f"{name}: has shape {shape}, expected {expected.shape}", float("inf"))
    shape = expected.shape or (1,)
    comparison = _Comparison(name, actual.reshape(shape), expected.reshape(shape), allowed, dtype)
    return comparison.verdict()


@dataclass(frozen=True)
class _Finding:
    """Of one block: its largest ratio and where, how many elements are wrong, the first of them.

    Places are left out where nothing is wrong.
    """

    ratio: float
    at: tuple[int, ...] = ()
    wrong: int = 0
    first: tuple[int, ...] | None = None


class _Comparison:
    """One output against what is expected, a block of rows at a time, in threads."""

    def __init__(
        self,
        name: str,
        actual: npt.NDArray[Any],
        expected: npt.NDArray[Any],
        allowed: npt.NDArray[np.float64],
        dtype: str | None,
    ) -> None:
        self._name, self._actual, self._expected = name, actual, expected
        self._dtype = dtype
        self._allowed = np.broadcast_to(np.asarray(allowed, np.float64), expected.shape)

    def verdict(self) -> Verdict:
        per_row = max(1, int(np.prod(self._expected.shape[1:], dtype=np.int64)))
        blocks = slices(len(self._expected), max(1, _BLOCK_ELEMENTS // per_row))
        findings = in_threads(self._finding, blocks) or [_Finding(0.0)]
        wrong = [finding for finding in findings if finding.wrong]
        if not wrong:
            return Verdict("", max(finding.ratio for finding in findings))
        worst = max(wrong, key=lambda finding: finding.ratio)
        return Verdict(self._described(wrong, worst), worst.ratio)

    def _finding(self, rows: slice) -> _Finding:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            ratio = self._values(rows)
            ratio -= self._expected[rows]
            np.abs(ratio, out=ratio)
            ratio /= self._allowed[rows]
        highest = float(ratio.max(initial=0.0))
        return _Finding(highest) if highest <= 1.0 else self._full_finding(rows, ratio)  # not NaN

    def _full_finding(self, rows: slice, ratio: npt.NDArray[np.float64]) -> _Finding:
        ratio[self._values(rows) == self._expected[rows]] = 0.0  # 0 / 0, and equal infinities
        ratio[np.isnan(ratio)] = np.inf
        worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        wrong = ratio > 1.0
        first = np.unravel_index(int(np.argmax(wrong)), wrong.shape) if wrong.any() else None
        return _Finding(
            float(ratio[worst]),
            _shifted(worst, rows.start),
            int(np.count_nonzero(wrong)),
            None if first is None else _shifted(first, rows.start),
        )

    def _values(self, rows: slice) -> npt.NDArray[np.float64]:
        """A copy of the actual elements, as numbers."""
        actual = self._actual[rows]
        if self._dtype is None:
            return actual.astype(np.float64)
        return dtypes.decode(self._dtype, actual).astype(np.float64, copy=False)

    def _described(self, wrong: Sequence[_Finding], worst: _Finding) -> str:
        first = wrong[0].first
        total = sum(finding.wrong for finding in wrong)
        count = f"{self._name}: {total} of {self._expected.size} elements are off"
        text = f"{count}, the worst at {self._element(worst.at)}"
        if first is not None and first != worst.at:
            text += f", the first at {self._element(first)}"
        return text

    def _element(self, at: tuple[int, ...]) -> str:
        row = self._values(slice(at[0], at[0] + 1))
        actual, expected = float(row[(0, *at[1:])]), float(self._expected[at])
        place = "[" + ", ".join(map(str, at)) + "]"
        return f"{place}: {actual:.9g}, expected {expected:.9g} ± {self._allowed[at]:.3g}"


def _shifted(at: tuple[Any, ...], rows: int) -> tuple[int, ...]:
    return (int(at[0]) + rows, *map(int, at[1:]))
