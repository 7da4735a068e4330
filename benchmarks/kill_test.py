"""kill -9 of the tuner, or of one of its workers, at random moments: what is lost?

    python benchmarks/kill_test.py [--rounds 20] [--device NAME] [--size 64] [--seed 0]

Each round starts `autotune tune` on the same database, kills a process after a random time, and
compares the rows that were in the file just before with those afterwards. A killed worker must
not end the search, a killed tuner must leave no process behind. At the end the search is run to
its end: sound database, every schedule measured once. Prints a Markdown table; exit code 1 where
anything was lost, left or measured twice.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from records.store import TuningDatabase

ROOT = Path(__file__).resolve().parents[1]
MARK = "AUTOTUNE_KILL_TEST"  # in the environment of a round's tuner and of all that it starts
UNBOUNDED = 100_000  # trials: no round comes to its end
MORE = 10  # trials of the last run, which must end by itself
PATIENCE_S = 60.0
_TUNE = "import sys; from autotune.cli import main; main(['tune', 'matmul', *sys.argv[1:]])"


@dataclass(frozen=True)
class Round:
    """What became of one kill. `lost`: rows that were there before and are not any more."""

    victim: str
    after_s: float
    before: int
    after: int
    lost: int
    orphans: int
    went_on: bool

    @property
    def is_good(self) -> bool:
        return not self.lost and not self.orphans and self.went_on


@dataclass(frozen=True)
class End:
    """The last run. `again`: search trials of a schedule measured before in its environment."""

    exit_code: int
    trials: int
    again: int
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not (self.exit_code or self.again or self.problems)


class KillTest:
    """Rounds on one database. `longest_s`: the latest moment of a kill, seconds after the start."""

    def __init__(self, database: Path, tune: Sequence[str], longest_s: float, seed: int) -> None:
        self._database = database
        self._tune = [sys.executable, "-c", _TUNE, *tune, "--db", str(database)]
        self._longest_s = longest_s
        self._random = random.Random(seed)
        self._rounds = 0

    def play(self, victim: str) -> Round:
        """One start of the tuner and one kill, of `"tuner"` or `"worker"`."""
        self._rounds += 1
        mark = f"{os.getpid()}-{self._rounds}"
        after_s = self._random.uniform(0.3, self._longest_s)
        tuner = self._start(UNBOUNDED, mark)
        time.sleep(after_s)
        workers = [pid for pid in marked(mark) if pid != tuner.pid]
        before = self._rows()
        went_on = True
        if victim == "worker" and workers:
            kill(self._random.choice(workers))
            went_on = self._goes_on(tuner, len(before))
        tuner.kill()
        tuner.wait()
        wait_until(lambda: not marked(mark), 10.0)
        orphans, after = marked(mark), self._rows()
        for pid in orphans:
            kill(pid)
        return Round(
            victim if workers or victim == "tuner" else "tuner (no worker yet)",
            after_s,
            len(before),
            len(after),
            len(before - after),
            len(orphans),
            went_on,
        )

    def finish(self) -> End:
        """Run the search to its end."""
        done = self._count("SELECT count(DISTINCT schedule_key) FROM trials WHERE kind = 'search'")
        tuner = self._start(done + MORE, "end")
        exit_code = tuner.wait(10 * PATIENCE_S)
        with TuningDatabase(self._database) as database:
            problems = tuple(database.check())
        again = self._count(
            "SELECT count(*) - count(DISTINCT schedule_key || '/' || environment_id) "
            "FROM trials WHERE kind = 'search'"
        )
        trials = self._count("SELECT count(*) FROM trials WHERE kind = 'search'")
        if trials != done + MORE:
            problems = (*problems, f"{trials} trials, not {done + MORE}")
        return End(exit_code, trials, again, problems)

    def _start(self, trials: int, mark: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._tune, "--trials", str(trials)],
            cwd=ROOT,
            env={**os.environ, MARK: mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _goes_on(self, tuner: subprocess.Popen[bytes], rows: int) -> bool:
        """Whether a new trial comes while the tuner lives."""
        wait_until(lambda: len(self._rows()) > rows or tuner.poll() is not None, PATIENCE_S)
        return tuner.poll() is None and len(self._rows()) > rows

    def _rows(self) -> set[tuple[int, str]]:
        if not self._database.exists():
            return set()
        with closing(sqlite3.connect(self._database, timeout=10.0)) as connection:
            if not connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'trials'"
            ).fetchall():
                return set()
            return set(connection.execute("SELECT id, schedule_key FROM trials"))

    def _count(self, sql: str) -> int:
        with closing(sqlite3.connect(self._database)) as connection:
            return int(connection.execute(sql).fetchone()[0])


def marked(mark: str) -> list[int]:
    """Processes that live and have inherited the mark, wherever their parents are. Linux only."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and wanted in (entry / "environ").read_bytes().split(b"\0")
                and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            ):
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)


@click.command(help=__doc__)
@click.option("--rounds", default=20, show_default=True)
@click.option("--device", default=None, help="[default: the fastest usable one]")
@click.option("--size", default=64, show_default=True, help="Of the square matmul.")
@click.option("--longest", "longest_s", default=12.0, show_default=True, help="Latest kill, s.")
@click.option("--seed", default=0, show_default=True)
def main(rounds: int, device: str | None, size: int, longest_s: float, seed: int) -> None:
    tune = [f"-{letter}{size}" for letter in "mnk"] + (["--device", device] if device else [])
    good = True
    with tempfile.TemporaryDirectory() as directory:
        test = KillTest(Path(directory) / "tuning.db", tune, longest_s, seed)
        click.echo("| killed | after s | rows before | rows after | lost | orphans | went on |")
        click.echo("|---|---|---|---|---|---|---|")
        for number in range(rounds):
            each = test.play("worker" if number % 2 else "tuner")
            good = good and each.is_good
            went_on = "yes" if each.went_on else "**no**"
            click.echo(
                f"| {each.victim} | {each.after_s:.1f} | {each.before} | {each.after} "
                f"| {each.lost} | {each.orphans} | {went_on} |"
            )
        end = test.finish()
    click.echo(
        f"\nThe last run ended with exit code {end.exit_code}: {end.trials} trials, "
        f"{end.again} measured again, database {'; '.join(end.problems) or 'sound'}."
    )
    sys.exit(0 if good and end.is_good else 1)


if __name__ == "__main__":
    main()
