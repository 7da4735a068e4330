"""Make the database file that is kept for a schema version, so that later versions can open it.

Run once, with the code of the release that brings the schema, from the root of the checkout:

    PYTHONPATH=.:tests/records python tests/records/make_schema_asset.py

It writes tests/records/assets/schema_<version>.db, in one file without a write-ahead log.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from record_samples import DRIVER_2, PEAKS, TARGET, WORKLOAD, record

from records import Kind, Status, TuningRecord
from records.schema import MIGRATIONS
from records.store import TuningDatabase

ASSETS = Path(__file__).parent / "assets"

RECORDS: tuple[TuningRecord, ...] = (
    record(4, 1e-3, at=0),
    record(8, 2e-3, at=1),
    record(16, None, at=2, status=Status.COMPILE_ERROR),
    record(32, None, at=3, status=Status.TIMEOUT),
    record(4, 1.5e-3, at=4, kind=Kind.FINAL),
    record(8, 1.4e-3, at=5, kind=Kind.FINAL, environment=DRIVER_2),
    record(0, 3e-3, at=6, kind=Kind.LIBRARY, template="openblas"),
)


def main() -> None:
    path = ASSETS / f"schema_{MIGRATIONS[-1].version}.db"
    ASSETS.mkdir(exist_ok=True)
    with TuningDatabase(path) as database:
        session = database.start_session(
            WORKLOAD, TARGET, strategy="random", seed=0, options={"trials": 7}
        )
        database.note_peaks(TARGET, PEAKS)
        for each in RECORDS:
            database.add(each, session)
        database.end_session(session, "finished")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("VACUUM")
    connection.close()


if __name__ == "__main__":
    main()
