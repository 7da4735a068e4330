"""A model judged by what it said of trials before they were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cost_model.base import Prediction
from cost_model.groups import fastest_first
from cost_model.outlook import Promises, promised_gain
from cost_model.track_record import TOP, Known, TrackRecord
from cost_model.trust import Trust
from records.measurement import Measurement
from records.record import TuningRecord
from records.schedule import Schedule

REFERENCES = 48
"""Trials measured before, with which new ones are compared to tell whether the model orders them
rightly."""


@dataclass(frozen=True)
class _Forecast:
    """Of a batch, then of `references` and of `fastest`, trials measured before."""

    schedules: Sequence[Schedule]
    prediction: Prediction
    references: Sequence[Measurement]
    fastest: Sequence[Measurement]
    promised: float | None


class Judgement:
    """Forecasts, and what came of them: whether to trust the model, how right it was, and by
    which share it kept what it promised."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self.track_record = TrackRecord()
        self.promises = Promises()
        self._forecast: _Forecast | None = None
        self._outcomes: dict[Schedule, Measurement] = {}

    def expect(
        self,
        schedules: Sequence[Schedule],
        known: Sequence[TuningRecord],
        predict: Callable[[Sequence[Schedule]], Prediction],
        rng: np.random.Generator,
    ) -> None:
        """Note what is predicted of a batch. `known`: all trials measured before."""
        picks = rng.permutation(len(known))[:REFERENCES].tolist()
        references = [known[pick] for pick in picks]
        fastest = fastest_first(known)[:TOP]
        asked = [*schedules, *(record.schedule for record in (*references, *fastest))]
        prediction = predict(asked)
        self._forecast = _Forecast(
            schedules,
            prediction,
            [record.measurement for record in references],
            [record.measurement for record in fastest],
            promised_gain(prediction, range(len(schedules)), rng),
        )

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        """Take what came of a schedule; one that was not expected says nothing."""
        if self._forecast is not None and schedule in self._forecast.schedules:
            self._outcomes[schedule] = measurement

    def settle(self) -> None:
        """Compare the last forecast with what was told since."""
        forecast, outcomes = self._forecast, self._outcomes
        self._forecast, self._outcomes = None, {}
        if forecast is None or not outcomes:
            return
        places = [at for at, each in enumerate(forecast.schedules) if each in outcomes]
        measured = [outcomes[forecast.schedules[place]] for place in places]
        first = len(forecast.schedules)
        last = first + len(forecast.references)
        scores = forecast.prediction.score
        self.trust.update(
            scores[places].tolist(), measured, scores[first:last].tolist(), forecast.references
        )
        batch = _taken(forecast.prediction, places)
        self.track_record.update(
            batch,
            measured,
            Known(scores[last:], forecast.fastest),
            Known(scores[first:last], forecast.references),
        )
        if forecast.promised is not None:
            part = len(places) / first  # where time ran out
            self.promises.add(
                len(places), forecast.promised * part, _brought(forecast.prediction, measured)
            )


def _taken(prediction: Prediction, places: list[int]) -> Prediction:
    """One number a schedule each, at the places alone."""
    works = None if prediction.works is None else prediction.works[places]
    moved = None if prediction.moved is None else prediction.moved[places]
    score, spread = prediction.score[places], prediction.spread[places]
    return replace(prediction, score=score, spread=spread, works=works, moved=moved)


def _brought(prediction: Prediction, measured: Sequence[Measurement]) -> float:
    """By how much the fastest beats the best before, as a logarithm of speeds."""
    assert prediction.best is not None, "nothing is promised without a best"
    times = [measurement.time_s for measurement in measured if measurement.time_s is not None]
    return max(0.0, -math.log(min(times)) - prediction.best) if times else 0.0
