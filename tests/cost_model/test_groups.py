"""Records as models learn from them."""

from __future__ import annotations

from autotune.testing.cost_model import EXAMPLE, TARGET, workload
from cost_model.groups import fastest_first
from records import Measurement, Status, TuningRecord


def test_the_fastest_come_first_and_failures_not_at_all() -> None:
    failed = Measurement.failed(Status.CRASHED, "no")
    measured = [Measurement.ok((3.0,)), failed, Measurement.ok((1.0,)), Measurement.ok((1.0,))]
    schedules = EXAMPLE.space.take(range(4))
    slow, crashed, fast, as_fast = records = [
        TuningRecord(workload(), TARGET, schedule, measurement, created_at="")
        for schedule, measurement in zip(schedules, measured, strict=True)
    ]
    assert crashed not in fastest_first(records)
    assert fastest_first(records) == [fast, as_fast, slow]
    assert fastest_first([crashed]) == fastest_first([]) == []
