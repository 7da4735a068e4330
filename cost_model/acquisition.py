"""What to measure next, given what is predicted and how surely.

Expected improvement: Jones, Schonlau and Welch, "Efficient Global Optimization" (1998). Upper
confidence bound: Srinivas et al. (2010). A batch is chosen one by one, each as if the one before
had come out as predicted (the kriging believer: Ginsbourger, Le Riche and Carraro, 2010): means
stay, spreads shrink around it. Where a model tells how likely a schedule is to fail, merits are
multiplied by its chance to work (Gelbart, Snoek and Adams, 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cost_model.base import Floats, Prediction
from records.errors import InvalidInputError

Acquisition: TypeAlias = Callable[[Prediction], Floats]
"""Merits of measuring each schedule, the largest first; `best` and `works` are known."""

CONFIDENCE = 2.0
"""Spreads that an upper confidence bound adds."""

DRAWN = 256
"""Schedules, the most promising, among which Thompson sampling draws jointly."""


def expected_improvement(prediction: Prediction) -> Floats:
    """How much faster than the best a schedule is expected to be, counting slower as 0."""
    from scipy.special import ndtr  # half a second that only a search with a model needs

    assert prediction.best is not None
    spread = np.maximum(prediction.spread, 1e-12)
    gain = prediction.score - prediction.best
    ratio = gain / spread
    density = np.exp(-0.5 * ratio * ratio) / np.sqrt(2.0 * np.pi)
    merits: Floats = np.maximum(gain * ndtr(ratio) + spread * density, 0.0)
    return merits


def upper_confidence(prediction: Prediction) -> Floats:
    """The score that a schedule may well reach, above the lowest of all."""
    bound = prediction.score + CONFIDENCE * prediction.spread
    merits: Floats = bound - bound.min()
    return merits


ACQUISITIONS: dict[str, Acquisition] = {
    "expected_improvement": expected_improvement,
    "upper_confidence": upper_confidence,
}
DEFAULT = "upper_confidence"
"""It does not look at the best time measured, so that one lucky time does not end a search, and was
at least as good as the others on recorded spaces (`benchmarks/replay.md`)."""

THOMPSON = "thompson"


def choose(
    prediction: Prediction,
    free: npt.NDArray[np.bool_],
    n: int,
    rng: np.random.Generator,
    acquisition: str = DEFAULT,
) -> list[int]:
    """Places of at most `n` schedules to measure together, best first, all of them `free`.

    Ties, as among schedules that are certain to disappoint, are settled by the score.
    """
    if acquisition == THOMPSON:
        return _thompson(prediction, free, n, rng)
    if acquisition not in ACQUISITIONS:
        known = ", ".join((*ACQUISITIONS, THOMPSON))
        raise InvalidInputError(f"no acquisition {acquisition!r}; there are: {known}")
    believed = _with_best(prediction)
    free = free.copy()
    chosen: list[int] = []
    while len(chosen) < n and free.any():
        place = _first(ACQUISITIONS[acquisition](believed), believed, free)
        chosen.append(place)
        free[place] = False
        if len(chosen) < n:
            believed = believing(believed, place)
    return chosen


def believing(prediction: Prediction, place: int) -> Prediction:
    """As if that schedule had been measured and came out as predicted."""
    best = prediction.best
    if best is not None:
        best = max(best, float(prediction.score[place]))
    if prediction.covariance is None:
        spread = prediction.spread.copy()
        spread[place] = 0.0
        return replace(prediction, spread=spread, best=best)
    covariance = prediction.covariance(place)
    explained = covariance / np.sqrt(max(covariance[place], 1e-18))
    spread = np.sqrt(np.maximum(prediction.spread**2 - explained**2, 0.0))
    reduced = _Reduced(prediction.covariance, explained)
    return replace(prediction, spread=spread, best=best, covariance=reduced)


class _Reduced:
    """A covariance given one value more."""

    def __init__(self, before: Callable[[int], Floats], explained: Floats) -> None:
        self._before = before
        self._explained = explained

    def __call__(self, place: int) -> Floats:
        covariance: Floats = self._before(place) - self._explained * self._explained[place]
        return covariance


def _with_best(prediction: Prediction) -> Prediction:
    """A model that does not know the best measured competes with the best predicted."""
    if prediction.best is not None:
        return prediction
    return replace(prediction, best=float(prediction.score.max(initial=0.0)))


def _first(merits: Floats, prediction: Prediction, free: npt.NDArray[np.bool_]) -> int:
    if prediction.works is not None:
        merits = merits * prediction.works
    candidates = np.flatnonzero(free)
    at = candidates[merits[candidates] >= merits[candidates].max()]
    return int(at[np.argmax(prediction.score[at])])


def _thompson(
    prediction: Prediction, free: npt.NDArray[np.bool_], n: int, rng: np.random.Generator
) -> list[int]:
    """The best of `n` possible truths, drawn among the most promising."""
    bound = prediction.score + CONFIDENCE * prediction.spread
    if prediction.works is not None:
        bound = bound.min() + (bound - bound.min()) * prediction.works
    candidates = np.flatnonzero(free)
    order = np.argsort(-bound[candidates], kind="stable")
    among = candidates[order[: max(DRAWN, n)]]
    draws = joint_draws(prediction, among, n, rng)
    if prediction.works is not None:
        draws[rng.random(draws.shape) > prediction.works[among]] = draws.min() - 1.0
    chosen: dict[int, None] = {}
    for draw in draws:
        ranked: Sequence[int] = among[np.argsort(-draw, kind="stable")].tolist()
        chosen[next((place for place in ranked if place not in chosen), ranked[0])] = None
    return list(chosen)


def joint_draws(
    prediction: Prediction, among: npt.NDArray[np.int64], n: int, rng: np.random.Generator
) -> Floats:
    """`n` possible truths of the scores at the places `among`, (n, places)."""
    draws: Floats = rng.standard_normal((n, len(among))) @ _root(prediction, among)
    draws += prediction.score[among]
    return draws


def _root(prediction: Prediction, among: npt.NDArray[np.int64]) -> Floats:
    """A matrix whose square is the covariance of the scores at `among`."""
    if prediction.covariance is None:
        return np.diag(prediction.spread[among])
    covariance = np.stack([prediction.covariance(place)[among] for place in among.tolist()])
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    return root
