"""Every cost model of the table keeps the contract of `CostModel`."""

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
from cost_model import DEFAULT, MODELS, CostModel, make_model
from cost_model.evaluate import pairwise_accuracy
from records import Measurement, Schedule, Status


@pytest.mark.parametrize("name", MODELS)
class TestTheTable(CostModelConformance):
    @pytest.fixture
    def model_factory(self, name: str) -> ModelFactory:
        return lambda find_template: make_model(name, 0, find_template)


SCHEDULES = EXAMPLE.space.sample(400, np.random.default_rng(1))
UNSEEN_S = np.array([EXAMPLE.time_s(each) for each in SCHEDULES[200:]])

WITH_UNIT = ["ensemble", "gaussian-process", "xgboost-log", "random-forest"]


def fitted(name: str, count: int) -> CostModel:
    model = make_model(name, 0, find_example)
    model.fit([record(each) for each in SCHEDULES[:count]])
    return model


@pytest.mark.parametrize("name", WITH_UNIT)
def test_the_score_is_the_logarithm_of_runs_a_second(name: str) -> None:
    prediction = fitted(name, 200).predict(workload(), TARGET, SCHEDULES[200:])
    best_s = min(EXAMPLE.time_s(each) for each in SCHEDULES[:200])
    assert prediction.best == pytest.approx(-np.log(best_s))
    clipped = np.maximum(-np.log(UNSEEN_S), -np.log(4.0 * best_s))
    assert np.abs(prediction.score - clipped).mean() < 0.5 * np.abs(clipped - clipped.mean()).mean()


@pytest.mark.parametrize("name", MODELS)
def test_more_examples_order_better(name: str) -> None:
    """Among those that are not slow: how slow the slow are need not be learnt."""
    quick = UNSEEN_S < 3.0 * UNSEEN_S.min()
    right = []
    for count in (25, 200):
        score = fitted(name, count).predict(workload(), TARGET, SCHEDULES[200:]).score
        right.append(pairwise_accuracy(score[quick], UNSEEN_S[quick]))
    assert 0.55 < right[0] < right[1]


@pytest.mark.parametrize("name", ["ensemble", "gaussian-process"])
def test_spreads_of_the_process_are_honest(name: str) -> None:
    """About two thirds of what comes is within one spread, nearly all within three."""
    prediction = fitted(name, 60).predict(workload(), TARGET, SCHEDULES[200:])
    best_s = min(EXAMPLE.time_s(each) for each in SCHEDULES[:60])
    off = np.abs(np.maximum(-np.log(UNSEEN_S), -np.log(4.0 * best_s)) - prediction.score)
    assert (off < prediction.spread).mean() > 0.5
    assert (off < 3.0 * prediction.spread).mean() > 0.9


def test_the_ensemble_says_by_how_much_trees_moved_the_score_of_the_process() -> None:
    together, alone = (
        fitted(name, 60).predict(workload(), TARGET, SCHEDULES[200:])
        for name in ("ensemble", "gaussian-process")
    )
    assert together.moved is not None and np.abs(together.moved).min() > 0.0
    np.testing.assert_allclose(together.score - together.moved, alone.score)
    np.testing.assert_array_equal(together.spread, alone.spread)


def test_the_process_is_ready_with_few_and_surer_where_it_measured() -> None:
    prediction = fitted("gaussian-process", 8).predict(workload(), TARGET, SCHEDULES)
    assert prediction.spread[:8].max() < prediction.spread[8:].mean()


def test_the_default_learns_which_schedules_fail() -> None:
    failure = Measurement.failed(Status.LAUNCH_ERROR, "too many resources")
    model = make_model(DEFAULT, 0, find_example)
    model.fit([record(each, failure if each["unroll"] == 8 else None) for each in SCHEDULES[:150]])
    works = model.predict(workload(), TARGET, SCHEDULES[150:]).works
    assert works is not None
    fails = np.array([each["unroll"] == 8 for each in SCHEDULES[150:]])
    assert works[fails].mean() < 0.2 < 0.8 < works[~fails].mean()


def test_the_first_failures_teach_already() -> None:
    failure = Measurement.failed(Status.COMPILE_ERROR, "no")
    first = [each for each in SCHEDULES if each["vectors"]][:8]
    failed = [each for each in SCHEDULES if not each["vectors"]][:6]
    model = make_model(DEFAULT, 0, find_example)
    model.fit([*map(record, first), *(record(each, failure) for each in failed)])
    works = model.predict(workload(), TARGET, SCHEDULES[100:]).works
    assert works is not None
    vectors = np.array([bool(each["vectors"]) for each in SCHEDULES[100:]])
    assert works[vectors].mean() > works[~vectors].mean()


def test_where_nothing_failed_nothing_is_said_of_failing() -> None:
    assert fitted(DEFAULT, 60).predict(workload(), TARGET, SCHEDULES).works is None


def test_a_noisy_time_weighs_less() -> None:
    """The same doubtful time of one schedule moves the process less if its runs scatter."""
    known = [record(each) for each in SCHEDULES[:60]]
    doubtful = SCHEDULES[60]
    true_s = EXAMPLE.time_s(doubtful)
    scores = []
    for runs in ((0.5, 0.5, 0.5, 0.5), (0.2, 0.4, 0.6, 2.0)):
        model = make_model("gaussian-process", 0, find_example)
        times_s = tuple(true_s * share for share in runs)
        model.fit([*known, record(doubtful, Measurement.ok(times_s))])
        scores.append(float(model.predict(workload(), TARGET, [doubtful]).score[0]))
    assert abs(scores[1] + np.log(true_s)) < abs(scores[0] + np.log(true_s))


def test_the_further_beyond_the_values_measured_the_less_certain() -> None:
    """Rows of 1, 2 and 4 were measured, a quarter faster with every doubling."""

    def of(rows: int) -> list[Schedule]:
        rest = {"order": "row", "unroll": 1, "vectors": False}
        return [
            Schedule.of(EXAMPLE.name, EXAMPLE.version, {"rows": rows, "columns": columns, **rest})
            for columns in (1, 2, 4, 8)
        ]

    model = make_model("gaussian-process", 0, find_example)
    model.fit(
        [
            record(each, Measurement.ok((0.75 ** np.log2(rows),)))
            for rows in (1, 2, 4)
            for each in of(rows)
        ]
    )
    beyond = [model.predict(workload(), TARGET, of(rows)) for rows in (4, 8, 16, 32, 64, 128, 256)]
    assert beyond[1].score.mean() > beyond[0].score.mean()
    steps = np.diff([each.spread.mean() for each in beyond])
    assert steps.min() > 0.5 * steps[0] > 0.0, "it levels off, as without trend"
