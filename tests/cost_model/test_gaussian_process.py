"""The Gaussian process against what its mathematics promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from cost_model.gaussian_process import (
    GaussianProcess,
    Hyperparameters,
    LogPosterior,
    Observations,
    most_probable,
    prior_mode,
)

GROUPS = np.array([0, 1, 1, 2])


def examples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth function of the first and last columns; the middle ones mean nothing."""
    inputs = np.random.default_rng(seed).random((count, 4))
    targets = np.sin(4.0 * inputs[:, 0]) + 0.5 * inputs[:, 3]
    return inputs, (targets - targets.mean()) / targets.std()


def process(count: int, found: Hyperparameters, noise: float = 0.0) -> GaussianProcess:
    inputs, targets = examples(count)
    return GaussianProcess(Observations(inputs, targets, np.full(count, noise), GROUPS), found)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_that_of_the_posterior(seed: int) -> None:
    inputs, targets = examples(25)
    rng = np.random.default_rng(seed)
    posterior = LogPosterior(Observations(inputs, targets, rng.random(25) * 0.1, GROUPS))
    at = rng.normal(0.0, 0.5, 5) - [0, 0, 0, 0, 2]
    error = check_grad(lambda x: posterior(x)[0], lambda x: posterior(x)[1], at)
    assert error < 1e-3 * max(1.0, float(np.linalg.norm(posterior(at)[1])))


def test_fitted_hyperparameters_are_likelier_and_drop_what_means_nothing() -> None:
    inputs, targets = examples(60)
    observations = Observations(inputs, targets, np.zeros(60), GROUPS)
    found = most_probable(observations, 50)
    posterior = LogPosterior(observations)

    def unlikelihood(at: Hyperparameters) -> float:
        return posterior(np.array([*at.scales, at.amplitude, at.noise]))[0]

    assert unlikelihood(found) < unlikelihood(prior_mode(3))
    assert found.scales[1] > max(found.scales[0], found.scales[2])


def test_it_predicts_what_it_has_not_seen() -> None:
    inputs, targets = examples(80)
    known = Observations(inputs[:60], targets[:60], np.zeros(60), GROUPS)
    fitted = GaussianProcess(known, most_probable(known, 50))
    posterior = fitted.at(inputs[60:])
    off = np.abs(posterior.mean - targets[60:])
    assert off.mean() < 0.1
    assert (off < 4.0 * posterior.deviation + 0.02).all()


def test_it_passes_through_examples_without_noise_and_not_with_it() -> None:
    inputs, targets = examples(20)
    sure = Hyperparameters(np.zeros(3), 0.0, -6.0)
    assert process(20, sure).at(inputs).mean == pytest.approx(targets, abs=0.01)
    assert np.abs(process(20, sure, noise=1.0).at(inputs).mean - targets).max() > 0.1


def test_far_from_all_examples_nothing_is_known() -> None:
    posterior = process(20, Hyperparameters(np.zeros(3), 0.3, -3.0)).at(np.full((1, 4), 100.0))
    assert posterior.mean[0] == pytest.approx(0.0, abs=1e-6)
    assert posterior.deviation[0] == pytest.approx(np.exp(0.3))


def test_the_covariance_is_what_another_example_would_take_away() -> None:
    """Measuring one input reduces everyone's variance by covariance² / its variance."""
    inputs, targets = examples(21)
    known = Hyperparameters(np.zeros(3), 0.0, -6.0)
    before = process(20, known)
    asked = np.vstack([inputs[20:], examples(30, seed=5)[0]])
    posterior = before.at(asked)
    covariance = posterior.covariance(0)
    assert covariance[0] == pytest.approx(posterior.deviation[0] ** 2)
    expected = posterior.deviation**2 - covariance**2 / (covariance[0] + np.exp(-12.0) + 1e-8)
    after = GaussianProcess(Observations(inputs, targets, np.zeros(21), GROUPS), known).at(asked)
    # the 21 targets are standardised otherwise than the 20: variances do not depend on them
    assert after.deviation**2 == pytest.approx(expected, abs=1e-6)
