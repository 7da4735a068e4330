"""How good predictions are, in the terms that matter to a search.

Times are seconds, infinite for a failure; scores are higher for what should be faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SAME_TIME = 0.02
"""Times within this share of each other are ties: no order to predict."""


@dataclass(frozen=True)
class Evaluation:
    """`best_of_top`: best possible time over the best among the `top` best predicted (1 is
    perfect); `random_best_of_top`: the same, expected of `top` picked at random."""

    top: int
    best_of_top: float
    random_best_of_top: float
    pairwise_accuracy: float
    ndcg: float


def evaluate(scores: Floats, times_s: Floats, top: int = 10) -> Evaluation:
    """All metrics of predictions for schedules that the model had not seen."""
    from sklearn.metrics import ndcg_score  # half a second that a tuning session does not need

    return Evaluation(
        top,
        best_of_top(scores, times_s, top),
        random_best_of_top(times_s, top),
        pairwise_accuracy(scores, times_s),
        float(ndcg_score([times_s.min() / _finite(times_s)], [scores], k=top)),
    )


def best_of_top(scores: Floats, times_s: Floats, top: int) -> float:
    """Optimum over the fastest of the `top` highest scores; 0 when all of them failed."""
    picked = np.argsort(-scores, kind="stable")[:top]
    return float(times_s.min() / times_s[picked].min())


def random_best_of_top(times_s: Floats, top: int) -> float:
    """Expectation of `best_of_top` for scores that are random, computed exactly."""
    merits = np.sort(times_s.min() / times_s)
    count, top = len(merits), min(top, len(merits))
    # P(best of the draw is the i-th worst) = C(i, top-1) / C(count, top), as a running product.
    at_most = np.ones(count + 1)
    for drawn in range(top):
        at_most *= np.clip((np.arange(count + 1) - drawn) / (count - drawn), 0.0, 1.0)
    return float(np.sum(np.diff(at_most) * merits))


def pairwise_accuracy(scores: Floats, times_s: Floats) -> float:
    """Share of pairs in the right order, ties of either kind left out; NaN without a pair."""
    merits = -np.log(_finite(times_s))
    merit_gap = merits[:, None] - merits[None, :]
    score_gap = scores[:, None] - scores[None, :]
    differ = (merit_gap > np.log1p(SAME_TIME)) & (score_gap != 0.0)
    if not differ.any():
        return float("nan")
    return float((score_gap[differ] > 0.0).mean())


def _finite(times_s: Floats) -> Floats:
    """Failures made slower than everything that worked."""
    worked = times_s[np.isfinite(times_s)]
    slowest = 2.0 * worked.max() if len(worked) else 1.0
    return np.where(np.isfinite(times_s), times_s, slowest)
