"""How numbers, workloads and a running session read."""

from __future__ import annotations

import io
import re
from collections import Counter

import pytest
from rich.console import Console

from autotune.cli import text
from autotune.cli.live import LiveView
from autotune.contest import Ratio
from autotune.model_report import Candidates, ModelReport
from autotune.session import Context, Progress
from cost_model.outlook import Outlook
from cost_model.track_record import Recall
from records import Measurement, Schedule, Status, Target, TuningRecord, Workload
from search_spaces.matmul.workload import matmul

WORKLOAD = matmul(m=1000, n=1000, k=1000)
TARGET = Target.of("sim", "a [bold]device[/bold]", "sim", {})


@pytest.mark.parametrize(
    ("time_s", "words"),
    [(None, "-"), (2.5, "2.5 s"), (0.0471, "47.1 ms"), (4.76e-5, "47.6 µs"), (8e-9, "8 ns")],
)
def test_seconds(time_s: float | None, words: str) -> None:
    assert text.seconds(time_s) == words


@pytest.mark.parametrize(
    ("time_s", "words"),
    [(0.2, "0 s"), (42, "42 s"), (59.7, "1 min 00 s"), (125, "2 min 05 s"), (3720, "1 h 02 min")],
)
def test_duration(time_s: float, words: str) -> None:
    assert text.duration(time_s) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, "not told"), (64, "64 B"), (48 << 10, "48 KiB"), (3 << 39, "1.5 TiB")],
)
def test_size(count: float | None, words: str) -> None:
    assert text.size(count) == words


def test_rate() -> None:
    assert text.rate(WORKLOAD, 0.01) == "200.0 GFLOP/s"
    assert text.rate(WORKLOAD, 2.0) == "1 GFLOP/s"
    assert text.rate(WORKLOAD, None) == "-"
    assert text.rate(Workload.of("conv", {}), 1.0) == "-"


def test_ratio() -> None:
    assert text.ratio(Ratio(1.07, 0.01)) == "1.070 ± 0.011 times as fast"
    assert text.ratio(Ratio(1.07, None)) == "1.070 times as fast"
    assert text.ratio(Ratio(1.07, 9.0)) == "1.070 times as fast, too unsteady to tell"


def test_counted() -> None:
    assert text.counted(1, "trial") == "1 trial"
    assert text.counted(2000, "trial") == "2,000 trials"


def test_a_name_says_what_is_not_default() -> None:
    assert text.name(WORKLOAD) == "matmul 1000×1000×1000 float32"
    assert text.name(matmul(m=1, n=2, k=3, dtype="float16")) == "matmul 1×2×3 float16"
    assert "accumulate float16" in text.name(
        matmul(m=1, n=2, k=3, dtype="float16", accumulate="float16")
    )
    assert text.name(Workload.of("conv", {"c": 3})) == "conv(c=3)"


REPORT = ModelReport(
    True, "followed", 0.93, Recall(7, 5, 20), 0.48, 0.86, 1.2, 20,
    Candidates(2000, 1990, 4), Outlook(50, 0.004, 0.22),
)  # fmt: skip


def progress(done: int, best: TuningRecord | None = None) -> Progress:
    counts = Counter({Status.OK: done - 1, Status.CRASHED: 1}) if done else Counter[Status]()
    return Progress(done, 50, 0, counts, best, 10.0, None, REPORT if done else None)


def record(measurement: Measurement) -> TuningRecord:
    schedule = Schedule.of("t", 1, {})
    return TuningRecord(WORKLOAD, TARGET, schedule, measurement, "2026-01-01T00:00:00.000")


def shown(*, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, markup=False)
    best = record(Measurement.ok((0.01,), environment={}))
    failed = record(
        Measurement.failed(Status.CRASHED, "killed by [red]SIGSEGV\nmore", environment={})
    )
    with LiveView(console) as view:
        view.started(Context(WORKLOAD, TARGET, {"numpy": 0.011}, 0.005), progress(0))
        view.notice("random until there is enough data")
        view.trial(failed, progress(10, best))
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def test_the_live_view() -> None:
    seen = shown(terminal=True)
    last = seen[seen.rindex("trials") :]
    assert "matmul 1000×1000×1000 float32 on sim:a [bold]device[/bold]" in seen
    assert "10 of 50  (1 crashed)" in last
    assert "200.0 GFLOP/s, 10 ms, 50% of the roofline, 1.10 × numpy" in last
    assert "10 s, about 40 s left" in last
    assert "93% of pairs right; 5 of 7 in the top 10 foreseen; 48%, 86% in 50, 90 %" in last
    assert "99.5% left out; chance that a faster one is left 22%; 50 more: +0.4%" in last
    assert "crashed: killed by [red]SIGSEGV" in last
    assert "random until there is enough data" in seen


def test_no_terminal_no_view() -> None:
    assert shown(terminal=False).strip() == ""
