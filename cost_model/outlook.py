"""What is still to be gained: when to stop.

Possible truths are drawn from what a model believes of the schedules that it finds most promising;
what the best few of them would gain over the best measured, and whether anything at all would, is
averaged over the draws: `believed`. A model errs about itself in both directions. It promises what
never comes, as normal spreads know no limit and speed has one; and it is sure of having found the
best when it has not met what would be better. `Promises.corrected` says what to expect then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cost_model.acquisition import CONFIDENCE, joint_draws
from cost_model.base import Prediction
from cost_model.trust import WINDOW
from search_spaces.threads import single_threaded_products

PROMISING = 256
"""Schedules drawn jointly: those of the highest upper confidence bounds."""

DRAWS = 400

FASTER = 0.02
"""By this share a schedule must be faster to count as faster."""

CREDIT = 0.05
"""Gain, a logarithm of speeds, that counts as promised and kept before anything was."""

MOST_KEPT = 1.5

CAUTION = 0.25
"""The believed chance that something faster is left falls with this power of the share kept."""

LEAST_GAIN = 1e-4
"""So small a gain the draws do not tell from nothing."""

BELIEF = 0.6
DOUBT = 0.08
"""How much that chance counts, and the chance that is left where the model is sure of the best.

Like the other constants here, rounded from what came of 62 searches of 31 recorded spaces
(`benchmarks/outlook.md`).
"""


@dataclass(frozen=True)
class Outlook:
    """`gain`: by which share the best is expected to become faster in `trials` more;
    `left`: the chance that a schedule not measured is faster by more than `FASTER`."""

    trials: int
    gain: float
    left: float

    def __str__(self) -> str:
        return f"another {self.trials} trials are expected to gain {self.gain:.1%}"


def promising(prediction: Prediction, free: npt.NDArray[np.bool_]) -> list[int]:
    """Places of those free that might well be the fastest, best first."""
    bound = prediction.score + CONFIDENCE * prediction.spread
    candidates = np.flatnonzero(free)
    ranked: list[int] = candidates[np.argsort(-bound[candidates], kind="stable")].tolist()
    return ranked[:PROMISING]


class Promises:
    """Gains expected of the last `WINDOW` trials, and what they brought: logarithms of speeds."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, float, float]] = deque()

    def add(self, trials: int, promised: float, brought: float) -> None:
        """Of a batch of so many trials, whose gain was promised before it was measured."""
        self._batches.append((trials, promised, brought))
        while sum(batch[0] for batch in self._batches) - self._batches[0][0] >= WINDOW:
            self._batches.popleft()

    @property
    def kept(self) -> float:
        """By which share promises were kept; 1 before there were any."""
        promised = sum(batch[1] for batch in self._batches)
        brought = sum(batch[2] for batch in self._batches)
        return min(MOST_KEPT, (brought + CREDIT) / (promised + CREDIT))

    def corrected(self, believed: Outlook, tried: int, untried: int) -> Outlook:
        """What to expect where a model believes that; so many schedules were tried, one at least.

        The gain is the geometric mean of what is left of the promise and of 1 / `tried`, which is
        of the order of what searches gain in 50 trials more, whatever they expect.
        """
        unknown = untried / (tried + untried)
        gain = math.sqrt(max(believed.gain, LEAST_GAIN) * self.kept * unknown / tried)
        chance = BELIEF * believed.left * min(1.0, self.kept**CAUTION) + DOUBT * unknown
        return Outlook(believed.trials, gain, chance)


def believed(prediction: Prediction, trials: int, rng: np.random.Generator) -> Outlook | None:
    """Of the prediction for the `promising`, in their order; `None` where it tells too little.

    Scores must be natural logarithms of speed, as those of all models with covariances are.
    """
    if prediction.best is None or prediction.covariance is None or not len(prediction.score):
        return None
    draws = _truths(prediction, range(len(prediction.score)), rng)
    gains = np.maximum(draws[:, :trials].max(axis=1) - prediction.best, 0.0)
    left = draws.max(axis=1) > prediction.best + math.log1p(FASTER)
    return Outlook(trials, float(np.expm1(gains).mean()), float(left.mean()))


def promised_gain(
    prediction: Prediction, places: Sequence[int], rng: np.random.Generator
) -> float | None:
    """By how much, as a logarithm of speeds, the fastest at `places` is expected to beat the best.

    `None` where the prediction tells too little.
    """
    if prediction.best is None or prediction.covariance is None or not places:
        return None
    fastest = _truths(prediction, places, rng).max(axis=1)
    return float(np.maximum(fastest - prediction.best, 0.0).mean())


def _truths(
    prediction: Prediction, places: Sequence[int], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Possible scores at the places, (draws, places): -infinity for what fails."""
    with single_threaded_products():
        draws = joint_draws(prediction, np.array(places, dtype=np.int64), DRAWS, rng)
    if prediction.works is not None:
        draws[rng.random(draws.shape) > prediction.works[np.array(places)]] = -np.inf
    return draws
