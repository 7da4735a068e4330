"""Whether predictions deserve to be followed: judged on what was predicted before it was measured.

A trial is compared with those measured before it and beside it: does the prediction put it on the
right side of them? Pairs weigh by how far apart they measured, so that a model that led to a crowd
of equally fast schedules is not blamed for their order. The share of the weight that was in order
(0.5 is guessing) is taken over a window of recent trials. Pairs that measured alike, or were
predicted alike, say nothing and are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from cost_model.evaluate import SAME_TIME
from cost_model.groups import log_speeds, times_s
from records.measurement import Measurement

WINDOW = 64
"""By so many predictions, the last, a model is judged."""

BETTER_THAN_GUESSING = 0.6
"""Share below which the model counts as guessing.

In 96 guided searches of 24 recorded spaces it stayed above 0.86 in 95 % of the judgements; with the
predictions shuffled it was below 0.6 in 95 %.
"""


class Trust:
    """Starts trusting, looks at the last `window` predictions, judges from `enough` on."""

    def __init__(self, window: int = WINDOW, enough: int = 24) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=window)  # weight in order, weight
        self._enough = enough

    def update(
        self,
        predicted: Sequence[float],
        measured: Sequence[Measurement],
        known_scores: Sequence[float] = (),
        known: Sequence[Measurement] = (),
    ) -> None:
        """Scores as predicted before measuring (higher is faster), and what came of each.

        `known_scores`: what the same fit makes of some of the trials measured before, `known`.
        """
        scores = np.array([*known_scores, *predicted], dtype=np.float64)
        merits = log_speeds(times_s([*known, *measured]))
        for place in range(len(known), len(scores)):
            score_gaps = scores[place] - scores[:place]
            gaps = merits[place] - merits[:place]
            weights = np.where(score_gaps == 0.0, 0.0, np.abs(gaps))
            weights[weights <= np.log1p(SAME_TIME)] = 0.0
            right = weights[(gaps > 0.0) == (score_gaps > 0.0)].sum()
            self._recent.append((float(right), float(weights.sum())))

    @property
    def accuracy(self) -> float:
        """Share of recent pairs in the right order, by weight; NaN without a pair to judge by."""
        right, weight = np.sum(self._recent, axis=0) if self._recent else (0.0, 0.0)
        return float(right / weight) if weight > 0.0 else float("nan")

    @property
    def trusted(self) -> bool:
        if len(self._recent) < self._enough:
            return True
        return not self.accuracy < BETTER_THAN_GUESSING

    @property
    def reason(self) -> str:
        """One sentence for people."""
        seen = len(self._recent)
        if seen < self._enough:
            return (
                f"the cost model is followed; {seen} of {self._enough} predictions to judge it by"
            )
        share = f"{self.accuracy:.0%} of what its last {seen} predictions put in order was right"
        if self.trusted:
            return f"the cost model is followed: {share}"
        return f"the cost model is ignored, being no better than guessing: only {share}"
