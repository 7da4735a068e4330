"""What is still to be gained: when to stop.

Possible truths are drawn from what a model believes of the schedules that it finds most promising;
what the best few of them would gain over the best measured, and whether anything at all would, is
averaged over the draws. Only as right as the model's spreads are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cost_model.acquisition import CONFIDENCE, joint_draws
from cost_model.base import Prediction

PROMISING = 256
"""Schedules drawn jointly: those of the highest upper confidence bounds."""

DRAWS = 400

FASTER = 0.02
"""By this share a schedule must be faster to count as faster."""


@dataclass(frozen=True)
class Outlook:
    """`gain`: by which share the best is expected to become faster in `trials` more;
    `left`: the chance that a schedule not measured is faster by more than `FASTER`."""

    trials: int
    gain: float
    left: float

    def __str__(self) -> str:
        return (
            f"another {self.trials} trials are expected to gain {self.gain:.1%}; the chance that "
            f"a schedule more than {FASTER:.0%} faster is left is about {self.left:.0%}"
        )


def promising(prediction: Prediction, free: npt.NDArray[np.bool_]) -> list[int]:
    """Places of those free that might well be the fastest, best first."""
    bound = prediction.score + CONFIDENCE * prediction.spread
    candidates = np.flatnonzero(free)
    ranked: list[int] = candidates[np.argsort(-bound[candidates], kind="stable")].tolist()
    return ranked[:PROMISING]


def outlook(prediction: Prediction, trials: int, rng: np.random.Generator) -> Outlook | None:
    """Of the prediction for the `promising`, in their order; `None` where it tells too little.

    Scores must be natural logarithms of speed, as those of all models with covariances are.
    """
    if prediction.best is None or prediction.covariance is None or not len(prediction.score):
        return None
    draws = joint_draws(prediction, np.arange(len(prediction.score)), DRAWS, rng)
    if prediction.works is not None:
        draws[rng.random(draws.shape) > prediction.works] = -np.inf
    gains = np.maximum(draws[:, :trials].max(axis=1) - prediction.best, 0.0)
    left = draws.max(axis=1) > prediction.best + math.log1p(FASTER)
    return Outlook(trials, float(np.expm1(gains).mean()), float(left.mean()))
