"""`autotune tune` on simulated devices: what it prints, resumes, and leaves when interrupted."""

from __future__ import annotations

import os
import select
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from command_line import ROOT, SIZES, STEADY, TRIALS, Run, interrupt, start

from autotune import api, peaks, stopping
from autotune.peaks import Peaks
from autotune.session import Context, Progress, TuningResult
from autotune.testing import devices
from records import Status, Target
from records.store import TuningDatabase
from search_spaces.matmul.workload import matmul

LONG = ("tune", "matmul", "-m", "64", "-n", "64", "-k", "64", "--device", "sim:noisy")
ENDLESS = (*LONG, "--trials", "100000", "--strategy", "random", "--model", "none")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_the_summary_and_nothing_else_where_nobody_looks(run: Run) -> None:
    outcome = run("tune", *STEADY, "--trials", "3", "--model", "none")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "matmul 16×16×16 float32 on sim:steady"
    assert {line.split()[0] for line in lines[1:]} >= {"outcome", "trials", "best", "schedule"}
    assert "3 of 3: 3 ok" in outcome.out
    assert "\x1b" not in outcome.out
    assert not any(line.endswith(" ") for line in lines)


def test_the_same_command_goes_on(run: Run, tuned: Path) -> None:
    outcome = run("tune", *STEADY, "--trials", str(TRIALS + 2), "--json")
    assert outcome.code == 0
    assert (outcome.json["trials"], outcome.json["resumed"]) == (TRIALS + 2, TRIALS)


def test_a_complete_one_says_so_and_how_to_go_on(run: Run, tuned: Path) -> None:
    outcome = run("tune", *STEADY, "--trials", str(TRIALS))
    assert outcome.code == 0
    assert f"complete before; to go on, give --trials more than {TRIALS}" in outcome.out
    assert f"{TRIALS} of them from before" in outcome.out


def test_a_time_limit_says_how_to_go_on(run: Run) -> None:
    outcome = run("tune", *STEADY, "--time-limit", "0.01s", "--model", "none", "--json")
    assert outcome.json["outcome"] == "time limit"


def test_little_to_gain_says_so_and_the_model_shows_its_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "LEAST", 16)
    words = (*LONG, "--no-compare", "--trials", "36")
    outcome = run(*words, "--stop-gain", "1000%")
    assert outcome.code == 0, outcome.err
    assert "of 36 trials: another 50 trials are expected to gain" in outcome.out
    assert "without --stop-gain the same command goes on" in outcome.out
    assert "the cost model is followed" in outcome.out
    assert "inside their 90 % intervals" in outcome.out
    assert "were left out" in outcome.out
    told = run(*words, "--json").json["model"]
    assert told["followed"] and 0.0 <= told["outlook"]["gain"]
    assert told["candidates"]["left_out"] < told["candidates"]["considered"]


def test_what_is_noticed_before_the_search_is_told_where_nobody_looks(run: Run) -> None:
    outcome = run(*LONG, "--trials", "12", "--strategy", "tabu", "--model", "xgboost")
    assert "tabu follows measurements alone: no cost model has a part" in outcome.out
    words = ("tune", "matmul", "-m", "32", *LONG[4:], "--trials", "3", "--json")
    assert "knows 12 trials of 1 workload on 1 device" in " ".join(run(*words).json["notices"])


@pytest.mark.parametrize("share", ["0.5", "0%", "much"])
def test_a_gain_to_stop_at_is_a_percentage(run: Run, share: str) -> None:
    outcome = run("tune", *STEADY, "--stop-gain", share)
    assert outcome.code == 2
    assert "write 0.5%" in outcome.err


