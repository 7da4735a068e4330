"""A model judged by what it said of trials before they were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from autotune.testing.cost_model import EXAMPLE, TARGET, workload
from cost_model.base import Floats, Prediction
from cost_model.judgement import Judgement
from cost_model.outlook import Promises
from cost_model.track_record import TOP, Recall
from cost_model.trust import Trust
from records import Measurement, Schedule, Status, TuningRecord

SCHEDULES = list(EXAMPLE.space.sample(400, np.random.default_rng(5)))
SPEEDS = dict(zip(SCHEDULES, np.random.default_rng(6).normal(0.0, 0.2, 400).tolist(), strict=True))
"""Natural logarithms of runs a second."""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Seer:
    """Knows every speed but for an error of `spread`, and says that it is `claimed`.

    What it has `seen` it remembers exactly, unless it is `blurred`. Where it is `moved`, all of its
    error is what a second model moved its scores by.
    """

    def __init__(
        self,
        spread: float,
        claimed: float,
        sign: float = 1.0,
        *,
        blurred: bool = False,
        moved: bool = False,
    ) -> None:
        errors = np.random.default_rng(7).normal(0.0, spread, len(SCHEDULES))
        self._errors = dict(zip(SCHEDULES, errors.tolist(), strict=True))
        self._claimed = claimed
        self._sign = sign
        self._blurred = blurred
        self._moved = moved
        self.best = -math.inf
        self.seen: set[Schedule] = set()

    def predict(self, schedules: Sequence[Schedule]) -> Prediction:
        scores = [self._sign * SPEEDS[each] + self._error(each) for each in schedules]
        spread = np.full(len(schedules), self._claimed)

        def covariance(place: int) -> Floats:
            return np.where(np.arange(len(spread)) == place, spread**2, 0.0)

        moved = np.array([self._error(each) for each in schedules]) if self._moved else None
        return Prediction(np.array(scores), spread, self.best, covariance=covariance, moved=moved)

    def _error(self, schedule: Schedule) -> float:
        remembered = schedule in self.seen and not self._blurred
        return 0.0 if remembered else self._errors[schedule]


def measured(schedule: Schedule) -> Measurement:
    return Measurement.ok((math.exp(-SPEEDS[schedule]),))


def judged(seer: Seer, batches: int = 16, size: int = 8, first: int = 40) -> Judgement:
    """After batches in random order, behind `first` trials of which nothing was said."""
    judgement = Judgement(Trust())
    known = [_record(each, measured(each)) for each in SCHEDULES[:first]]
    for start in range(first, first + batches * size, size):
        batch = SCHEDULES[start : start + size]
        seer.seen = {record.schedule for record in known}
        seer.best = max(SPEEDS[each] for each in seer.seen)
        judgement.expect(batch, known, seer.predict, rng())
        for each in batch:
            judgement.tell(each, measured(each))
            known.append(_record(each, measured(each)))
        judgement.settle()
    return judgement


def _record(schedule: Schedule, measurement: Measurement) -> TuningRecord:
    return TuningRecord(workload(), TARGET, schedule, measurement, created_at="")


@pytest.mark.parametrize(
    "claimed,least,most", [(0.1, 0.8, 1.0), (0.3, 1.0, 1.0), (0.03, 0.1, 0.55)]
)
def test_intervals_hold_what_they_should_only_where_spreads_are_right(
    claimed: float, least: float, most: float
) -> None:
    record = judged(Seer(0.1, claimed)).track_record
    half, most_of_them = record.coverage(0.5), record.coverage(0.9)
    assert half is not None and most_of_them is not None
    assert least <= most_of_them <= most
    assert half < most_of_them
    assert (0.35 < half < 0.65) == (claimed == 0.1)
    widening = record.widening(0.9)
    assert widening is not None and 0.7 < widening * claimed / 0.1 < 1.4


def test_intervals_allow_for_what_known_times_scatter() -> None:
    record = judged(Seer(0.1, 0.03, blurred=True)).track_record
    half, most_of_them = record.coverage(0.5), record.coverage(0.9)
    assert half is not None and most_of_them is not None
    assert 0.35 < half < 0.65 and 0.8 < most_of_them < 1.0


def test_intervals_allow_for_how_far_a_second_model_moved_the_scores() -> None:
    alone = judged(Seer(0.1, 0.001)).track_record.coverage(0.9)
    together = judged(Seer(0.1, 0.001, moved=True)).track_record
    half, most_of_them = together.coverage(0.5), together.coverage(0.9)
    assert alone is not None and half is not None and most_of_them is not None
    assert alone < 0.1
    assert 0.35 < half < 0.65 and 0.8 < most_of_them < 1.0


def test_who_knows_foresees_all_of_the_fastest_and_who_errs_few() -> None:
    knowing, erring = judged(Seer(0.0, 0.1)), judged(Seer(0.0, 0.1, sign=-1.0))
    recall = knowing.track_record.recall
    assert recall.of >= recall.foreseen == recall.met > 0
    assert erring.track_record.recall.met == recall.met  # what came is the same
    assert erring.track_record.recall.foreseen == 0
    assert knowing.trust.trusted and not erring.trust.trusted


def test_recall_waits_until_there_are_enough_to_be_among() -> None:
    assert judged(Seer(0.0, 0.1), 1, 8, first=TOP - 1).track_record.recall == Recall(0, 0, 0)
    assert judged(Seer(0.0, 0.1), 1, 8, first=TOP).track_record.recall.met > 0


def test_failures_are_never_among_the_fastest_nor_in_any_interval() -> None:
    judgement = Judgement(Trust())
    known = [_record(each, measured(each)) for each in SCHEDULES[:20]]
    seer = Seer(0.0, 0.1)
    seer.best = 0.0
    batch = SCHEDULES[20:28]
    judgement.expect(batch, known, seer.predict, rng())
    for each in batch:
        judgement.tell(each, Measurement.failed(Status.LAUNCH_ERROR, "no"))
    judgement.settle()
    assert judgement.track_record.recall == Recall(0, 0, 8)
    assert judgement.track_record.coverage(0.9) is None
    assert judgement.promises.kept < 1.0


def test_what_was_not_expected_says_nothing() -> None:
    judgement = Judgement(Trust())
    judgement.tell(SCHEDULES[0], measured(SCHEDULES[0]))
    judgement.settle()
    assert judgement.track_record.coverage(0.5) is None
    assert judgement.promises.kept == 1.0


def test_kept_promises_are_told_from_broken_ones() -> None:
    honest, boastful = judged(Seer(0.02, 0.02)).promises, judged(Seer(0.02, 0.5)).promises
    assert 0.7 < honest.kept <= 1.5
    assert boastful.kept < 0.3


def test_promises_are_forgotten() -> None:
    promises = Promises()
    for _ in range(10):
        promises.add(8, 0.2, 0.0)
    assert promises.kept < 0.1
    for _ in range(8):
        promises.add(8, 0.2, 0.2)
    assert promises.kept == pytest.approx(1.0)
    promises.add(100, 0.0, 10.0)
    assert promises.kept == 1.5  # luck is not extrapolated far
