"""Records to store: small, distinct, and free of any device."""

from __future__ import annotations

from collections.abc import Mapping

from records import Kind, Measurement, Schedule, Status, Target, TuningRecord, Workload
from records.peaks import Peaks

WORKLOAD = Workload.of(
    "matmul", {"m": 64, "n": 32, "k": 16, "batch": 1, "dtype": "float32", "epilogue": ("bias",)}
)
TARGET = Target.of(
    "sim", "steady", "sim-1", {"kind": "cpu", "units": 4, "dtypes": ("float32", "float64")}
)
PEAKS = Peaks(20e9, {"float32": 1e12, "float64": 5e11})
DRIVER_1 = {"driver": "1.0", "flush_bytes": 0}
DRIVER_2 = {"driver": "2.0", "flush_bytes": 0}


def schedule(tile: int, template: str = "tiled") -> Schedule:
    return Schedule.of(template, 1, {"tile": tile, "unroll": True, "order": ("i", "j")})


def record(
    tile: int = 8,
    time_s: float | None = 1e-3,
    *,
    at: int = 0,
    kind: Kind = Kind.SEARCH,
    status: Status = Status.WRONG_RESULT,
    environment: Mapping[str, object] = DRIVER_1,
    workload: Workload = WORKLOAD,
    target: Target = TARGET,
    template: str = "tiled",
) -> TuningRecord:
    """A record of second `at`; without a time it is a failure of `status`."""
    if time_s is None:
        measurement = Measurement.failed(status, f"{status} of {tile}", environment=environment)
    else:
        measurement = Measurement.ok(
            (time_s, 0.5 * time_s, 2.0 * time_s),
            compile_s=0.25,
            details={"registers": 40, "dropped": False},
            environment=environment,
        )
    created_at = f"2030-01-01T{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}.000+00:00"
    return TuningRecord(workload, target, schedule(tile, template), measurement, created_at, kind)
