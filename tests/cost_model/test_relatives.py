"""What relatives make a model expect, and how that is corrected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from autotune.testing.cost_model import EXAMPLE, TARGET, find_example, workload
from cost_model import EXPECTING, make_model, refits
from cost_model.evaluate import pairwise_accuracy
from cost_model.gaussian_process import Hyperparameters, Observations, most_probable
from cost_model.relatives import Belief, Relatives
from records import Measurement, Schedule, Status, Target, TuningRecord, Workload

SCHEDULES = EXAMPLE.space.sample(500, np.random.default_rng(2))
UNSEEN = tuple(SCHEDULES[300:])
UNSEEN_S = np.array([EXAMPLE.time_s(each) for each in UNSEEN])

OTHERS = [Target.of("sim", name, "example", {"units": 8}) for name in ("first", "second")]


def alike(schedule: Schedule) -> float:
    """Half the speed, and vectors do not matter."""
    return 2.0 * EXAMPLE.time_s(schedule) / (0.7 if schedule["vectors"] else 1.0)


def inverted(schedule: Schedule) -> float:
    return 1.0 / EXAMPLE.time_s(schedule)


def measured(
    target: Target, time_s: Callable[[Schedule], float], count: int = 120, n: int = 512
) -> list[TuningRecord]:
    return [
        TuningRecord(workload(n), target, each, Measurement.ok((time_s(each),)), "")
        for each in SCHEDULES[:count]
    ]


def expecting(earlier: list[TuningRecord], asked: Workload | None = None) -> Relatives:
    return Relatives(earlier, asked or workload(), TARGET, find_template=find_example)


def own(count: int) -> list[TuningRecord]:
    return measured(TARGET, EXAMPLE.time_s, 300)[300 - count :]


def accuracy(name: str, expectation: Relatives | None, records: list[TuningRecord]) -> float:
    model = make_model(name, 0, find_example, expectation)
    model.fit(records)
    score = model.predict(workload(), TARGET, UNSEEN).score
    quick = UNSEEN_S < 4.0 * UNSEEN_S.min()
    return pairwise_accuracy(score[quick], UNSEEN_S[quick])


def test_relatives_tell_the_order_before_anything_is_measured() -> None:
    expectation = expecting(measured(OTHERS[0], alike))
    assert expectation.known
    assert pairwise_accuracy(expectation.mean(UNSEEN), UNSEEN_S) > 0.75
    assert expectation.mean(UNSEEN).max() < 0.3
    assert expectation.doubts(UNSEEN).shape[0] == len(UNSEEN)


@pytest.mark.parametrize("name", sorted(EXPECTING))
def test_a_model_that_expects_is_ready_at_once_and_better_with_few_trials(name: str) -> None:
    expectation = expecting(measured(OTHERS[0], alike))
    assert make_model(name, 0, find_example, expectation).ready
    assert accuracy(name, expectation, []) > 0.75
    assert accuracy(name, expectation, own(12)) > accuracy(name, None, own(12)) + 0.03


@pytest.mark.parametrize("name", sorted(EXPECTING))
def test_its_own_trials_correct_what_misleads(name: str) -> None:
    expectation = expecting(measured(OTHERS[0], inverted))
    assert accuracy(name, expectation, []) < 0.4
    assert accuracy(name, expectation, own(40)) > accuracy(name, None, own(40)) - 0.05


def test_the_relative_that_is_right_prevails() -> None:
    expectation = expecting([*measured(OTHERS[0], inverted), *measured(OTHERS[1], alike)])
    model = make_model("gaussian-process", 0, find_example, expectation)
    before = pairwise_accuracy(model.predict(workload(), TARGET, UNSEEN).score, UNSEEN_S)
    model.fit(own(10))
    after = pairwise_accuracy(model.predict(workload(), TARGET, UNSEEN).score, UNSEEN_S)
    assert after > max(0.75, before)


def test_an_expecting_model_still_says_how_unsure_it_is() -> None:
    expectation = expecting(measured(OTHERS[0], alike))
    model = make_model("ensemble", 0, find_example, expectation)
    model.fit(own(20))
    known = tuple(record.schedule for record in own(20))
    prediction = model.predict(workload(), TARGET, (*known, *UNSEEN))
    assert prediction.spread[:20].mean() < 0.7 * prediction.spread[20:].mean()
    assert prediction.covariance is not None
    assert prediction.covariance(3)[3] == pytest.approx(prediction.spread[3] ** 2)
    assert prediction.best == pytest.approx(
        -np.log(min(record.measurement.time_s or np.inf for record in own(20)))
    )


@pytest.mark.parametrize("near_is_right", [True, False])
def test_the_nearest_count_most(near_is_right: bool) -> None:
    """Sizes that differ 64 times say less than the same size on another device."""
    near, far = (alike, inverted) if near_is_right else (inverted, alike)
    expectation = expecting([*measured(TARGET, far, n=32768), *measured(OTHERS[0], near)])
    assert [group.workload["n"] for group in expectation.groups] == [512, 32768]
    assert (pairwise_accuracy(expectation.mean(UNSEEN), UNSEEN_S) > 0.5) == near_is_right


def test_too_few_records_tell_nothing() -> None:
    failure = Measurement.failed(Status.CRASHED, "no")
    failed = [replace(each, measurement=failure) for each in measured(OTHERS[1], alike)]
    assert not expecting([*measured(OTHERS[0], alike, 5), *failed]).known
    assert not expecting([]).known


@pytest.mark.parametrize("rounding", [0.0, 1e-15, 1e-9, 1e-6])
def test_times_that_are_all_alike_can_be_learnt_from(rounding: float) -> None:
    def flat(schedule: Schedule) -> float:
        return 1.0 + rounding * float(schedule["unroll"] % 3)

    model = make_model("gaussian-process", 0, find_example, expecting(measured(OTHERS[0], flat)))
    model.fit(measured(TARGET, flat, 40))
    prediction = model.predict(workload(), TARGET, UNSEEN)
    assert np.abs(prediction.score).max() < 0.1
    assert np.isfinite(prediction.spread).all()


def test_same_records_same_expectation() -> None:
    records = [*measured(OTHERS[0], alike), *measured(OTHERS[1], inverted, n=1024)]
    first, second = expecting(records), expecting(records)
    assert first.mean(UNSEEN).tolist() == second.mean(UNSEEN).tolist()
    asked_in_parts = np.concatenate([second.mean(UNSEEN[:50]), second.mean(list(UNSEEN[50:]))])
    assert np.allclose(first.mean(UNSEEN), asked_in_parts)


def test_what_failed_for_others_is_expected_to_fail_until_own_trials_say_more() -> None:
    failure = Measurement.failed(Status.LAUNCH_ERROR, "too many resources")
    relatives = [
        replace(each, measurement=failure) if each.schedule["unroll"] == 8 else each
        for each in measured(OTHERS[0], alike)
    ]
    fails = np.array([each["unroll"] == 8 for each in UNSEEN])
    chances = []
    for count in (0, 10, 200):
        model = make_model("ensemble", 0, find_example, expecting(relatives))
        model.fit(own(count))
        works = model.predict(workload(), TARGET, UNSEEN).works
        assert works is not None
        assert works[~fails].mean() > 0.9
        chances.append(works[fails].mean())
    assert chances[0] < 0.65 and chances[0] < chances[1] < 0.9 < chances[2]


def test_relatives_are_fitted_once_and_not_all_of_them_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[int] = []

    def counted(observations: Observations, iterations: int) -> Hyperparameters:
        fits.append(len(observations.targets))
        return most_probable(observations, iterations)

    monkeypatch.setattr(refits, "most_probable", counted)
    belief = Belief(most=3)
    devices = [Target.of("sim", f"device {place}", "example", {"units": 8}) for place in range(6)]
    records = [each for device in devices for each in measured(device, alike, 20)]
    expectation = Relatives(records, workload(), TARGET, find_template=find_example, belief=belief)
    model = make_model("ensemble", 0, find_example, expectation)
    assert fits == [20] * 3
    for count in (5, 10, 15):
        model.fit(own(count))
        model.predict(workload(), TARGET, UNSEEN)
    assert fits[3:] == [5, 10, 15]
