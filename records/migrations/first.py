"""Schema 1.

Workloads, targets and environments are stored once, under their canonical JSON. A trial is one
row. `schedule_key` is a digest of template, version and knobs. `time_s` is the median of
`times_s` and NULL for every failure.

The times that count, in the views as in the queries: of a schedule whose newest trial is ok, the
newest final race, or else the newest search trial.
"""

from __future__ import annotations

from records.connection import Connection

TABLES = (
    """
    CREATE TABLE workloads (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        op TEXT NOT NULL,
        params TEXT NOT NULL CHECK (json_valid(params))
    )
    """,
    """
    CREATE TABLE targets (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        backend TEXT NOT NULL,
        device TEXT NOT NULL,
        arch TEXT NOT NULL,
        limits TEXT NOT NULL CHECK (json_valid(limits))
    )
    """,
    """
    CREATE TABLE environments (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE CHECK (json_valid(key))
    )
    """,
    """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        workload_id INTEGER NOT NULL REFERENCES workloads (id),
        target_id INTEGER NOT NULL REFERENCES targets (id),
        strategy TEXT NOT NULL,
        seed INTEGER NOT NULL,
        options TEXT NOT NULL CHECK (json_valid(options)),
        started_at TEXT NOT NULL,
        ended_at TEXT,
        outcome TEXT
    )
    """,
    """
    CREATE TABLE trials (
        id INTEGER PRIMARY KEY,
        session_id INTEGER REFERENCES sessions (id),
        workload_id INTEGER NOT NULL REFERENCES workloads (id),
        target_id INTEGER NOT NULL REFERENCES targets (id),
        environment_id INTEGER NOT NULL REFERENCES environments (id),
        template TEXT NOT NULL,
        template_version INTEGER NOT NULL,
        knobs TEXT NOT NULL CHECK (json_valid(knobs)),
        schedule_key TEXT NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
        time_s REAL CHECK (time_s > 0),
        times_s TEXT NOT NULL CHECK (json_valid(times_s)),
        error TEXT NOT NULL,
        compile_s REAL NOT NULL,
        details TEXT NOT NULL CHECK (json_valid(details)),
        created_at TEXT NOT NULL,
        CHECK ((status = 'ok') = (time_s IS NOT NULL))
    )
    """,
)

INDEXES = (
    # Walked from the fast end by the query for the best schedule.
    "CREATE INDEX trials_by_time ON trials (workload_id, target_id, time_s) WHERE status = 'ok'",
    "CREATE INDEX trials_by_schedule ON trials (workload_id, target_id, schedule_key)",
    "CREATE INDEX trials_by_session ON trials (session_id)",
)

VIEWS = {
    "workload_names": """
        SELECT id, op,
            coalesce((SELECT group_concat(key || '=' || value, ' ') FROM json_each(params)
                WHERE type = 'integer'), '') AS sizes,
            coalesce(json_extract(params, '$.dtype'), '') AS dtype,
            CASE op WHEN 'matmul' THEN 2.0 * json_extract(params, '$.m')
                * json_extract(params, '$.n') * json_extract(params, '$.k')
                * coalesce(json_extract(params, '$.batch'), 1) END AS flops
        FROM workloads
        """,
    "usable_trials": """
        SELECT * FROM trials AS trial
        WHERE status = 'ok' AND kind IN ('search', 'final')
            AND id = (
                SELECT id FROM trials AS same
                WHERE same.workload_id = trial.workload_id AND same.target_id = trial.target_id
                    AND same.schedule_key = trial.schedule_key AND same.status = 'ok'
                    AND same.kind IN ('search', 'final')
                ORDER BY same.kind = 'final' DESC, same.created_at DESC, same.id DESC LIMIT 1)
            AND 'ok' = (
                SELECT status FROM trials AS newest
                WHERE newest.workload_id = trial.workload_id
                    AND newest.target_id = trial.target_id
                    AND newest.schedule_key = trial.schedule_key
                    AND newest.kind IN ('search', 'final')
                ORDER BY newest.created_at DESC, newest.id DESC LIMIT 1)
        """,
    "best_schedules": """
        SELECT workload.op, workload.sizes, workload.dtype, target.backend, target.device,
            1e3 * best.time_s AS time_ms, workload.flops / best.time_s / 1e9 AS gflops,
            best.template, best.template_version, best.knobs, best.kind, best.created_at,
            pair.trials, pair.workload_id, pair.target_id, best.id AS trial_id
        FROM (SELECT workload_id, target_id, count(*) AS trials FROM trials GROUP BY 1, 2) AS pair
        JOIN usable_trials AS best ON best.id = (
            SELECT id FROM usable_trials AS usable
            WHERE usable.workload_id = pair.workload_id AND usable.target_id = pair.target_id
            ORDER BY usable.time_s, usable.id LIMIT 1)
        JOIN workload_names AS workload ON workload.id = pair.workload_id
        JOIN targets AS target ON target.id = pair.target_id
        """,
    "failures": """
        SELECT workload.op, workload.sizes, workload.dtype, target.backend, target.device,
            trial.template, trial.status, count(*) AS trials,
            max(substr(trial.error, 1, 200)) AS example
        FROM trials AS trial
        JOIN workload_names AS workload ON workload.id = trial.workload_id
        JOIN targets AS target ON target.id = trial.target_id
        WHERE trial.status <> 'ok'
        GROUP BY trial.workload_id, trial.target_id, trial.template, trial.status
        """,
}


def apply(connection: Connection) -> None:
    for statement in (*TABLES, *INDEXES):
        connection.execute(statement)
    for name, select in VIEWS.items():
        connection.create_view(name, select)
