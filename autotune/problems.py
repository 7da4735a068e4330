"""What a measured kernel is checked against: inputs, a float64 reference, the errors allowed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from autotune.comparison import Verdict, compared, equal_bytes
from records.workload import Workload
from search_spaces import registry
from search_spaces.op import Arrays

__all__ = [
    "Checker",
    "Problem",
    "Store",
    "Verdict",
    "check",
    "checker",
    "is_kept_input",
    "keep_in",
    "problem",
    "reference_for",
]

_KEPT = 2  # references are large: a session works on one workload, a change of it needs two
_WORTH_KEEPING_S = 0.5


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


def check(problem: Problem, outputs: Mapping[str, npt.NDArray[Any]]) -> Verdict:
    """Compare every element of every output. NaN is wrong, and so is a missing output."""
    verdicts = [
        compared(
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
        equal_bytes(array, outputs[name]) for name, array in known.items()
    )
