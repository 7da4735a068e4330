"""What every `CostModel` must do. A test module subclasses `CostModelConformance`:

class TestMyModel(CostModelConformance):
    @pytest.fixture
    def model_factory(self): return lambda find_template: MyModel(find_template=find_template)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pytest

from cost_model.base import CostModel
from cost_model.table import FindTemplate, StatsSource
from records.errors import InvalidInputError
from records.measurement import Measurement, Status
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.kernel import KernelStats
from search_spaces.space import SearchSpace, boolean, choice, power_of_two

ModelFactory: TypeAlias = Callable[[FindTemplate], CostModel]

TARGET = Target.of(
    "sim", "example", "example", {"units": 8, "shared_bytes": 32768, "vector_bytes": 32}
)


class ExampleTemplate:
    """Tiles of a made-up kernel that is fastest at rows ≈ 16, columns ≈ 8, with vectors."""

    name = "example"
    version = 3

    def __init__(self) -> None:
        self.space = SearchSpace(
            self.name,
            self.version,
            [
                power_of_two("rows", 1, 256),
                power_of_two("columns", 1, 256),
                choice("order", ("row", "column")),
                choice("unroll", (1, 2, 4, 8)),
                boolean("vectors"),
            ],
            [],
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        rows, columns = int(schedule["rows"]), int(schedule["columns"])
        size = int(workload["n"])
        groups = -(-size // rows) * -(-size // columns)
        return KernelStats(
            groups=groups,
            threads=64,
            shared_bytes=4 * rows * columns,
            flops=2.0 * groups * rows * columns * size,
            useful_flops=2.0 * size**3,
            dram_bytes=4.0 * groups * (rows + columns) * size,
            vector_lanes=8 if schedule["vectors"] else 1,
            extra=(("tile", float(rows * columns)),),
        )

    def time_s(self, schedule: Schedule) -> float:
        rows, columns = np.log2(schedule["rows"]), np.log2(schedule["columns"])
        time_s = 1.0 + 0.3 * (rows - 4) ** 2 + 0.2 * (columns - 3) ** 2
        time_s *= 0.7 if schedule["vectors"] else 1.0
        return float(time_s * (1.3 if schedule["order"] == "column" else 1.0))


EXAMPLE = ExampleTemplate()


def find_example(op: str, name: str) -> StatsSource:
    if (op, name) != ("example", EXAMPLE.name):
        raise InvalidInputError(f"no template {name!r} for {op}")
    return EXAMPLE


def workload(n: int = 512) -> Workload:
    return Workload.of("example", {"n": n, "dtype": "float32"})


def record(schedule: Schedule, measurement: Measurement | None = None) -> TuningRecord:
    measurement = measurement or Measurement.ok((EXAMPLE.time_s(schedule),))
    return TuningRecord(workload(), TARGET, schedule, measurement, "2025-01-01T00:00:00")


class CostModelConformance:
    @pytest.fixture
    def model_factory(self) -> ModelFactory:
        raise NotImplementedError("a fixture that gives a callable (find_template) -> model")

    @pytest.fixture
    def model(self, model_factory: ModelFactory) -> CostModel:
        return model_factory(find_example)

    @pytest.fixture
    def schedules(self) -> list[Schedule]:
        """In random order: the first hundred to learn from, the rest unseen."""
        return EXAMPLE.space.sample(EXAMPLE.space.size, np.random.default_rng(0))

    def test_is_not_ready_before_it_has_learnt(self, model: CostModel) -> None:
        assert not model.ready
        model.fit([])
        assert not model.ready

    def test_finds_the_fast_among_the_unseen(
        self, model: CostModel, schedules: Sequence[Schedule]
    ) -> None:
        model.fit([record(each) for each in schedules[:100]])
        assert model.ready
        unseen = schedules[100:]
        score = model.predict(workload(), TARGET, unseen).score
        top = [unseen[place] for place in np.argsort(-score)[:10]]
        times_s = sorted(EXAMPLE.time_s(each) for each in unseen)
        fastest_tenth_s = times_s[len(times_s) // 10]
        assert np.median([EXAMPLE.time_s(each) for each in top]) <= fastest_tenth_s

    def test_predicts_a_finite_number_for_each_in_order(
        self, model: CostModel, schedules: Sequence[Schedule]
    ) -> None:
        model.fit([record(each) for each in schedules[:60]])
        forwards = model.predict(workload(), TARGET, schedules)
        backwards = model.predict(workload(), TARGET, schedules[::-1])
        assert forwards.score.shape == forwards.spread.shape == (len(schedules),)
        assert np.isfinite(forwards.score).all()
        assert (forwards.spread >= 0.0).all()
        assert np.array_equal(forwards.score, backwards.score[::-1])
        assert len(model.predict(workload(), TARGET, []).score) == 0

    def test_equal_records_give_equal_predictions(
        self, model_factory: ModelFactory, schedules: Sequence[Schedule]
    ) -> None:
        records = [record(each) for each in schedules[:60]]
        fresh, experienced = model_factory(find_example), model_factory(find_example)
        experienced.fit(records[:30])
        experienced.predict(workload(77), TARGET, schedules[100:])
        for model in (fresh, experienced):
            model.fit(records)
        asked = schedules[60:]
        scores = [model.predict(workload(), TARGET, asked).score for model in (fresh, experienced)]
        assert np.array_equal(scores[0], scores[1])

    def test_fit_replaces_what_was_learnt(
        self, model: CostModel, schedules: Sequence[Schedule]
    ) -> None:
        model.fit([record(each) for each in schedules[:60]])
        model.fit([])
        assert not model.ready

    def test_skips_records_of_templates_it_does_not_know(
        self, model: CostModel, schedules: Sequence[Schedule]
    ) -> None:
        unknown = [
            record(Schedule.of("removed", 1, each.values), Measurement.ok((1.0,)))
            for each in schedules
        ]
        outdated = [
            record(Schedule.of(EXAMPLE.name, 2, each.values), Measurement.ok((1.0,)))
            for each in schedules
        ]
        model.fit([*unknown, *outdated])
        assert not model.ready

    def test_learns_nothing_from_failures_alone(
        self, model: CostModel, schedules: Sequence[Schedule]
    ) -> None:
        failure = Measurement.failed(Status.COMPILE_ERROR, "no")
        model.fit([record(each, failure) for each in schedules[:200]])
        assert not model.ready

    def test_failures_count_as_slowest(
        self, model: CostModel, schedules: Sequence[Schedule]
    ) -> None:
        failure = Measurement.failed(Status.LAUNCH_ERROR, "too many resources")
        model.fit(
            [record(each, failure if each["unroll"] == 8 else None) for each in schedules[:150]]
        )
        unseen = schedules[150:]
        score = model.predict(workload(), TARGET, unseen).score
        fails = np.array([each["unroll"] == 8 for each in unseen])
        assert score[fails].mean() < score[~fails].mean()
        top = np.argsort(-score)[:10]
        assert fails[top].sum() <= 1

    def test_predicts_for_workloads_it_has_not_seen(
        self, model: CostModel, schedules: Sequence[Schedule]
    ) -> None:
        model.fit([record(each) for each in schedules[:100]])
        score = model.predict(workload(1000), TARGET, schedules[100:]).score
        assert np.isfinite(score).all()
        assert score.std() > 0.0
