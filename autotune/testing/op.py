"""What every `Op` must do. A test module subclasses `OpConformance` and adds fixtures:

class TestMyOp(OpConformance):
    @pytest.fixture
    def op(self): return MY_OP

    @pytest.fixture
    def workloads(self): ...  # small ones: edges, layouts, types

Whether the reference is right is for the op's own tests; nothing here can know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune.problems import Problem, check
from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.kernel import Array
from search_spaces.op import Arrays, Op


class OpConformance:
    @pytest.fixture
    def op(self) -> Op:
        raise NotImplementedError("a fixture that gives the op")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        raise NotImplementedError("a fixture that gives small workloads of the op")

    def test_workloads_survive_json_and_validation(
        self, op: Op, workloads: Sequence[Workload]
    ) -> None:
        assert workloads
        for workload in workloads:
            read = Workload.from_json(json.loads(json.dumps(workload.to_json())))
            assert read == workload
            assert op.workload(**read.values) == workload
            assert workload.op == op.name

    def test_an_unknown_parameter_is_refused_in_words(
        self, op: Op, workloads: Sequence[Workload]
    ) -> None:
        with pytest.raises(InvalidInputError, match="no_such_parameter"):
            op.workload(**workloads[0].values, no_such_parameter=1)

    def test_arrays_have_names_of_their_own_and_something_goes_in_and_out(
        self, op: Op, workloads: Sequence[Workload]
    ) -> None:
        for workload in workloads:
            arrays = op.arrays(workload)
            assert len({array.name for array in arrays}) == len(arrays)
            assert {"input", "output"} <= {array.role for array in arrays}
            assert all((array.shape == ()) == (array.role == "scalar") for array in arrays)
            assert all(extent > 0 for array in arrays for extent in array.shape)

    def test_inputs_agree_with_the_arrays(self, op: Op, workloads: Sequence[Workload]) -> None:
        for workload in workloads:
            inputs = op.inputs(workload, seed=0)
            given = _given(op, workload)
            assert set(inputs) == {array.name for array in given}
            for array in given:
                values = inputs[array.name]
                assert (values.shape, values.dtype) == (array.storage_shape, array.storage)
                assert values.flags.c_contiguous

    def test_inputs_are_finite_and_not_zero(self, op: Op, workloads: Sequence[Workload]) -> None:
        """Integers may be, some of them: every code of a narrow type should occur."""
        for workload in workloads:
            inputs = op.inputs(workload, seed=0)
            for array in _given(op, workload):
                values = dtypes.decode(array.dtype, inputs[array.name])
                assert not np.isinf(values).any() and (values != 0).any()
                assert np.isfinite(values).any()  # NaN where nobody should look
                assert dtypes.dtype(array.dtype).is_integer or (values != 0).all()

    def test_inputs_follow_from_the_seed(self, op: Op, workloads: Sequence[Workload]) -> None:
        for workload in workloads:
            first, again, other = (op.inputs(workload, seed) for seed in (3, 3, 4))
            assert all(_are_same(first[name], again[name]) for name in first)
            assert any(not _are_same(first[name], other[name]) for name in first)

    def test_the_reference_gives_every_output_in_float64_and_leaves_the_inputs(
        self, op: Op, workloads: Sequence[Workload]
    ) -> None:
        for workload in workloads:
            inputs = op.inputs(workload, seed=1)
            reference = op.reference(workload, inputs)
            untouched = op.inputs(workload, seed=1)
            assert all(_are_same(inputs[name], untouched[name]) for name in inputs)
            outputs = [array for array in op.arrays(workload) if array.role == "output"]
            assert set(reference) == {array.name for array in outputs}
            for array in outputs:
                assert reference[array.name].dtype == np.float64
                assert reference[array.name].shape == array.shape
                assert np.isfinite(reference[array.name]).all()

    def test_tolerances_are_positive_finite_and_smaller_than_what_they_judge(
        self, op: Op, workloads: Sequence[Workload]
    ) -> None:
        for workload in workloads:
            problem = _problem(op, workload)
            assert problem.tolerance.keys() == problem.reference.keys()
            for name, expected in problem.reference.items():
                allowed = np.broadcast_to(problem.tolerance[name], expected.shape)
                assert np.isfinite(allowed).all() and (allowed > 0).all()
                assert allowed.mean() < math.sqrt(np.mean(expected**2)) / 4

    def test_the_reference_rounded_to_the_outputs_type_is_right(
        self, op: Op, workloads: Sequence[Workload]
    ) -> None:
        for workload in workloads:
            problem = _problem(op, workload)
            verdict = check(problem, _rounded(op, workload, problem))
            assert (verdict.error, verdict.max_error_ratio <= 1.0) == ("", True)

    def test_one_element_off_by_more_than_allowed_is_wrong(
        self, op: Op, workloads: Sequence[Workload]
    ) -> None:
        for workload in workloads:
            problem = _problem(op, workload)
            for name, expected in problem.reference.items():
                allowed = np.broadcast_to(problem.tolerance[name], expected.shape)
                for place in {0, expected.size // 2, expected.size - 1}:
                    for wrong in (expected.flat[place] + 2.5 * allowed.flat[place], np.nan):
                        outputs = {key: each.copy() for key, each in problem.reference.items()}
                        outputs[name].flat[place] = wrong
                        assert "1 of" in check(problem, outputs).error

    def test_a_missing_output_is_wrong(self, op: Op, workloads: Sequence[Workload]) -> None:
        problem = _problem(op, workloads[0])
        assert check(problem, {}).error

    def test_work_and_traffic_are_positive(self, op: Op, workloads: Sequence[Workload]) -> None:
        for workload in workloads:
            held = sum(array.size_bytes for array in op.arrays(workload))
            assert 0 < op.flops(workload) < math.inf
            assert 0 < op.bytes(workload) <= held


def _are_same(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """NaN too."""
    return first.tobytes() == second.tobytes()


def _problem(op: Op, workload: Workload) -> Problem:
    inputs = op.inputs(workload, seed=2)
    reference = op.reference(workload, inputs)
    return Problem(inputs, reference, op.tolerance(workload, inputs, reference))


def _given(op: Op, workload: Workload) -> list[Array]:
    return [array for array in op.arrays(workload) if array.role != "output"]


def _rounded(op: Op, workload: Workload, problem: Problem) -> Arrays:
    """The values of the reference that the type of each output can hold."""
    return {
        array.name: dtypes.decode(
            array.dtype, dtypes.encode(array.dtype, problem.reference[array.name])
        )
        for array in op.arrays(workload)
        if array.role == "output"
    }
