"""Estimates of what is still to be gained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cost_model.base import Prediction
from cost_model.outlook import Outlook, Promises, believed, promising


def independent(scores: list[float], spread: float) -> Prediction:
    count = len(scores)
    covariance = np.eye(count) * spread**2
    return Prediction(
        np.array(scores), np.full(count, spread), 0.0, None, lambda place: covariance[place]
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_nothing_is_gained_where_all_are_surely_slower() -> None:
    found = believed(independent([-1.0] * 20, 0.05), 10, rng())
    assert found is not None and found.gain < 1e-6 and found.left == 0.0
    assert "another 10 trials are expected to gain 0.0%" in str(found)


def test_one_surely_faster_is_gained_whole() -> None:
    found = believed(independent([np.log(1.5), -1.0], 1e-4), 1, rng())
    assert found is not None
    assert found.gain == pytest.approx(0.5, abs=1e-3) and found.left == 1.0


def test_the_gain_is_the_mean_over_possible_truths() -> None:
    found = believed(independent([0.0], 0.1), 5, rng())
    drawn = np.random.default_rng(1).normal(0.0, 0.1, 100_000)
    assert found is not None
    assert found.gain == pytest.approx(np.expm1(np.maximum(drawn, 0.0)).mean(), rel=0.2)
    assert found.left == pytest.approx((drawn > np.log(1.02)).mean(), abs=0.08)


def test_more_trials_gain_more_and_failures_nothing() -> None:
    prediction = independent([0.0] * 40, 0.1)
    few, many = believed(prediction, 2, rng()), believed(prediction, 30, rng())
    failing = believed(replace(prediction, works=np.zeros(40)), 30, rng())
    assert few is not None and many is not None and failing is not None
    assert many.gain > 2.0 * few.gain
    assert failing.gain == failing.left == 0.0


def test_a_model_that_knows_no_spread_gives_none() -> None:
    assert believed(Prediction(np.zeros(3), np.zeros(3)), 5, rng()) is None


def test_the_promising_are_free_and_led_by_what_they_may_reach() -> None:
    prediction = replace(independent([0.0, 1.0, 2.0, 0.5], 0.0), spread=np.array([2.0, 0, 0, 0]))
    free = np.array([True, True, False, True])
    assert promising(prediction, free) == [0, 1, 3]


def test_experience_corrects_beliefs_in_both_directions() -> None:
    fresh, disappointed = Promises(), Promises()
    disappointed.add(30, 0.5, 0.0)
    boastful, sure = Outlook(50, 0.5, 1.0), Outlook(50, 0.0, 0.0)
    once = fresh.corrected(boastful, 100, 10_000)
    then = disappointed.corrected(boastful, 100, 10_000)
    assert then.gain < once.gain < boastful.gain
    assert then.left < once.left < boastful.left
    assert fresh.corrected(sure, 100, 10_000).left > 0.05
    later = fresh.corrected(boastful, 1000, 10_000)
    assert later.gain < once.gain and later.trials == 50


def test_little_is_left_where_almost_everything_was_tried() -> None:
    found = Promises().corrected(Outlook(50, 0.1, 0.0), 1000, 1)
    assert found.left < 0.001 and found.gain < 0.001
