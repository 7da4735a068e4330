"""Whether predictions deserve to be followed: judged on what was predicted before it was measured.

The share of pairs whose order was predicted rightly (0.5 is guessing) is counted over a window of
recent out-of-sample predictions. Pairs that measured alike, or were predicted alike, say nothing
and are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cost_model.evaluate import pairwise_accuracy
from records.measurement import Measurement

BETTER_THAN_GUESSING = 0.58
"""Share of rightly ordered pairs below which the model counts as guessing.

In 12 guided searches of recorded spaces the model stayed above 0.63 in 95 % of its judgements; with
its predictions shuffled it was below 0.58 in 75 %.
"""


class Trust:
    """Starts trusting, looks at the last `window` predictions, judges from `enough` on."""

    def __init__(self, window: int = 64, enough: int = 24) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=window)
        self._enough = enough

    def update(self, predicted: Sequence[float], measured: Sequence[Measurement]) -> None:
        """Scores as predicted before measuring (higher is faster), and what came of each."""
        for score, measurement in zip(predicted, measured, strict=True):
            time_s = measurement.time_s
            self._recent.append((score, np.inf if time_s is None else time_s))

    @property
    def accuracy(self) -> float:
        """Share of recent pairs in the right order; NaN where there is no pair to judge by."""
        scores, times_s = self._arrays()
        return pairwise_accuracy(scores, times_s)

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
        share = f"{self.accuracy:.0%} of pairs among its last {seen} predictions were in order"
        if self.trusted:
            return f"the cost model is followed: {share}"
        return f"the cost model is ignored, being no better than guessing: only {share}"

    def _arrays(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        pairs = np.array(self._recent, dtype=np.float64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
