"""What won for other workloads, nearest first."""

from __future__ import annotations

import numpy as np

from autotune.testing.cost_model import EXAMPLE, TARGET
from autotune.warm_start import distance, winners
from records import Measurement, Schedule, Status, TuningRecord, Workload

SCHEDULES = EXAMPLE.space.sample(9, np.random.default_rng(0))


def workload(n: int, dtype: str = "float32") -> Workload:
    return Workload.of("example", {"n": n, "dtype": dtype})


def measured(n: int, schedule: Schedule, time_s: float | None) -> TuningRecord:
    failure = Measurement.failed(Status.CRASHED, "no")
    measurement = failure if time_s is None else Measurement.ok((time_s,))
    return TuningRecord(workload(n), TARGET, schedule, measurement, "")


def test_distance_counts_doublings_and_differences() -> None:
    assert distance(workload(512), workload(512)) == 0.0
    assert distance(workload(512), workload(2048)) == distance(workload(2048), workload(512)) == 2.0
    assert distance(workload(512), workload(512, "float64")) == 1.0


def test_the_fastest_of_the_nearest_come_first() -> None:
    earlier = [
        measured(4096, SCHEDULES[0], 1e-3),
        measured(1024, SCHEDULES[1], 5.0),
        measured(1024, SCHEDULES[2], 4.0),
        measured(1024, SCHEDULES[3], None),
        measured(256, SCHEDULES[2], 1.0),
        measured(64, SCHEDULES[4], 1.0),
    ]
    asked = workload(1000)
    assert winners(earlier, asked, EXAMPLE.space) == [SCHEDULES[2], SCHEDULES[0], SCHEDULES[4]]
    assert winners(earlier, asked, EXAMPLE.space, most=1) == [SCHEDULES[2]]
    assert winners([], asked, EXAMPLE.space) == []


def test_schedules_that_the_space_lacks_make_way_for_the_next_best() -> None:
    outdated = Schedule.of(EXAMPLE.name, EXAMPLE.version - 1, SCHEDULES[0].values)
    earlier = [measured(1024, outdated, 1.0), measured(1024, SCHEDULES[1], 2.0)]
    assert winners(earlier, workload(512), EXAMPLE.space) == [SCHEDULES[1]]
