"""An answer of the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.record import TuningRecord
from records.schedule import Schedule


@dataclass(frozen=True)
class Match:
    """A record, and how well it fits the question.

    `how` is `"exact"`, or `"stale"` when an environment was given and the record was measured
    in another one (another driver, compiler or timing plan).
    """

    record: TuningRecord
    how: Literal["exact", "stale"] = "exact"

    @property
    def schedule(self) -> Schedule:
        return self.record.schedule

    @property
    def time_s(self) -> float:
        """Median seconds."""
        time_s = self.record.measurement.time_s
        assert time_s is not None, "only ok records match"
        return time_s
