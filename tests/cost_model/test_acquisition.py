"""What is worth measuring next."""

from __future__ import annotations

import numpy as np
import pytest

from cost_model.acquisition import (
    ACQUISITIONS,
    THOMPSON,
    believing,
    choose,
    expected_improvement,
)
from cost_model.base import Prediction
from records.errors import InvalidInputError

NAMES = [*ACQUISITIONS, THOMPSON]
ALL = np.ones(40, dtype=np.bool_)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def line(best: float | None = 1.0, works: np.ndarray | None = None) -> Prediction:
    """40 schedules on a line, likely alike where near; the middle is predicted best."""
    places = np.arange(40.0)
    score = 1.0 - ((places - 20.0) / 10.0) ** 2
    covariance = 0.25 * np.exp(-0.5 * ((places[:, None] - places) / 2.0) ** 2)
    return Prediction(score, np.full(40, 0.5), best, works, lambda place: covariance[place])


@pytest.mark.parametrize("score,spread", [(0.3, 0.5), (-1.0, 2.0), (0.0, 1.0), (2.0, 0.1)])
def test_expected_improvement_is_the_mean_of_what_is_gained(score: float, spread: float) -> None:
    drawn = score + spread * np.random.default_rng(1).standard_normal(400_000)
    one = Prediction(np.array([score]), np.array([spread]), 0.5)
    assert expected_improvement(one)[0] == pytest.approx(
        np.maximum(drawn - 0.5, 0.0).mean(), rel=0.02, abs=1e-3
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 7, 40, 100])
def test_chosen_are_different_and_free(name: str, n: int) -> None:
    free = ALL.copy()
    free[15:25] = False
    chosen = choose(line(), free, n, rng(), name)
    assert len(chosen) == len(set(chosen)) == min(n, 30)
    assert free[chosen].all()
    assert free.sum() == 30  # the caller's own is left alone


@pytest.mark.parametrize("name", NAMES)
def test_the_uncertain_are_preferred_among_equals(name: str) -> None:
    unsure = np.zeros(40)
    unsure[7] = 1.0
    assert choose(Prediction(np.zeros(40), unsure, 0.5), ALL, 1, rng(), name) == [7]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_spreads_out(name: str) -> None:
    chosen = choose(line(), ALL, 5, rng(), name)
    assert max(chosen) - min(chosen) > 5
    by_score = np.argsort(-line().score)[:5]
    assert by_score.max() - by_score.min() == 4


@pytest.mark.parametrize("name", NAMES)
def test_what_is_likely_to_fail_is_left(name: str) -> None:
    works = np.ones(40)
    works[15:26] = 0.0
    chosen = choose(line(works=works), ALL, 3, rng(), name)
    assert not {*range(15, 26)} & {*chosen}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_without_spread_or_best_has_its_highest_scores_chosen(name: str) -> None:
    score = np.random.default_rng(3).random(40)
    chosen = choose(Prediction(score, np.zeros(40)), ALL, 4, rng(), name)
    assert chosen == np.argsort(-score)[:4].tolist()


def test_believing_conditions_on_a_schedule_coming_out_as_predicted() -> None:
    before = line(best=0.0)
    after = believing(before, 20)
    assert after.best == before.score[20]
    assert np.array_equal(after.score, before.score)
    assert after.spread[20] == pytest.approx(0.0, abs=1e-6)
    assert after.spread[21] < 0.5 * before.spread[21]
    assert after.spread[0] == pytest.approx(before.spread[0])
    twice = believing(after, 21)
    both = np.array([20, 21])
    assert before.covariance is not None
    covariance = np.stack([before.covariance(place) for place in range(40)])
    explained = covariance[:, both] @ np.linalg.solve(covariance[np.ix_(both, both)], np.eye(2))
    expected = 0.25 - np.einsum("ij,ij->i", explained, covariance[:, both])
    assert twice.spread**2 == pytest.approx(expected, abs=1e-6)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no acquisition 'hope'; there are: expected_"):
        choose(line(), ALL, 1, rng(), "hope")
