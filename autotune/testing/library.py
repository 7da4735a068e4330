"""What every `Library` must do. A test module subclasses `LibraryConformance` and adds fixtures:

class TestMyLibrary(LibraryConformance):
    @pytest.fixture
    def library(self): return MyLibrary()

    @pytest.fixture
    def workloads(self): ...  # small ones that it does on the target

    @pytest.fixture
    def target(self): ...

    @pytest.fixture
    def device(self): return "cuda:0"  # by default the host
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from autotune.libraries import Library
from autotune.problems import check, problem
from records.canonical import canonical_json
from records.target import Target
from records.workload import Workload


class LibraryConformance:
    @pytest.fixture
    def library(self) -> Library:
        raise NotImplementedError("a fixture that gives the library")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        raise NotImplementedError("a fixture that gives workloads done on the target")

    @pytest.fixture
    def target(self) -> Target:
        raise NotImplementedError("a fixture that gives a target")

    @pytest.fixture
    def device(self) -> str:
        return "opencl:cpu"

    def test_its_workloads_are_of_its_op_and_done(
        self, library: Library, workloads: Sequence[Workload], target: Target
    ) -> None:
        assert workloads
        assert {workload.op for workload in workloads} == {library.op}
        assert [library.rejects(workload, target) for workload in workloads] == [""] * len(
            workloads
        )

    def test_every_launch_computes_the_whole_thing_anew(
        self, library: Library, workloads: Sequence[Workload], device: str
    ) -> None:
        for workload in workloads:
            facts = problem(workload, seed=0)
            execution = library.prepare(workload, facts.inputs, device)
            for _ in range(3):
                execution.poison()
                execution.flush(1 << 12)
                assert execution.launch() > 0.0
                assert check(facts, execution.outputs()).error == ""
                assert execution.damage() == ""
            execution.close()

    def test_the_inputs_are_left_alone(
        self, library: Library, workloads: Sequence[Workload], device: str
    ) -> None:
        for workload in workloads:
            inputs = problem(workload, seed=0).inputs
            before = {name: array.copy() for name, array in inputs.items()}
            library.prepare(workload, inputs, device).launch()
            assert all(np.array_equal(inputs[name], before[name]) for name in before)

    def test_what_ran_is_told_in_values_that_records_can_hold(
        self, library: Library, workloads: Sequence[Workload], device: str
    ) -> None:
        execution = library.prepare(workloads[0], problem(workloads[0], seed=0).inputs, device)
        execution.launch()
        assert canonical_json(execution.details) != "{}"
