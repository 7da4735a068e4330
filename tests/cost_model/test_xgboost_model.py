"""The XGBoost model keeps the contract of `CostModel`."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.testing.cost_model import (
    EXAMPLE,
    TARGET,
    CostModelConformance,
    ModelFactory,
    find_example,
    record,
    workload,
)
from cost_model import make_model
from cost_model.evaluate import pairwise_accuracy
from cost_model.xgboost_model import Settings, XGBoostModel
from records import Measurement, TuningRecord
from records.errors import InvalidInputError


class TestXGBoostModel(CostModelConformance):
    @pytest.fixture
    def model_factory(self) -> ModelFactory:
        return lambda find_template: XGBoostModel(find_template=find_template)


SCHEDULES = EXAMPLE.space.sample(400, np.random.default_rng(1))


def fitted(records: list[TuningRecord], seed: int = 0) -> XGBoostModel:
    model = XGBoostModel(seed, find_template=find_example)
    model.fit(records)
    return model


def test_the_table_makes_it_by_name() -> None:
    assert isinstance(make_model("xgboost", seed=3), XGBoostModel)
    with pytest.raises(InvalidInputError, match="no cost model 'oracle'; there are: ensemble, "):
        make_model("oracle")


def test_is_ready_with_enough_that_worked() -> None:
    enough = Settings().enough
    records = [record(each) for each in SCHEDULES[:enough]]
    assert not fitted(records[:-1]).ready
    assert fitted(records).ready


def test_predicting_before_it_is_ready_is_refused() -> None:
    with pytest.raises(RuntimeError, match="ready"):
        XGBoostModel(find_template=find_example).predict(workload(), TARGET, SCHEDULES)


def test_the_score_is_about_runs_a_second() -> None:
    model = fitted([record(each) for each in SCHEDULES[:200]])
    score = model.predict(workload(), TARGET, SCHEDULES[200:]).score
    speeds = np.array([1.0 / EXAMPLE.time_s(each) for each in SCHEDULES[200:]])
    assert abs(score.mean() - speeds.mean()) < 0.2 * speeds.mean()


def test_a_slower_unit_of_time_changes_no_order() -> None:
    def scaled(factor: float) -> list[TuningRecord]:
        return [
            record(each, Measurement.ok((factor * EXAMPLE.time_s(each),)))
            for each in SCHEDULES[:100]
        ]

    orders = [
        np.argsort(fitted(scaled(factor)).predict(workload(), TARGET, SCHEDULES[100:]).score)
        for factor in (1.0, 1024.0)
    ]
    assert np.array_equal(orders[0], orders[1])


def test_disagreement_is_larger_where_little_is_known() -> None:
    known = [each for each in SCHEDULES if each["rows"] <= 8]
    far = [each for each in SCHEDULES if each["rows"] > 8]
    model = fitted([record(each) for each in known[:100]])
    assert (
        model.predict(workload(), TARGET, far).spread.mean()
        > 1.05 * model.predict(workload(), TARGET, known[:100]).spread.mean()
    )


def test_what_one_workload_taught_helps_the_next() -> None:
    """A handful of results of a new workload, and many of another one, beat the handful."""
    other = workload(640)

    def of_other(count: int) -> list[TuningRecord]:
        return [
            TuningRecord(other, TARGET, each, Measurement.ok((2.0 * EXAMPLE.time_s(each),)), "")
            for each in SCHEDULES[-count:]
        ]

    few, many = fitted(of_other(20)), fitted([*map(record, SCHEDULES[:150]), *of_other(20)])
    unseen = SCHEDULES[150:380]
    times_s = np.array([EXAMPLE.time_s(each) for each in unseen])
    right = [
        pairwise_accuracy(model.predict(other, TARGET, unseen).score, times_s)
        for model in (few, many)
    ]
    assert right[1] > right[0]