def test_nothing_that_works_is_a_failed_check(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    workload, target = matmul(m=16, n=16, k=16), Target.of("sim", "broken", "sim", {})
    progress = Progress(7, 7, 0, Counter({Status.CRASHED: 7}), None, 3.0, None)
    result = TuningResult(Context(workload, target), None, (), progress, "finished")
    monkeypatch.setattr(api, "tune", lambda workload, **options: result)
    outcome = run("tune", *STEADY)
    assert outcome.code == 1
    assert "7 of 7: 7 crashed" in outcome.out
    assert "no schedule passed: see `autotune db info`" in outcome.out
    assert run("tune", *STEADY, "--json").json["best"] is None


def test_json_is_all_there_is_on_stdout(run: Run, tuned: Path) -> None:
    outcome = run("tune", *STEADY, "--trials", str(TRIALS), "--json")
    assert outcome.err == ""
    assert set(outcome.json) == {
        "workload", "target", "outcome", "database", "trials", "resumed", "counts", "elapsed_s",
        "best", "ties", "ratios", "model", "notices",
    }  # fmt: skip
    assert outcome.json["counts"] == {"ok": TRIALS}
    assert outcome.json["best"]["gflops"] > 0
    assert outcome.json["best"] == run("best", *STEADY, "--json").json


@pytest.mark.parametrize("name", devices.names("opencl")[:1])
def test_a_real_device(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "probe", lambda name: Peaks(1e10, {"float32": 1e11}))  # seconds
    words = ("matmul", *SIZES, "--epilogue", "bias,relu", "--device", name)
    tuned = run("tune", *words, "--trials", "2", "--model", "none", "--no-compare")
    assert tuned.code == 0, tuned.err
    assert "matmul 16×16×16 float32 +bias+relu on opencl:" in tuned.out
    assert "2 of 2" in tuned.out
    assert "of the roofline" in tuned.out
    with TuningDatabase("tuning.db", read_only=True) as store:
        assert [*store.peaks().values()] == [Peaks(1e10, {"float32": 1e11})]


@linux_only
def test_ctrl_c_ends_with_what_was_found(tmp_path: Path) -> None:
    process = start(*ENDLESS, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait_for_trials(tmp_path / "tuning.db")
    workers = _children(process.pid)
    interrupt(process)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert "interrupted" in out and "the same command goes on" in out
    assert "GFLOP/s" in out
    assert workers
    assert [pid for pid in workers if _lives(pid)] == []
    with TuningDatabase(tmp_path / "tuning.db", read_only=True) as store:
        assert store.check() == []
        assert sum(1 for _ in store.records()) > 0


@linux_only
def test_ctrl_c_before_anything_was_measured(tmp_path: Path) -> None:
    process = start(*ENDLESS, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait_until((tmp_path / "tuning.db").exists)
    interrupt(process)
    process.communicate(timeout=20)
    assert process.returncode == 130


@linux_only
def test_the_second_ctrl_c_ends_at_once() -> None:
    code = f"""
import signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
from autotune.cli.interrupts import second_ends_at_once
with second_ends_at_once():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("first", flush=True)
        time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for said in ("ready\n", "first\n"):
        assert process.stdout.readline() == said
        interrupt(process)
    assert process.wait(timeout=20) == 130
    process.stdout.close()


def test_an_ignored_ctrl_c_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from autotune.cli.interrupts import second_ends_at_once

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with second_ends_at_once():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@linux_only
def test_a_terminal_shows_it_happening(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = start(
        *LONG, "--trials", "6", "--model", "none", stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    seen = _read_all(ours)
    assert process.stdout is not None
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=20) == 0
    assert "matmul 64×64×64 float32 on sim:noisy" in seen
    assert "of 6" in seen
    assert "GFLOP/s" in seen
    assert "\x1b[?25h" in seen.rpartition("\x1b[?25l")[2]  # the cursor is back
    assert out.startswith("matmul 64×64×64 float32 on sim:noisy\n")
    assert "\x1b" not in out


def _read_all(fd: int, timeout_s: float = 60.0) -> str:
    """Until the other side of the terminal closes."""
    read = b""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if select.select([fd], [], [], 0.5)[0]:
            try:
                read += os.read(fd, 1 << 16)
            except OSError:  # Linux: the last writer has closed it
                break
    os.close(fd)
    return read.decode()


def _wait_for_trials(path: Path, count: int = 3) -> None:
    def enough() -> bool:
        if not path.exists():
            return False
        try:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            try:
                found = connection.execute("SELECT count(*) FROM trials").fetchone()[0]
            finally:
                connection.close()
        except sqlite3.OperationalError:  # not made yet
            return False
        return bool(found >= count)

    _wait_until(enough)


def _wait_until(condition: object, timeout_s: float = 60.0) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
