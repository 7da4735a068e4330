"""How right a model was about trials that it predicted before they were measured.

The last `WINDOW` of them are looked at. Whether it puts pairs in order is for `trust` to judge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cost_model.base import Floats, Prediction
from cost_model.groups import CLIP, times_s
from records.measurement import Measurement

WINDOW = 64

TOP = 10
"""Recall is asked for so many fastest."""


@dataclass(frozen=True)
class Recall:
    """`met`: trials that came among the `TOP` fastest of all measured until then; `foreseen`: those
    of them that were expected there."""

    met: int
    foreseen: int


class TrackRecord:
    """Recall, and calibration of intervals, of the last `window` predictions."""

    def __init__(self, window: int = WINDOW) -> None:
        self._ranks: deque[tuple[bool, bool]] = deque(maxlen=window)  # met, foreseen
        self._deviations: deque[float] = deque(maxlen=window)

    def update(
        self,
        predicted: Prediction,
        measured: Sequence[Measurement],
        fastest_scores: Floats,
        fastest: Sequence[Measurement],
    ) -> None:
        """A batch as it was predicted, what came of it, and the `TOP` fastest measured before.

        `fastest_scores`: what the same fit makes of `fastest`. With fewer than `TOP` of them no
        recall is counted.
        """
        self._count_ranks(predicted.score, measured, fastest_scores, fastest)
        if predicted.covariance is not None and predicted.best is not None:
            self._count_deviations(predicted, measured, predicted.best)

    def _count_ranks(
        self,
        scores: Floats,
        measured: Sequence[Measurement],
        fastest_scores: Floats,
        fastest: Sequence[Measurement],
    ) -> None:
        if len(fastest) < TOP:
            return
        times = times_s([*measured, *fastest])
        met = _among_top(-times) & np.isfinite(times)
        expected = _among_top(np.concatenate([scores, fastest_scores]))
        for place in range(len(measured)):
            self._ranks.append((bool(met[place]), bool(met[place] & expected[place])))

    def _count_deviations(
        self, predicted: Prediction, measured: Sequence[Measurement], best: float
    ) -> None:
        """From the expected logarithm of the speed, in spreads; clipped as the model saw it."""
        times = times_s(measured)
        worked = np.isfinite(times)
        speeds = np.maximum(-np.log(times[worked]), best - CLIP)
        off = np.abs(speeds - predicted.score[worked])
        self._deviations.extend((off / np.maximum(predicted.spread[worked], 1e-12)).tolist())

    @property
    def recall(self) -> Recall:
        return Recall(
            sum(met for met, _ in self._ranks), sum(foreseen for _, foreseen in self._ranks)
        )

    def coverage(self, share: float) -> float | None:
        """How many of the times fell into the interval that should have held `share` of them.

        `None` where the model has no notion of intervals, or nothing worked yet.
        """
        if not self._deviations:
            return None
        return float(np.mean(np.array(self._deviations) <= _half_width(share)))

    def widening(self, share: float) -> float | None:
        """By which factor that interval would have to be wider to have held as many."""
        if not self._deviations:
            return None
        return float(np.quantile(np.array(self._deviations), share) / _half_width(share))


def _half_width(share: float) -> float:
    """Of the interval that holds that share of a normal distribution, in deviations."""
    return NormalDist().inv_cdf(0.5 + share / 2.0)


def _among_top(merits: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The `TOP` highest; among equals the last, which are those known before."""
    found = np.zeros(len(merits), dtype=np.bool_)
    found[np.argsort(merits, kind="stable")[-TOP:]] = True
    return found
