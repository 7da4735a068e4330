"""What a measured kernel is checked against: inputs, a float64 reference, the errors allowed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from records.workload import Workload
from search_spaces import dtypes, registry
from search_spaces.op import Arrays
from search_spaces.threads import in_threads, slices

_KEPT = 2  # references are large: a session works on one workload, a change of it needs two
_WORTH_KEEPING_S = 0.5
_BLOCK_ELEMENTS = 1 << 19  # compared at a time: temporaries stay in the caches, calls are few
_EQUAL_ELEMENTS = 1 << 22  # the same, where bytes are compared: nothing but what is read


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


class Checker:
    """Checks outputs of one problem; what equals the last right ones byte for byte is right too.

    Those are kept, so outputs that were handed in must not be written to any more.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._right: dict[str, npt.NDArray[Any]] | None = None
        self._verdict = Verdict("", 0.0)

    def check(self, outputs: Mapping[str, npt.NDArray[Any]]) -> Verdict:
        """As the function does."""
        if self._right is not None and _are_equal(self._right, outputs):
            return self._verdict
        verdict = check(self.problem, outputs)
        if not verdict.error:
            self._right, self._verdict = dict(outputs), verdict
        return verdict


class Store(Protocol):
    """Where problems outlive a process; `dtypes` are those of the outputs."""

    def load(self, workload: Workload, seed: int, dtypes: Mapping[str, str]) -> Problem | None: ...

    def save(self, workload: Workload, seed: int, problem: Problem) -> None: ...


_kept: OrderedDict[tuple[Workload, int], Checker] = OrderedDict()
_store: Store | None = None


def problem(workload: Workload, seed: int) -> Problem:
    """The problem of a workload; the last few are kept, as references are expensive."""
    return checker(workload, seed).problem


def checker(workload: Workload, seed: int) -> Checker:
    """The checker of that problem, kept as long: kernels of one workload mostly agree."""
    key = (workload, seed)
    if key not in _kept:
        _kept[key] = Checker(_found_or_new(workload, seed))
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def keep_in(store: Store | None) -> None:
    """From now on this process looks there first, and leaves there what took long to make."""
    global _store
    _store = store


def reference_for(inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays | None:
    """The reference of those very arrays (not equal ones), where it is one of those kept."""
    known = (each.problem for each in _kept.values())
    return next(
        (
            problem.reference
            for problem in known
            if problem.inputs.keys() == inputs.keys()
            and all(problem.inputs[name] is array for name, array in inputs.items())
        ),
        None,
    )


def is_kept_input(array: npt.NDArray[Any]) -> bool:
    """Whether it is that very array of a problem that is kept, and so is not written to."""
    known = (each.problem for each in _kept.values())
    return any(array is each for problem in known for each in problem.inputs.values())


def _found_or_new(workload: Workload, seed: int) -> Problem:
    op = registry.op(workload.op)
    dtypes = {each.name: each.dtype for each in op.arrays(workload) if each.role == "output"}
    found = _store.load(workload, seed, dtypes) if _store else None
    if found is not None:
        return found
    started_s = time.perf_counter()
    inputs = op.inputs(workload, seed)
    reference = op.reference(workload, inputs)
    made = Problem(inputs, reference, op.tolerance(workload, inputs, reference), dtypes)
    if _store and time.perf_counter() - started_s >= _WORTH_KEEPING_S:
        _store.save(workload, seed, made)
    return made


def _are_equal(
    known: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]
) -> bool:
    return known.keys() == outputs.keys() and all(
        _equal_bytes(array, outputs[name]) for name, array in known.items()
    )


def _equal_bytes(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
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
