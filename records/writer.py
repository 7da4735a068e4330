"""Records and sessions going in. Callers hold the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from records.canonical import canonical_json
from records.catalogue import Catalogue
from records.connection import Connection
from records.errors import InvalidInputError
from records.peaks import Peaks
from records.record import TuningRecord, utc_now
from records.rows import COLUMNS, encode
from records.target import Target
from records.workload import Workload

_STORED = (*COLUMNS, "schedule_key", "time_s", "session_id")

# One prepared statement for the one insert that happens before every launch.
_INSERT = (
    f"INSERT INTO trials ({', '.join(_STORED)}) "
    f"VALUES ({', '.join(f':{column}' for column in _STORED)})"
)

# The first three find the few trials of this schedule by an index.
_IDENTITY = ("workload_id", "target_id", "schedule_key", *COLUMNS[2:])
_SAME = "SELECT 1 FROM trials WHERE " + " AND ".join(f"{name} = :{name}" for name in _IDENTITY)


class Writer:
    """Inserts rows, and the workloads, targets and environments they refer to."""

    def __init__(self, connection: Connection, catalogue: Catalogue) -> None:
        self._connection = connection
        self._catalogue = catalogue

    def start_session(
        self,
        workload: Workload,
        target: Target,
        strategy: str,
        seed: int,
        options: Mapping[str, object],
    ) -> int:
        columns = {
            "workload_id": self._catalogue.store_workload(workload),
            "target_id": self._catalogue.store_target(target),
            "strategy": strategy,
            "seed": seed,
            "options": canonical_json(dict(options)),
            "started_at": utc_now(),
        }
        return self._connection.insert("sessions", columns)

    def end_session(self, session: int, outcome: str) -> None:
        changed = self._connection.execute(
            "UPDATE sessions SET ended_at = ?, outcome = ? WHERE id = ?",
            (utc_now(), outcome, session),
        )
        if not changed.rowcount:
            raise _no_session(session)

    def set_peaks(self, target: Target, peaks: Peaks) -> None:
        number = self._catalogue.store_target(target)
        text = canonical_json(peaks.to_json())
        self._connection.execute("UPDATE targets SET peaks = ? WHERE id = ?", (text, number))

    def set_unknown_peaks(self, target: Target, peaks: Peaks) -> None:
        """Of a target that is stored, where none are known."""
        self._connection.execute(
            "UPDATE targets SET peaks = ? WHERE key = ? AND peaks IS NULL",
            (canonical_json(peaks.to_json()), target.key),
        )

    def insert(self, record: TuningRecord, session: int | None) -> int:
        if session is not None and not self._connection.value(
            "SELECT 1 FROM sessions WHERE id = ?", (session,)
        ):
            raise _no_session(session)
        return self._insert(self._row(record) | {"session_id": session})

    def insert_if_new(self, record: TuningRecord) -> bool:
        """Whether it was new; a record equal in everything is not stored twice."""
        row = self._row(record)
        if self._connection.value(_SAME, row):
            return False
        self._insert(row | {"session_id": None})
        return True

    def _insert(self, row: Mapping[str, Any]) -> int:
        number = self._connection.execute(_INSERT, row).lastrowid
        assert number is not None
        return number

    def _row(self, record: TuningRecord) -> dict[str, Any]:
        return encode(record) | {
            "workload_id": self._catalogue.store_workload(record.workload),
            "target_id": self._catalogue.store_target(record.target),
            "environment_id": self._catalogue.store_environment(record.measurement.environment_key),
        }


def _no_session(session: int) -> InvalidInputError:
    return InvalidInputError(
        f"no session {session} in this database; use the number that start_session returned"
    )
