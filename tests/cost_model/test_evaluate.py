"""Metrics and trust, against counting by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_model.evaluate import best_of_top, evaluate, pairwise_accuracy, random_best_of_top
from cost_model.trust import Trust
from records import Measurement, Status

TIMES_S = np.array([4.0, 2.0, 1.0, math.inf, 8.0])


def test_best_of_top() -> None:
    scores = np.array([0.9, 0.8, 0.1, 1.0, 0.2])
    assert best_of_top(scores, TIMES_S, 1) == 0.0  # the favourite failed
    assert best_of_top(scores, TIMES_S, 2) == 0.25
    assert best_of_top(scores, TIMES_S, 3) == 0.5
    assert best_of_top(scores, TIMES_S, 99) == 1.0


def test_random_best_of_top_is_the_mean_over_draws() -> None:
    generator = np.random.default_rng(0)
    for top in (1, 2, 4):
        drawn = [
            TIMES_S.min() / generator.choice(TIMES_S, top, replace=False).min() for _ in range(4000)
        ]
        assert random_best_of_top(TIMES_S, top) == pytest.approx(np.mean(drawn), abs=0.03)


def test_pairwise_accuracy_leaves_out_ties() -> None:
    right = np.array([2.0, 3.0, 4.0, 0.0, 1.0])
    assert pairwise_accuracy(right, TIMES_S) == 1.0
    assert pairwise_accuracy(-right, TIMES_S) == 0.0
    nearly_equal = np.array([1.0, 1.001])
    assert math.isnan(pairwise_accuracy(np.array([1.0, 2.0]), nearly_equal))
    assert math.isnan(pairwise_accuracy(np.zeros(5), TIMES_S))


@given(st.lists(st.floats(1e-6, 1e3), min_size=12, max_size=40))
def test_perfect_scores_are_perfect(times: list[float]) -> None:
    times_s = np.array(times)
    result = evaluate(1.0 / times_s, times_s)
    assert result.best_of_top == 1.0
    assert result.ndcg == pytest.approx(1.0)
    assert 0.0 < result.random_best_of_top <= 1.0 + 1e-12


def ok(time_s: float) -> Measurement:
    return Measurement.ok((time_s,))


FAILED = Measurement.failed(Status.COMPILE_ERROR, "no")


def test_trust_is_given_until_there_is_enough_to_judge_by() -> None:
    trust = Trust(enough=10)
    trust.update([float(time) for time in range(1, 10)], [ok(time) for time in range(1, 10)])
    assert trust.trusted
    assert "9 of 10" in trust.reason
    trust.update([10.0], [ok(10.0)])  # all in the wrong order
    assert not trust.trusted
    assert "no better than guessing" in trust.reason and "0%" in trust.reason


def test_trust_comes_back_when_predictions_are_right_again() -> None:
    trust = Trust(window=20, enough=10)
    trust.update(list(range(20)), [ok(1.0 + time) for time in range(20)])
    assert not trust.trusted
    trust.update(list(range(20)), [ok(1.0 / (1.0 + time)) for time in range(20)])
    assert trust.trusted
    assert "100%" in trust.reason


def test_failures_are_slowest_to_trust() -> None:
    trust = Trust(enough=4)
    trust.update([0.0, 0.0, 1.0, 1.0], [FAILED, FAILED, ok(1.0), ok(5.0)])
    assert trust.accuracy == 1.0


def test_guessing_is_mostly_not_trusted_and_knowing_always_is() -> None:
    generator = np.random.default_rng(0)
    guessing: list[bool] = []
    knowing: list[bool] = []
    for _ in range(200):
        times_s = generator.uniform(1, 3, 64)
        for noise, verdicts in ((1e9, guessing), (0.5, knowing)):
            trust = Trust()
            scores = -times_s + generator.normal(0, noise, 64)
            trust.update(scores.tolist(), [ok(time_s) for time_s in times_s])
            verdicts.append(trust.trusted)
    assert np.mean(guessing) < 0.2
    assert np.mean(knowing) == 1.0


def test_results_without_order_leave_trust_as_it_is() -> None:
    trust = Trust(enough=4)
    trust.update([1.0, 2.0, 3.0, 4.0], [ok(1.0)] * 4)
    assert trust.trusted
