"""Gaussian-process regression: a Matérn 5/2 kernel with a length scale for each dimension.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006): algorithm 2.1 for the
posterior, section 5.4 for the gradient of the marginal likelihood. Hyperparameters are the most
probable under log-normal priors (MAP): with a dozen examples, and as many length scales, the
likelihood alone overfits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from cost_model.base import Floats

Groups = npt.NDArray[np.int64]

JITTER = 1e-8
"""Added to the noise's variance, so that equal inputs keep the kernel's matrix invertible."""

_ROOT5 = np.sqrt(5.0)

SCALE = (0.0, 1.0)
AMPLITUDE = (0.0, 0.7)
NOISE = (np.log(0.05), 1.0)
"""Priors: mean and deviation of the logarithms of length scales (in units of a dimension's range),
of the function's deviation and of the noise's (both in units of the targets' deviation)."""

_BOUNDS = ((-4.0, 4.0), (-2.0, 2.0), (-6.0, 0.0))


@dataclass(frozen=True)
class Observations:
    """What a process learns from.

    `inputs`: (examples, columns); `targets`: (examples,), about standardised; `own_noise`: known
    variance of each target, in its unit squared; `groups`: the dimension that each column belongs
    to. `linear`, (examples, functions): values of functions of which an unknown combination is part
    of what is learnt, their coefficients expected to be 0 with a deviation of 1 (section 2.7).
    """

    inputs: Floats
    targets: Floats
    own_noise: Floats
    groups: Groups
    linear: Floats | None = None

    def take(self, places: npt.NDArray[np.int64]) -> Observations:
        return Observations(
            self.inputs[places],
            self.targets[places],
            self.own_noise[places],
            self.groups,
            None if self.linear is None else self.linear[places],
        )


@dataclass(frozen=True)
class Hyperparameters:
    """Logarithms. `scales`: one for each group of columns."""

    scales: Floats
    amplitude: float
    noise: float

    @property
    def variance(self) -> float:
        return float(np.exp(2.0 * self.amplitude))


def prior_mode(dimensions: int) -> Hyperparameters:
    return Hyperparameters(np.full(dimensions, SCALE[0]), AMPLITUDE[0], NOISE[0])


def most_probable(observations: Observations, iterations: int) -> Hyperparameters:
    """MAP hyperparameters by L-BFGS from the priors' mode, in at most `iterations` steps."""
    posterior = LogPosterior(observations)
    dimensions = posterior.dimensions
    start = prior_mode(dimensions)
    found = minimize(
        posterior,
        np.array([*start.scales, start.amplitude, start.noise]),
        jac=True,
        method="L-BFGS-B",
        bounds=[_BOUNDS[0]] * dimensions + [_BOUNDS[1], _BOUNDS[2]],
        options={"maxiter": iterations},
    ).x
    return Hyperparameters(found[:dimensions], float(found[-2]), float(found[-1]))


class LogPosterior:
    """Negative log posterior of hyperparameters, up to a constant, and its gradient."""

    def __init__(self, observations: Observations) -> None:
        linear, groups = observations.linear, observations.groups
        self._linear = None if linear is None else linear @ linear.T
        self.dimensions = int(groups.max(initial=-1)) + 1
        self._targets = observations.targets
        self._own_noise = observations.own_noise
        count = len(self._targets)
        self._squares = np.zeros((self.dimensions, count * count))  # distances by dimension
        for column, group in zip(observations.inputs.T, groups, strict=True):
            self._squares[group] += np.square(column[:, None] - column[None, :]).ravel()
        means = [SCALE[0]] * self.dimensions + [AMPLITUDE[0], NOISE[0]]
        deviations = [SCALE[1]] * self.dimensions + [AMPLITUDE[1], NOISE[1]]
        self._means, self._deviations = np.array(means), np.array(deviations)

    def __call__(self, at: Floats) -> tuple[float, Floats]:
        """`at`: scales, the amplitude and the noise, all as logarithms."""
        count = len(self._targets)
        weights = np.exp(-2.0 * at[: self.dimensions])
        squares = (weights @ self._squares).reshape(count, count)
        roots = _ROOT5 * np.sqrt(squares)
        decay = np.exp(2.0 * at[-2] - roots)
        kernel = (1.0 + roots + 5.0 / 3.0 * squares) * decay
        noise = float(np.exp(2.0 * at[-1]))
        noisy = kernel + np.diag(self._own_noise + noise + JITTER)
        if self._linear is not None:
            noisy += self._linear
        try:
            factor = cholesky(noisy, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(at)
        inverse = dpotri(factor, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        solved = inverse @ self._targets
        outer = 0.5 * (inverse - np.outer(solved, solved))
        off = (at - self._means) / self._deviations
        value = 0.5 * self._targets @ solved + np.log(np.diag(factor)).sum() + 0.5 * off @ off
        by_square = outer * decay * (1.0 + roots) * (-5.0 / 6.0)
        gradient = np.empty_like(at)
        gradient[: self.dimensions] = -2.0 * weights * (self._squares @ by_square.ravel())
        gradient[-2] = 2.0 * np.vdot(outer, kernel)
        gradient[-1] = 2.0 * noise * np.trace(outer)
        return float(value), gradient + off / self._deviations


@dataclass(frozen=True)
class Posterior:
    """Means and deviations at some inputs; covariances on request."""

    mean: Floats
    deviation: Floats
    scaled: Floats  # (inputs, columns), in length scales
    reduction: Floats  # (examples, inputs): what the examples explain
    variance: float
    linear: Floats | None = None

    def covariance(self, place: int) -> Floats:
        """With the function's value at the input `place`."""
        prior = _kernel(self.scaled, self.scaled[place : place + 1], self.variance)[:, 0]
        if self.linear is not None:
            prior += self.linear @ self.linear[place]
        covariance: Floats = prior - self.reduction[:, place] @ self.reduction
        return covariance


class GaussianProcess:
    """Regression with given hyperparameters."""

    def __init__(self, observations: Observations, hyperparameters: Hyperparameters) -> None:
        self._variance = hyperparameters.variance
        self._per_scale = np.exp(-hyperparameters.scales)[observations.groups]
        self._examples = observations.inputs * self._per_scale
        kernel = _kernel(self._examples, self._examples, self._variance)
        self._linear = observations.linear
        if self._linear is not None:
            kernel += self._linear @ self._linear.T
        noise = observations.own_noise + np.exp(2.0 * hyperparameters.noise) + JITTER
        self._factor = cholesky(kernel + np.diag(noise), lower=True, check_finite=False)
        self._whitened: Floats = solve_triangular(
            self._factor, observations.targets, lower=True, check_finite=False
        )

    @property
    def coefficients(self) -> Floats:
        """Posterior means of those of the linear part."""
        if self._linear is None:
            return np.zeros(0)
        solved = solve_triangular(self._factor, self._whitened, lower=True, trans=1)
        coefficients: Floats = self._linear.T @ solved
        return coefficients

    def at(self, inputs: Floats, linear: Floats | None = None) -> Posterior:
        """Of the function without noise, at (inputs, columns); `linear`: (inputs, functions)."""
        scaled = inputs * self._per_scale
        across = _kernel(self._examples, scaled, self._variance)
        before: float | Floats = self._variance
        if self._linear is not None and linear is not None:
            across += self._linear @ linear.T
            before = before + np.square(linear).sum(axis=1)
        reduction = solve_triangular(
            self._factor, across, lower=True, check_finite=False, overwrite_b=True
        )
        left = before - np.einsum("ij,ij->j", reduction, reduction)
        return Posterior(
            self._whitened @ reduction,
            np.sqrt(np.maximum(left, 1e-12)),
            scaled,
            reduction,
            self._variance,
            linear,
        )


def _kernel(rows: Floats, columns: Floats, variance: float) -> Floats:
    """Matérn 5/2 of inputs in units of their length scales, (rows, columns)."""
    squares: Floats = np.square(rows).sum(axis=1)[:, None] + np.square(columns).sum(axis=1)[None, :]
    squares -= 2.0 * (rows @ columns.T)
    np.maximum(squares, 0.0, out=squares)
    roots = np.sqrt(squares)
    roots *= _ROOT5
    squares *= 5.0 / 3.0
    squares += roots
    squares += 1.0
    np.negative(roots, out=roots)
    np.exp(roots, out=roots)
    squares *= roots
    squares *= variance
    return squares
