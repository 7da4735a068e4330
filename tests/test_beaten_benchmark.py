"""The benchmark of beaten trials, on a session made up."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from records import Measurement, Schedule, Target, TuningRecord, Workload
from records.store import TuningDatabase

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STARTED = datetime(2030, 1, 31, tzinfo=UTC)


def trial(number: int, time_s: float) -> TuningRecord:
    """A trial a second, of ten runs as long."""
    return TuningRecord(
        Workload.of("made_up", {}),
        Target.of("sim", "made up", "made up", {}),
        Schedule.of("made_up", 1, {"number": number}),
        Measurement.ok((time_s,) * 10),
        (STARTED + timedelta(seconds=number)).isoformat(timespec="milliseconds"),
    )


def test_what_the_first_batch_beat_would_have_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    beaten = importlib.import_module("beaten")
    (tmp_path / "data").mkdir()
    with TuningDatabase(tmp_path / "tuning.db") as database:
        for number in range(24):
            database.add(trial(number, 0.010 if number < 12 else 0.012))
        database.export(tmp_path / "data" / "made-up.jsonl.gz")
    done = CliRunner().invoke(beaten.main, [str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    # 12 trials stop after 6 runs, steady as they are, 12 after 3
    saved_s, timed_s = 12 * 4 * 0.010 + 12 * 7 * 0.012, 12 * 10 * 0.022
    row = f"| 3 | {saved_s / timed_s:.0%} | {saved_s / 23:.0%} | 0.0% |"
    assert done.output.splitlines()[2:] == [f"| made-up {row}", f"| all {row}"]
