"""The facts: workloads, targets, schedules, measurements, and the database that keeps them."""

from records.errors import AutotuneError
from records.measurement import Measurement, Status
from records.record import Kind, TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload

__all__ = [
    "AutotuneError",
    "Kind",
    "Measurement",
    "Schedule",
    "Status",
    "Target",
    "TuningRecord",
    "Workload",
]
