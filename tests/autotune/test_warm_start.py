"""What won for other workloads, nearest first."""

from __future__ import annotations

import numpy as np

from autotune.testing.cost_model import EXAMPLE, TARGET
from autotune.warm_start import winners
from cost_model.features import distance
from records import Measurement, Schedule, Status, Target, TuningRecord, Workload

SCHEDULES = EXAMPLE.space.sample(9, np.random.default_rng(0))


def workload(n: int, dtype: str = "float32") -> Workload:
    return Workload.of("example", {"n": n, "dtype": dtype})


def measured(n: int, schedule: Schedule, time_s: float | None) -> TuningRecord:
    failure = Measurement.failed(Status.CRASHED, "no")
    measurement = failure if time_s is None else Measurement.ok((time_s,))
    return TuningRecord(workload(n), TARGET, schedule, measurement, "")


BIGGER = Target.of("sim", "bigger", "example", {"units": 32, "warp": 32})


def test_distance_counts_doublings_and_differences() -> None:
    here = workload(512), TARGET
    assert distance(here, here) == 0.0
    assert (
        distance(here, (workload(2048), TARGET)) == 2.0 == distance((workload(128), TARGET), here)
    )
    assert distance(here, (workload(512, "float64"), TARGET)) == 1.0
    assert distance(here, (workload(512), BIGGER)) == 3.0
    other = Target.of("sim", "other", "new", dict(TARGET.limits))
    assert distance(here, (workload(512), other)) == 2.0


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
    assert winners(earlier, asked, TARGET, EXAMPLE.space) == [
        SCHEDULES[2],
        SCHEDULES[0],
        SCHEDULES[4],
    ]
    assert winners(earlier, asked, TARGET, EXAMPLE.space, most=1) == [SCHEDULES[2]]
    assert winners([], asked, TARGET, EXAMPLE.space) == []


def test_schedules_that_the_space_lacks_make_way_for_the_next_best() -> None:
    outdated = Schedule.of(EXAMPLE.name, EXAMPLE.version - 1, SCHEDULES[0].values)
    earlier = [measured(1024, outdated, 1.0), measured(1024, SCHEDULES[1], 2.0)]
    assert winners(earlier, workload(512), TARGET, EXAMPLE.space) == [SCHEDULES[1]]
