"""One line of a tuning log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from records import fields
from records.measurement import Measurement
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload


class Kind(StrEnum):
    """Why a measurement was made."""

    SEARCH = "search"  # a trial of the search
    HEAT = "heat"  # a few runs, to tell who is worth a trial: no time to answer with
    FINAL = "final"  # a finalist, raced again interleaved: the time to believe
    LIBRARY = "library"  # a vendor's library; the schedule names it


@dataclass(frozen=True)
class TuningRecord:
    """A workload on a target, done by a schedule, measured. `created_at` is UTC, ISO 8601."""

    workload: Workload
    target: Target
    schedule: Schedule
    measurement: Measurement
    created_at: str
    kind: Kind = Kind.SEARCH

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.to_json(),
            "target": self.target.to_json(),
            "schedule": self.schedule.to_json(),
            "measurement": self.measurement.to_json(),
            "created_at": self.created_at,
            "kind": str(self.kind),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TuningRecord:
        return cls(
            Workload.from_json(fields.mapping(data, "workload")),
            Target.from_json(fields.mapping(data, "target")),
            Schedule.from_json(fields.mapping(data, "schedule")),
            Measurement.from_json(fields.mapping(data, "measurement")),
            fields.text(data, "created_at"),
            Kind(fields.text(data, "kind")),
        )


def utc_now() -> str:
    """The time for `created_at`: UTC, milliseconds, always of the same width, so it sorts."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
