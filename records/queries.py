"""Questions to the trials table, answered in SQL.

The time of a schedule is the median of its newest final race, or else of its newest search
trial: the fastest of many search trials is partly the luckiest of them, a race is not. Heats, of
few runs, count only where they are asked for, and only without a trial. A schedule whose newest
trial failed is not usable at all, whatever it did before. Newest means the latest `created_at`,
and of equal ones the last stored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from records.connection import Connection, Row
from records.record import Kind
from records.rows import COLUMNS

PAGE = 1000  # rows in memory at a time while reading many

_SELECTED = ", ".join(f"trial.{column}" for column in COLUMNS)

_RANKING = f"""
    SELECT {_SELECTED}
    FROM trials AS trial INDEXED BY trials_by_time
    WHERE trial.workload_id = :workload AND trial.target_id = :target AND trial.status = 'ok'
        AND (trial.kind <> 'library' OR :libraries) AND (trial.kind <> 'heat' OR :heats)
        AND trial.id = (
            SELECT id FROM trials AS same
            WHERE same.workload_id = trial.workload_id AND same.target_id = trial.target_id
                AND same.schedule_key = trial.schedule_key AND same.status = 'ok'
                AND (same.kind = 'library') = (trial.kind = 'library')
                AND (same.kind <> 'heat' OR :heats)
            ORDER BY same.kind <> 'heat' DESC, same.environment_id IS :environment DESC,
                same.kind = 'final' DESC, same.created_at DESC, same.id DESC LIMIT 1)
        AND 'ok' = (
            SELECT status FROM trials AS newest
            WHERE newest.workload_id = trial.workload_id AND newest.target_id = trial.target_id
                AND newest.schedule_key = trial.schedule_key
                AND (newest.kind = 'library') = (trial.kind = 'library')
                AND (newest.kind <> 'heat' OR :heats)
            ORDER BY newest.created_at DESC, newest.id DESC LIMIT 1)
    ORDER BY trial.time_s, trial.id
"""

_LIBRARIES = f"""
    SELECT {_SELECTED}
    FROM trials AS trial
    WHERE trial.workload_id = ? AND trial.target_id = ? AND trial.kind = 'library'
        AND trial.id = (
            SELECT id FROM trials AS same
            WHERE same.workload_id = trial.workload_id AND same.target_id = trial.target_id
                AND same.schedule_key = trial.schedule_key AND same.kind = 'library'
            ORDER BY same.created_at DESC, same.id DESC LIMIT 1)
    ORDER BY trial.time_s IS NULL, trial.time_s, trial.id
"""

_MEASURED = """
    SELECT template, template_version, knobs, status, times_s, error, compile_s, details
    FROM trials
    WHERE workload_id = ? AND target_id = ? AND environment_id = ? AND kind = 'search'
    ORDER BY created_at, id
"""


@dataclass(frozen=True)
class Pair:
    """A workload on a target, by their numbers in the database."""

    workload: int
    target: int


def ranking(
    connection: Connection,
    pair: Pair,
    environment: int | None,
    include_libraries: bool,
    include_heats: bool = False,
) -> Iterator[Row]:
    """Usable rows of `COLUMNS`, fastest first, one a schedule, read as far as they are asked for.

    A measurement in `environment` is preferred to others of the same schedule.
    """
    parameters = {
        "workload": pair.workload,
        "target": pair.target,
        "environment": environment,
        "libraries": include_libraries,
        "heats": include_heats,
    }
    return connection.stream(_RANKING, parameters)


def libraries(connection: Connection, pair: Pair) -> list[Row]:
    """Newest row of `COLUMNS` of each library, fastest first."""
    return connection.rows(_LIBRARIES, (pair.workload, pair.target))


def measured(connection: Connection, pair: Pair, environment: int) -> list[Row]:
    """(template, version, knobs) and the columns of a measurement, oldest first."""
    return connection.rows(_MEASURED, (pair.workload, pair.target, environment))


def outcomes(connection: Connection, pair: Pair) -> dict[str, int]:
    """How many trials ended in which status, the most frequent first."""
    return dict(
        connection.rows(
            "SELECT status, count(*) FROM trials "
            "WHERE workload_id = ? AND target_id = ? GROUP BY status ORDER BY 2 DESC",
            (pair.workload, pair.target),
        )
    )


@dataclass(frozen=True)
class Wanted:
    """Filters of trials; `None` lets all pass. Workload and target go by their keys."""

    workload: str | None
    target: str | None
    op: str | None
    kinds: Collection[Kind]
    ok_only: bool

    def clauses(self) -> Iterator[tuple[str, str]]:
        """SQL conditions with one parameter each."""
        yield "kind IN (SELECT value FROM json_each(?))", json.dumps([*map(str, self.kinds)])
        if self.workload is not None:
            yield "workload_id = (SELECT id FROM workloads WHERE key = ?)", self.workload
        if self.target is not None:
            yield "target_id = (SELECT id FROM targets WHERE key = ?)", self.target
        if self.op is not None:
            yield "workload_id IN (SELECT id FROM workloads WHERE op = ?)", self.op
        if self.ok_only:
            yield "status = ?", "ok"


def ids(connection: Connection, wanted: Wanted) -> list[int]:
    """Trials that pass every filter, oldest first."""
    clauses, parameters = zip(*wanted.clauses(), strict=True)
    sql = f"SELECT id FROM trials WHERE {' AND '.join(clauses)} ORDER BY created_at, id"
    return [row[0] for row in connection.rows(sql, parameters)]


def target_ids(connection: Connection, wanted: Wanted) -> set[int]:
    """Targets of the trials that pass every filter."""
    clauses, parameters = zip(*wanted.clauses(), strict=True)
    sql = f"SELECT DISTINCT target_id FROM trials WHERE {' AND '.join(clauses)}"
    return {row[0] for row in connection.rows(sql, parameters)}


def pages(connection: Connection, wanted: Sequence[int]) -> Iterator[list[Row]]:
    """Rows of `COLUMNS` for trial ids, in their order, a page at a time.

    No statement stays open between pages, so a slow reader neither holds back the write-ahead
    log nor stands in its own way when it writes.
    """
    for start in range(0, len(wanted), PAGE):
        yield connection.rows(
            f"SELECT {_SELECTED} FROM json_each(?) AS wanted JOIN trials AS trial "
            "ON trial.id = wanted.value ORDER BY wanted.key",
            (json.dumps(wanted[start : start + PAGE]),),
        )
