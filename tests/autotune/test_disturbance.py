"""Runs that other processes disturb are made again."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autotune import disturbance

SCHEDSTAT = Path("/proc/self/schedstat")


def scripted(monkeypatch: pytest.MonkeyPatch, waits_s: list[float]) -> None:
    """Each run finds that this much more waiting has been done."""
    total_s = [0.0]
    for wait_s in waits_s:
        total_s += [total_s[-1], total_s[-1] + wait_s]
    readings = iter(total_s[1:])
    monkeypatch.setattr(disturbance, "waited_s", lambda: next(readings))
    clock_s = itertools.count(0.0)
    monkeypatch.setattr(disturbance.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(disturbance.time, "perf_counter", lambda: next(clock_s))


def test_a_calm_run_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.0])
    assert disturbance.calm(lambda: 1.0) == disturbance.Timed(1.0, disturbed=False)


def test_a_disturbed_run_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, 0.5, 0.01])
    times_s = iter([1.4, 1.3, 1.0])
    assert disturbance.calm(lambda: next(times_s)) == disturbance.Timed(1.0, disturbed=False)


def test_the_fastest_counts_where_it_is_never_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1.0] * disturbance.ATTEMPTS)
    times_s = iter([1.4, 1.2, 1.3, 1.5])
    assert disturbance.calm(lambda: next(times_s)) == disturbance.Timed(1.2, disturbed=True)


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="this system does not tell how long one waits")
def test_waiting_for_a_core_is_seen() -> None:
    """Two processes at work on one core wait for each other."""
    script = """
import os, time
from autotune.disturbance import waited_s
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
def work():
    end = time.process_time() + 0.2
    while time.process_time() < end: pass
before_s, child = waited_s(), os.fork()
if child == 0:
    work()
    os._exit(0)
work()
os.waitpid(child, 0)
print(waited_s() - before_s)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) > 0.02


def test_sleeping_is_not_waiting() -> None:
    before_s = disturbance.waited_s()
    time.sleep(0.05)
    assert disturbance.waited_s() - before_s < 0.05
