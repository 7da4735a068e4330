"""The repeats behind recorded times: to replay with the noise that a device really had."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autotune.recorded import RecordedSpace
from autotune.timing import TimingPlan, Verdict
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.schedule import Schedule

FIVE_RUNS = TimingPlan(min_runs=5, max_runs=5)
"""As few as the tuner makes of a trial that is not dropped or beaten."""

_ARRAY = "times_ms"


class MeasuredNoise:
    """Draws runs from the repeats that were measured of each schedule.

    `times_ms`: shape (schedules in the order recorded, repeats), milliseconds, NaN where a
    repeat, or the schedule, failed. Schedules without repeats answer as recorded.
    """

    def __init__(self, recorded: RecordedSpace, times_ms: npt.NDArray[np.float32]) -> None:
        if times_ms.ndim != 2 or len(times_ms) != recorded.size:
            raise InvalidInputError(
                f"need repeats of {recorded.size} schedules, found an array of {times_ms.shape}"
            )
        self._recorded = recorded
        self._times_s = times_ms.astype(np.float64) * 1e-3
        self._rows = {schedule: row for row, schedule in enumerate(recorded.measurements)}

    @classmethod
    def load(cls, path: Path, recorded: RecordedSpace) -> MeasuredNoise:
        """From an `.npz` file with an array `times_ms`."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                times_ms = arrays[_ARRAY]
        except (KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
            why = error if isinstance(error, (KeyError, OSError)) else "it is none, or damaged"
            raise InvalidInputError(
                f"{path}: need an .npz file with an array {_ARRAY!r}: {why}"
            ) from error
        try:
            return cls(recorded, times_ms)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {error}") from None

    def measure(
        self, schedule: Schedule, rng: np.random.Generator, plan: TimingPlan = FIVE_RUNS
    ) -> Measurement:
        """A trial under a plan: as many repeats as it takes, drawn with replacement."""
        known = self._recorded.measure(schedule)
        times_s = self._times_s[self._rows[schedule]]
        times_s = times_s[np.isfinite(times_s)]
        if not known.is_ok or not len(times_s):
            return known
        drawn: list[float] = []
        while not drawn or plan.verdict(drawn) is Verdict.OPEN:
            drawn.append(float(rng.choice(times_s)))
        return Measurement.ok(tuple(drawn))


@dataclass(frozen=True)
class Repeats:
    """Trials with the noise that was measured, timed by `plan`.

    They are dropped and beaten as the tuner has it where `drop_factor` is given, which is
    `TuningOptions.drop_factor`; else every trial takes all its runs.
    """

    noise: MeasuredNoise
    plan: TimingPlan = FIVE_RUNS
    drop_factor: float | None = None

    def measure(
        self,
        schedule: Schedule,
        rng: np.random.Generator,
        best_s: float | None,
        heat_runs: int | None,
    ) -> Measurement:
        """A trial beside a best of `best_s`, or a heat of `heat_runs`."""
        plan = self.plan
        if heat_runs is not None:
            plan = plan.heat(heat_runs)
        elif self.drop_factor is not None:
            plan = plan.against(best_s, self.drop_factor)
        return self.noise.measure(schedule, rng, plan)


def find(directory: Path, recording: Path) -> Path:
    """The repeats of a recording: `<its folder>/<its name>.npz` in a directory, or without folder.

    `InvalidInputError` where neither is there.
    """
    name = f"{recording.name.partition('.')[0]}.npz"
    places = (directory / recording.resolve().parent.name / name, directory / name)
    for place in places:
        if place.is_file():
            return place
    raise InvalidInputError(
        f"no repeats of {recording}: neither {places[0]} nor {places[1]} is there; "
        "leave it out, or replay without noise"
    )
