"""Kills, locks, full disks and directories that may not be written."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from record_samples import TARGET, WORKLOAD, record

from records.connection import Connection
from records.errors import DatabaseBusyError, DatabaseError
from records.store import TuningDatabase

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
KILLS = 5


def child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def test_kill_9_loses_no_record_that_was_added(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    generator = random.Random(0)
    stored: dict[int, int] = {}
    for run in range(KILLS):
        printed = tmp_path / f"printed_{run}"
        with printed.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "adder.py"), str(path), str(run * 1_000_000)],
                stdout=output,
                env=ENVIRONMENT,
            )
        while not printed.stat().st_size and process.poll() is None:
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        for line in printed.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # not torn by the kill
                number, tile = map(int, line.split())
                stored[number] = tile
        with TuningDatabase(path) as database:
            assert database.check() == []
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT id, json_extract(knobs, '$.tile') FROM trials"))
    connection.close()
    assert stored.items() <= found.items()
    assert len(found) <= len(stored) + KILLS  # a kill between storing and printing hides one


def test_readers_read_while_a_writer_writes(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as writer, TuningDatabase(path, read_only=True) as reader:
        writer.add(record(4))
        half_read = reader.records()
        assert next(half_read) == record(4)
        writer.add(record(8))
        assert list(half_read) == []
        assert len(list(reader.records())) == 2
        with pytest.raises(DatabaseError, match="read-only"):
            reader.add(record(16))
        assert reader.read_only and not writer.read_only


def test_a_locked_database_is_busy_for_the_time_given_and_then_works(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path, busy_timeout_s=0.05) as database:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="another process"):
            database.add(record(4))
        assert list(database.records()) == []  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        database.add(record(4))
        assert list(database.records()) == [record(4)]


def test_a_lock_held_while_opening_is_busy_too(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    TuningDatabase(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseBusyError):
        TuningDatabase(path, busy_timeout_s=0.05)
    other.close()


def test_a_full_disk_is_told_and_costs_only_what_did_not_fit(tmp_path: Path) -> None:
    """SQLite's own page limit gives the same error as the file system."""
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as database:
        pages = database._connection.value("PRAGMA page_count")
        database._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        added = []
        with pytest.raises(DatabaseError, match="disk is full"):
            for tile in range(1000):
                database.add(record(tile))
                added.append(tile)
        assert added
        assert [found.schedule["tile"] for found in database.records()] == added
        database._connection.execute("PRAGMA max_page_count = 100000")
        database.add(record(5000))
        assert database.check() == []


LIMITED = """
import resource, signal, sys
from record_samples import record
from records.errors import DatabaseError
from records.store import TuningDatabase
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
database = TuningDatabase(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
added = 0
try:
    for tile in range(10_000):
        database.add(record(tile))
        added += 1
except DatabaseError as error:
    print(added, error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limits here")
def test_a_file_that_may_not_grow_stays_sound(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    process = child(sys.executable, "-c", LIMITED, str(path))
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    added, message = output.split(maxsplit=1)
    assert "disk" in message and "tuning.db" in message
    with TuningDatabase(path) as database:
        assert database.check() == []
        assert len(list(database.records())) == int(added) > 0


READ = """
import sys
from record_samples import TARGET, WORKLOAD, record
from records.errors import DatabaseError
from records.store import TuningDatabase
with TuningDatabase(sys.argv[1]) as database:
    print(database.read_only, database.best(WORKLOAD, TARGET).schedule["tile"])
    try:
        database.add(record(8))
    except DatabaseError as error:
        print(error)
"""


def unprivileged() -> list[str]:
    """The start of a command line that obeys permissions, also for root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to stop it")
    return ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]


@pytest.mark.parametrize("left_over", [False, True], ids=["closed", "with its log"])
def test_a_directory_that_may_not_be_written(tmp_path: Path, left_over: bool) -> None:
    """Closed well it opens read-only; rows that only the log has are never passed over."""
    directory = tmp_path / "shared"
    directory.mkdir()
    path = directory / "tuning.db"
    database = TuningDatabase(path)
    database.add(record(4))
    if left_over:
        copy = {file: file.read_bytes() for file in directory.iterdir() if "-shm" not in file.name}
    database.close()
    if left_over:
        for file, content in copy.items():
            file.write_bytes(content)
    directory.chmod(0o555)
    try:
        process = child(*unprivileged(), sys.executable, "-c", READ, str(path))
        output, errors = process.communicate()
    finally:
        directory.chmod(0o755)
    if left_over:
        assert "tuning.db-wal" in errors and "copy both files" in errors
    else:
        assert output.startswith("True 4\n"), errors
        assert "opened read-only" in output


def test_a_file_system_without_shared_memory_keeps_the_old_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have none; SQLite's locking by dot-files is such a one."""
    opened = Connection._open
    monkeypatch.setattr(
        Connection, "_open", lambda self, query: opened(self, f"{query}&vfs=unix-dotfile")
    )
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as database:
        database.add(record(4))
        assert [file.name for file in tmp_path.iterdir() if "-wal" in file.name] == []
        assert database.best(WORKLOAD, TARGET).record == record(4)
        assert database.check() == []
    with TuningDatabase(path, read_only=True) as database:
        assert list(database.records()) == [record(4)]
