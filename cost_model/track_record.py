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
from cost_model.trust import WINDOW
from records.measurement import Measurement

TOP = 10
"""Recall is asked for so many fastest."""


@dataclass(frozen=True)
class Recall:
    """`met`: trials that came among the `TOP` fastest of all measured until then; `foreseen`: those
    of them that were expected there; `of`: how many were looked at."""

    met: int
    foreseen: int
    of: int


@dataclass(frozen=True)
class Known:
    """Trials measured before, and what the fit makes of them."""

    scores: Floats
    measured: Sequence[Measurement]


class TrackRecord:
    """Recall, and calibration of intervals, of the last `window` predictions."""

    def __init__(self, window: int = WINDOW) -> None:
        self._ranks: deque[tuple[bool, bool]] = deque(maxlen=window)  # met, foreseen
        self._deviations: deque[float] = deque(maxlen=window)

    def update(
        self,
        predicted: Prediction,
        measured: Sequence[Measurement],
        fastest: Known,
        references: Known,
    ) -> None:
        """A batch as it was predicted, what came of it, and what the same fit makes of trials that
        it knew: the `TOP` fastest, without which no recall is counted, and any others.

        How far it is from those others is how much times scatter around what can be predicted. A
        fit may reproduce them better than it foretells any: by how much its members disagree on
        the batch is another measure of that, and the larger counts.
        """
        self._count_ranks(predicted.score, measured, fastest)
        if predicted.covariance is not None and predicted.best is not None:
            self._count_deviations(predicted, measured, references, predicted.best)

    def _count_ranks(
        self,
        scores: Floats,
        measured: Sequence[Measurement],
        fastest: Known,
    ) -> None:
        if len(fastest.measured) < TOP:
            return
        times = times_s([*measured, *fastest.measured])
        met = _among_top(-times) & np.isfinite(times)
        expected = _among_top(np.concatenate([scores, fastest.scores]))
        for place in range(len(measured)):
            self._ranks.append((bool(met[place]), bool(met[place] & expected[place])))

    def _count_deviations(
        self,
        predicted: Prediction,
        measured: Sequence[Measurement],
        references: Known,
        best: float,
    ) -> None:
        """From the expected logarithm of the speed, in what is expected of them."""
        worked = np.array([each.is_ok for each in measured], dtype=np.bool_)
        known = _off(references.scores, references.measured, best)
        moved = np.zeros(0) if predicted.moved is None else np.abs(predicted.moved)
        scatter = max(_deviation(known), _deviation(moved), 1e-9)
        expected = np.hypot(predicted.spread[worked], scatter)
        self._deviations.extend((_off(predicted.score, measured, best) / expected).tolist())

    @property
    def recall(self) -> Recall:
        met, foreseen = (sum(each[place] for each in self._ranks) for place in (0, 1))
        return Recall(met, foreseen, len(self._ranks))

    @property
    def timed(self) -> int:
        """Times that intervals were predicted for: what `coverage` and `widening` rest on."""
        return len(self._deviations)

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


def _off(scores: Floats, measured: Sequence[Measurement], best: float) -> Floats:
    """How far those that worked are from their scores, clipped as the model saw them."""
    times = times_s(measured)
    worked = np.isfinite(times)
    off: Floats = np.abs(np.maximum(-np.log(times[worked]), best - CLIP) - scores[worked])
    return off


def _deviation(off: Floats) -> float:
    """Of a normal distribution half of which is as near its mean as half of these."""
    return float(np.median(off)) / _half_width(0.5) if len(off) else 0.0


def _half_width(share: float) -> float:
    """Of the interval that holds that share of a normal distribution, in deviations."""
    return NormalDist().inv_cdf(0.5 + share / 2.0)


def _among_top(merits: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The `TOP` highest; among equals the last, which are those known before."""
    found = np.zeros(len(merits), dtype=np.bool_)
    found[np.argsort(merits, kind="stable")[-TOP:]] = True
    return found
