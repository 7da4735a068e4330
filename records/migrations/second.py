"""Schema 2.

A target has the peaks that were probed last (`records.peaks`), or NULL.
"""

from __future__ import annotations

from records.connection import Connection


def apply(connection: Connection) -> None:
    connection.execute(
        "ALTER TABLE targets ADD COLUMN peaks TEXT CHECK (peaks IS NULL OR json_valid(peaks))"
    )


def stand_in(connection: Connection) -> None:
    connection.execute(
        "CREATE TEMP VIEW targets AS SELECT *, CAST(NULL AS TEXT) AS peaks FROM main.targets"
    )
