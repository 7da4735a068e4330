"""What every `Template` must do. A test module subclasses `TemplateConformance` and adds fixtures:

class TestMyTemplate(TemplateConformance):
    @pytest.fixture
    def template(self): return MyTemplate()

    @pytest.fixture
    def workloads(self): ...  # that it serves on the target; edges, layouts, types

    @pytest.fixture
    def target(self): ...

No device is needed: whether the kernels are right is for tests on devices and simulators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import DIALECTS
from search_spaces.kernel import KernelSource, KernelStats
from search_spaces.space import SearchSpace
from search_spaces.template import Template

SAMPLES = 12  # schedules of each workload
CUDA_GRID = (2**31 - 1, 2**16 - 1, 2**16 - 1)  # CUDA C++ Programming Guide, compute capabilities


class TemplateConformance:
    @pytest.fixture
    def template(self) -> Template:
        raise NotImplementedError("a fixture that gives the template")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        raise NotImplementedError("a fixture that gives workloads served on the target")

    @pytest.fixture
    def target(self) -> Target:
        raise NotImplementedError("a fixture that gives a target")

    @pytest.fixture
    def schedules(
        self, template: Template, workloads: Sequence[Workload], target: Target
    ) -> list[tuple[Workload, Schedule]]:
        """Every workload with some of its schedules, always the same ones."""
        random = np.random.default_rng(0)
        spaces = [(workload, template.space(workload, target)) for workload in workloads]
        return [
            (workload, schedule)
            for workload, space in spaces
            for schedule in space.sample(min(SAMPLES, space.size), random)
        ]

    def test_its_workloads_are_served_and_of_its_op(
        self, template: Template, workloads: Sequence[Workload], target: Target
    ) -> None:
        assert workloads
        assert {workload.op for workload in workloads} == {template.op}
        assert [template.rejects(workload, target) for workload in workloads] == [""] * len(
            workloads
        )

    def test_a_target_that_computes_in_no_type_is_rejected_in_words(
        self, template: Template, workloads: Sequence[Workload], target: Target
    ) -> None:
        limits = {**dict(target.limits), "dtypes": ()}
        barren = Target.of(target.backend, target.device, target.arch, limits)
        for workload in workloads:
            assert len(template.rejects(workload, barren).split()) > 3

    def test_a_space_is_not_empty_and_says_what_its_knobs_and_constraints_mean(
        self, template: Template, workloads: Sequence[Workload], target: Target
    ) -> None:
        for space in _spaces(template, workloads, target):
            assert (space.template, space.version) == (template.name, template.version)
            assert space.size > 0
            assert all(len(knob.help.split()) > 1 for knob in space.knobs)
            assert all(len(rule.reason.split()) > 3 for rule in space.constraints)

    def test_statistics_are_finite_and_agree_with_the_op(
        self, template: Template, schedules: list[tuple[Workload, Schedule]], target: Target
    ) -> None:
        op = registry.op(template.op)
        for workload, schedule in schedules:
            stats = template.stats(workload, schedule, target)
            assert all(math.isfinite(number) and number >= 0 for number in _numbers(stats))
            assert stats.useful_flops == op.flops(workload)
            assert stats.flops >= stats.useful_flops
            assert stats.dram_bytes >= op.bytes(workload)
            assert stats.vector_lanes >= 1

    def test_extra_statistics_have_the_same_names_for_every_schedule(
        self, template: Template, schedules: list[tuple[Workload, Schedule]], target: Target
    ) -> None:
        stats = [template.stats(*each, target) for each in schedules]
        assert len({tuple(name for name, _ in one.extra) for one in stats}) == 1

    def test_statistics_agree_with_the_launches(
        self, template: Template, schedules: list[tuple[Workload, Schedule]], target: Target
    ) -> None:
        for (workload, schedule), source in _rendered(template, schedules):
            stats = template.stats(workload, schedule, target)
            launched = [
                (math.prod(launch.groups), math.prod(launch.group_size))
                for launch in source.launches
            ]
            assert (stats.groups, stats.threads) in launched
            assert stats.launches == len(source.launches)
            assert stats.scratch_bytes == sum(scratch.bytes for scratch in source.scratch)

    def test_rendering_is_pure(
        self, template: Template, schedules: list[tuple[Workload, Schedule]]
    ) -> None:
        first = [source for _, source in _rendered(template, schedules)]
        again = [source for _, source in _rendered(template, schedules[::-1])]
        assert sorted(first, key=repr) == sorted(again, key=repr)

    def test_different_schedules_give_different_kernels(
        self, template: Template, schedules: list[tuple[Workload, Schedule]]
    ) -> None:
        kernels = [
            (source.dialect, source.text, source.launches, workload)
            for (workload, _), source in _rendered(template, schedules)
        ]
        assert len(set(kernels)) == len(kernels)

    def test_text_is_plain_and_fits_its_dialect(
        self, template: Template, schedules: list[tuple[Workload, Schedule]]
    ) -> None:
        """OpenCL C promises nothing about characters outside of ASCII, even in comments."""
        assert template.dialects
        for _, source in _rendered(template, schedules):
            assert source.text.isascii() and source.text.endswith("\n")
            assert all(f"{launch.kernel}(" in source.text for launch in source.launches)

    def test_launches_obey_the_limits_of_the_target(
        self, template: Template, schedules: list[tuple[Workload, Schedule]], target: Target
    ) -> None:
        for (workload, schedule), source in _rendered(template, schedules):
            stats = template.stats(workload, schedule, target)
            assert stats.shared_bytes <= target.limit("shared_bytes", math.inf)
            for launch in source.launches:
                assert min(*launch.groups, *launch.group_size) >= 1
                assert math.prod(launch.group_size) <= target.limit("max_group", math.inf)
                assert launch.shared_bytes <= target.limit("shared_bytes", math.inf)
                if source.dialect == "cuda":
                    assert all(
                        count <= limit
                        for count, limit in zip(launch.groups, CUDA_GRID, strict=True)
                    )

    def test_launches_take_arrays_and_scratch_that_exist_and_leave_none_out(
        self, template: Template, schedules: list[tuple[Workload, Schedule]]
    ) -> None:
        """By name, or through a tensor map that describes them."""
        op = registry.op(template.op)
        for (workload, _), source in _rendered(template, schedules):
            assert source.arrays == op.arrays(workload)
            declared = [*(a.name for a in source.arrays), *(s.name for s in source.scratch)]
            mapped = {tensor.name: tensor.array for tensor in source.tensor_maps}
            names = [*declared, *(tensor.name for tensor in source.tensor_maps)]
            assert len(set(names)) == len(names)
            passed = {name for launch in source.launches for name in launch.arguments}
            assert {mapped.get(name, name) for name in passed} == set(declared)
            assert mapped.keys() <= passed
            assert all(scratch.bytes > 0 for scratch in source.scratch)


def _spaces(
    template: Template, workloads: Sequence[Workload], target: Target
) -> Iterator[SearchSpace]:
    return (template.space(workload, target) for workload in workloads)


def _rendered(
    template: Template, schedules: Sequence[tuple[Workload, Schedule]]
) -> Iterator[tuple[tuple[Workload, Schedule], KernelSource]]:
    """Every schedule in every dialect of the template."""
    for (workload, schedule), name in product(schedules, template.dialects):
        source = template.render(workload, schedule, DIALECTS[name])
        assert source.dialect == name
        yield (workload, schedule), source


def _numbers(stats: KernelStats) -> list[float]:
    plain = [value for name, value in asdict(stats).items() if name != "extra"]
    return [*plain, *(value for _, value in stats.extra)]
