"""kill -9, Ctrl-C, a full disk and a locked file while the real command tunes."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scripts import script

from autotune import api
from autotune.session import Progress, SilentObserver
from records import Kind, TuningRecord
from records.errors import DatabaseBusyError
from records.store import TuningDatabase
from search_spaces.matmul import matmul

ROOT = Path(__file__).parents[2]
DEVICE = "sim:steady"
WORKLOAD = matmul(m=16, n=16, k=16)
COMMAND = ("-m16", "-n16", "-k16", "--device", DEVICE)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
kill_test = script(ROOT / "benchmarks" / "kill_test.py")


def start(database: Path, *options: str, **settings: Any) -> subprocess.Popen[str]:
    code = "import sys; from autotune.cli import main; main(['tune', 'matmul', *sys.argv[1:]])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *COMMAND, "--db", str(database), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **settings,
    )


def ended(tuner: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; one that does not end is killed."""
    try:
        stdout, stderr = tuner.communicate(timeout=120.0)
    except subprocess.TimeoutExpired:
        os.killpg(tuner.pid, signal.SIGKILL)
        tuner.communicate()
        raise
    return tuner.returncode, stdout, stderr


def schedules(database: Path) -> list[str]:
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trials'").fetchall()
        sql = "SELECT schedule_key FROM trials WHERE kind = 'search' ORDER BY id"
        return [row[0] for row in connection.execute(sql)] if tables else []


def check(database: Path) -> list[str]:
    with TuningDatabase(database) as opened:
        return opened.check()


def test_kills_lose_no_trial_and_leave_no_process(tmp_path: Path) -> None:
    test = kill_test.KillTest(tmp_path / "tuning.db", COMMAND, longest_s=3.0, seed=1)
    for victim in ("tuner", "worker", "tuner"):
        played = test.play(victim)
        assert played.is_good, played
    end = test.finish()
    assert end.is_good, end


def test_ctrl_c_ends_with_what_was_found(tmp_path: Path) -> None:
    database = tmp_path / "tuning.db"
    mark = {kill_test.MARK: str(tmp_path)}
    tuner = start(database, "--trials", "100000", env={**os.environ, **mark})
    kill_test.wait_until(lambda: len(schedules(database)) >= 5, 60.0)
    os.killpg(tuner.pid, signal.SIGINT)  # as a terminal does it
    code, stdout, stderr = ended(tuner)
    assert code == 130, stderr
    assert "GFLOP/s" in stdout and "Traceback" not in stderr
    kill_test.wait_until(lambda: not kill_test.marked(str(tmp_path)), 10.0)
    assert kill_test.marked(str(tmp_path)) == []
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT outcome FROM sessions").fetchall() == [("interrupted",)]
    assert check(database) == []


def test_a_full_disk_is_told_and_earlier_rows_survive(tmp_path: Path) -> None:
    """The largest file that a process may write stands for the disk."""
    database = tmp_path / "tuning.db"
    assert ended(start(database, "--trials", "6"))[0] == 0
    before = schedules(database)
    room = database.stat().st_size + (8 << 10)
    tuner = start(
        database,
        "--trials",
        "3000",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    code, _, stderr = ended(tuner)
    assert code == 2
    assert stderr.splitlines()[-1].startswith("autotune: ") and "Traceback" not in stderr
    assert str(database) in stderr and "disk" in stderr
    after = schedules(database)
    assert after[: len(before)] == before and len(after) > len(before)
    assert check(database) == []
    assert ended(start(database, "--trials", str(len(after) + 3)))[0] == 0
    assert len(set(schedules(database))) == len(schedules(database)) == len(after) + 3


class Locking(SilentObserver):
    """Takes the write lock of the database at the third trial."""

    def __init__(self, database: Path) -> None:
        self.connection = sqlite3.connect(database, isolation_level=None)
        self.seen: list[TuningRecord] = []

    def trial(self, record: TuningRecord, progress: Progress) -> None:
        self.seen.append(record)
        if len(self.seen) == 3:
            self.connection.execute("BEGIN EXCLUSIVE")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = TuningDatabase.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "busy_timeout_s", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_database_locked_for_long_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    database = tmp_path / "tuning.db"
    observer = Locking(database)
    with closing(observer.connection):
        with pytest.raises(DatabaseBusyError, match="another process is writing"):
            api.tune(WORKLOAD, device=DEVICE, database=database, trials=9, observer=observer)
    with TuningDatabase(database) as store:
        assert list(store.records(kinds={Kind.SEARCH})) == observer.seen
    result = api.tune(WORKLOAD, device=DEVICE, database=database, trials=5)
    assert (result.progress.resumed, result.outcome) == (3, "finished")


def test_a_database_locked_for_a_while_is_waited_for(tmp_path: Path) -> None:
    database = tmp_path / "tuning.db"
    with TuningDatabase(database):
        pass
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        tuner = start(database, "--trials", "4")
        with pytest.raises(subprocess.TimeoutExpired):
            tuner.wait(3.0)
        other.execute("COMMIT")
        assert ended(tuner)[0] == 0
    assert len(schedules(database)) == 4
