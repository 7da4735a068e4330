"""`check` finds each kind of damage and says which row has it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from record_samples import record

from records.errors import SchemaError
from records.soundness import MOST_PROBLEMS
from records.store import TuningDatabase

DAMAGE = {
    "UPDATE trials SET knobs = '{' WHERE id = 1": "trial 1: its knobs are not a JSON object",
    "UPDATE trials SET knobs = '{\"tile\":5}' WHERE id = 1": "trial 1: its schedule key",
    "UPDATE trials SET template_version = 2 WHERE id = 2": "trial 2: its schedule key",
    "UPDATE trials SET details = '[]' WHERE id = 1": "trial 1: its details",
    "UPDATE trials SET kind = 'rumour' WHERE id = 1": "trial 1: unknown kind 'rumour'",
    "UPDATE trials SET status = 'fine' WHERE id = 2": "trial 2: unknown status 'fine'",
    "UPDATE trials SET time_s = 1.0 WHERE id = 1": "trial 1: its time is 1.0",
    "UPDATE trials SET time_s = 1.0 WHERE id = 2": "trial 2: wrong_result, and yet a time",
    "UPDATE trials SET time_s = NULL WHERE id = 1": "trial 1: its time is None",
    "UPDATE trials SET times_s = '[]' WHERE id = 1": "trial 1: ok without times",
    "UPDATE trials SET times_s = '[-1.0]' WHERE id = 1": "trial 1: its times are not positive",
    "UPDATE trials SET times_s = 'x' WHERE id = 2": "trial 2: its times are not positive",
    "UPDATE trials SET compile_s = 'x' WHERE id = 1": "trial 1: its compile time",
    "UPDATE trials SET created_at = 'x' WHERE id = 1": "trial 1: created at 'x'",
    "UPDATE trials SET target_id = 9 WHERE id = 1": "trials 1: refers to a row of targets",
    "DELETE FROM environments": "trials 1: refers to a row of environments",
    "UPDATE workloads SET op = 'other'": "workload 1: its columns and its key differ",
    "UPDATE workloads SET key = 'x'": "workload 1: its columns and its key differ",
    "UPDATE targets SET peaks = '{}'": "target 1: its peaks are not",
    "UPDATE targets SET limits = '{}'": "target 1: its columns and its key differ",
    'UPDATE environments SET key = \'{"b":1, "a":2}\'': "environment 1: not a canonical",
    "UPDATE sessions SET options = 'x'": "session 1: its options",
    "DROP INDEX trials_by_time": "file: trials_by_time is missing",
    "DROP TABLE sessions": "file: sessions is missing",
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_damage_is_found(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as database:
        session = database.start_session(
            record(4).workload, record(4).target, strategy="random", seed=0, options={}
        )
        database.add(record(4), session)
        database.add(record(8, None), session)
        assert database.check() == []
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with TuningDatabase(path, read_only=True) as database:
        problems = database.check()
    assert any(problem.startswith(DAMAGE[statement]) for problem in problems), problems


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET status = 'splendid', time_s = 1",
        "UPDATE trials SET knobs = '{'",
        "UPDATE trials SET times_s = '1, 2'",
        "UPDATE trials SET details = '7'",
        "UPDATE targets SET key = '[]'",
        "DELETE FROM environments",
    ],
)
def test_reading_a_damaged_row_is_an_error_with_a_remedy(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as database:
        database.add(record(4))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with TuningDatabase(path, read_only=True) as database:
        with pytest.raises(SchemaError, match="autotune db check"):
            list(database.records())
        assert database.check()


def test_the_list_of_problems_ends(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as database:
        for tile in range(MOST_PROBLEMS + 1):
            database.add(record(tile))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE trials SET kind = 'rumour'")
    connection.commit()
    connection.close()
    with TuningDatabase(path) as database:
        assert len(database.check()) == MOST_PROBLEMS
