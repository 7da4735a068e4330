"""What a measured kernel is checked against: inputs, a float64 reference, the errors allowed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from records.workload import Workload
from search_spaces import dtypes, registry
from search_spaces.op import Arrays

_KEPT = 2  # references are large: a session works on one workload, a change of it needs two
_BLOCK_ELEMENTS = 1 << 20  # compared at a time, so that temporaries stay in the caches


@dataclass(frozen=True, eq=False)
class Problem:
    """Random inputs of a workload and what a right answer is. Not to be written to.

    `reference` and `tolerance` are float64, by name of the output; a tolerance broadcasts to its
    reference's shape. `dtypes` are those of outputs that are stored as bits, as bfloat16 is.
    """

    inputs: Arrays
    reference: Arrays
    tolerance: Mapping[str, npt.NDArray[np.float64]]
    dtypes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """`error` is `""` for a right answer. `max_error_ratio`: largest error / error allowed."""

    error: str
    max_error_ratio: float


_kept: OrderedDict[tuple[Workload, int], Problem] = OrderedDict()


def problem(workload: Workload, seed: int) -> Problem:
    """The problem of a workload; the last few are kept, as references are expensive."""
    key = (workload, seed)
    if key not in _kept:
        _kept[key] = _new_problem(workload, seed)
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def reference_for(inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays | None:
    """The reference of those very arrays (not equal ones), where it is one of those kept."""
    return next(
        (
            known.reference
            for known in _kept.values()
            if known.inputs.keys() == inputs.keys()
            and all(known.inputs[name] is array for name, array in inputs.items())
        ),
        None,
    )


def _new_problem(workload: Workload, seed: int) -> Problem:
    op = registry.op(workload.op)
    inputs = op.inputs(workload, seed)
    reference = op.reference(workload, inputs)
    outputs = {each.name: each.dtype for each in op.arrays(workload) if each.role == "output"}
    return Problem(inputs, reference, op.tolerance(workload, inputs, reference), outputs)


def check(problem: Problem, outputs: Mapping[str, npt.NDArray[Any]]) -> Verdict:
    """Compare every element of every output. NaN is wrong, and so is a missing output."""
    verdicts = [
        _check_output(
            name, outputs.get(name), expected, problem.tolerance[name], problem.dtypes.get(name)
        )
        for name, expected in problem.reference.items()
    ]
    errors = [verdict.error for verdict in verdicts if verdict.error]
    return Verdict("; ".join(errors), max(verdict.max_error_ratio for verdict in verdicts))


def _check_output(
    name: str,
    actual: npt.NDArray[Any] | None,
    expected: npt.NDArray[Any],
    allowed: npt.NDArray[np.float64],
    dtype: str | None,
) -> Verdict:
    if actual is None or actual.shape != expected.shape:
        shape = None if actual is None else actual.shape
        return Verdict(f"{name}: has shape {shape}, expected {expected.shape}", float("inf"))
    shape = expected.shape or (1,)
    worst = _Worst(name, actual.reshape(shape), expected.reshape(shape), allowed, dtype)
    return worst.verdict()


class _Worst:
    """The first and the worst wrong element of one output."""

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
        self._wrong = 0
        self._ratio = 0.0
        self._first: tuple[int, ...] | None = None
        self._at: tuple[int, ...] = ()
        for rows in _blocks(expected.shape):
            self._add(rows)

    def _add(self, rows: slice) -> None:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            ratio = self._values(rows)
            ratio -= self._expected[rows]
            np.abs(ratio, out=ratio)
            ratio /= self._allowed[rows]
        highest = float(ratio.max())
        if highest <= 1.0:  # not so for NaN
            self._ratio = max(self._ratio, highest)
        else:
            self._add_in_full(rows, ratio)

    def _add_in_full(self, rows: slice, ratio: npt.NDArray[np.float64]) -> None:
        ratio[self._values(rows) == self._expected[rows]] = 0.0  # 0 / 0, and equal infinities
        ratio[np.isnan(ratio)] = np.inf
        worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        if ratio[worst] > self._ratio:
            self._ratio, self._at = float(ratio[worst]), _shifted(worst, rows.start)
        wrong = ratio > 1.0
        if self._first is None and wrong.any():
            first = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            self._first = _shifted(first, rows.start)
        self._wrong += int(np.count_nonzero(wrong))

    def _values(self, rows: slice) -> npt.NDArray[np.float64]:
        """A copy of the actual elements, as numbers."""
        actual = self._actual[rows]
        if self._dtype is None:
            return actual.astype(np.float64)
        return dtypes.decode(self._dtype, actual).astype(np.float64, copy=False)

    def verdict(self) -> Verdict:
        if self._first is None:
            return Verdict("", self._ratio)
        count = f"{self._name}: {self._wrong} of {self._expected.size} elements are off"
        text = f"{count}, the worst at {self._element(self._at)}"
        if self._first != self._at:
            text += f", the first at {self._element(self._first)}"
        return Verdict(text, self._ratio)

    def _element(self, at: tuple[int, ...]) -> str:
        row = self._values(slice(at[0], at[0] + 1))
        actual, expected = float(row[(0, *at[1:])]), float(self._expected[at])
        place = "[" + ", ".join(map(str, at)) + "]"
        return f"{place}: {actual:.9g}, expected {expected:.9g} ± {self._allowed[at]:.3g}"


def _shifted(at: tuple[Any, ...], rows: int) -> tuple[int, ...]:
    return (int(at[0]) + rows, *map(int, at[1:]))


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis of about `_BLOCK_ELEMENTS` elements."""
    elements_per_row = int(np.prod(shape[1:], dtype=np.int64))
    rows = max(1, _BLOCK_ELEMENTS // max(1, elements_per_row))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))
