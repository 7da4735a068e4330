"""The benchmarks of NVIDIA GPUs, on simulated devices: what they choose, run, and write."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from scripts import script

from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.local_runner import LocalRunner
from autotune.peaks import Peaks
from records import Kind, Schedule, Target, TuningRecord
from records.measurement import Measurement, Status
from records.record import utc_now
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.dialect import CUDA
from search_spaces.matmul.parameters import ACCUMULATORS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RUN = BENCHMARKS / "h200_run.sh"
H200 = Target.of(
    "cuda",
    "an H200",
    "sm_90a",
    {
        "kind": "gpu",
        "units": 132,
        "max_group": 1024,
        "shared_bytes": 232448,
        "registers": 65536,
        "max_unit_threads": 2048,
        "warp": 32,
        "vector_bytes": 16,
        "dtypes": tuple(ACCUMULATORS),
    },
)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return script(BENCHMARKS / "cuda_matmul.py")


@pytest.fixture
def correctness() -> ModuleType:
    return script(BENCHMARKS / "cuda_correctness.py")


@pytest.fixture
def run(table: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command, in an empty directory."""

    def command(*words: str) -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["cuda_matmul.py", "--device", "sim:steady", *words])
        return int(table.main())

    return command


def test_a_shape_is_tuned_raced_written_and_exported(
    run: Callable[..., int], tmp_path: Path
) -> None:
    shape = ("--shapes", "float16/512*,int8/*", "--trials", "2")
    assert run(*shape, "--tune-only") == 0
    assert run(*shape, "--bench-only", "--rounds", "2", "--write", "page.md") == 0
    assert run(*shape, "--export", "data") == 0
    page = (tmp_path / "page.md").read_text()
    assert "| float16/512x512x512 | stored |" in page
    assert "Falls short:\n- int8/4096x4096x4096: not measured: " in page
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["float16-512x512x512.jsonl.gz"]
    with TuningDatabase(tmp_path / "other.db") as store:
        assert store.import_(tmp_path / "data" / "float16-512x512x512.jsonl.gz").added >= 2


def test_where_nothing_can_be_measured_it_fails(run: Callable[..., int]) -> None:
    assert run("--shapes", "int8/*", "--tune-only") == 1
    assert run("--shapes", "int8/*", "--bench-only") == 1


def test_every_case_of_plain_products_has_a_template(table: ModuleType) -> None:
    templates = registry.templates("matmul")
    names = [case.name for case in table.CASES]
    assert len(set(names)) == len(names)
    lacking = [
        case.name
        for case in table.CASES
        if all(template.rejects(case.workload, H200) for template in templates)
    ]
    assert all(name.startswith("int4/") for name in lacking)


def raced(table: ModuleType, name: str, **times_s: float) -> object:
    """A row of the table; `times_s` by contender."""
    [case] = [case for case in table.CASES if case.name == name]
    record = TuningRecord(
        case.workload,
        H200,
        Schedule.of("wgmma", 1, {}),
        Measurement.ok((times_s["autotune"],)),
        utc_now(),
        Kind.FINAL,
    )
    ours = Standing("autotune", (times_s.pop("autotune"),))
    rivals = tuple(
        (Standing(rival, (time_s,)), Ratio(time_s / (ours.time_s or 1.0), None))
        for rival, time_s in times_s.items()
    )
    result = BenchResult(case.workload, H200, record, ours, rivals, ())
    peaks = Peaks(4.0e12, {"bfloat16": 800e12})
    return table.Row(case, 7, result, peaks)


def test_the_page_gives_rates_ratios_and_what_falls_short(table: ModuleType) -> None:
    fast = raced(table, "bfloat16/4096x4096x4096", autotune=2e-4, cublas=4e-4, cublaslt=2.2e-4)
    slow = raced(table, "bfloat16/1x8192x8192", autotune=5e-5, cublas=4e-5, triton=3e-5)
    lines = [*table.page([fast, slow], ["- int8/4096x4096x4096: not measured: why"])]
    assert "| 687.2 | 86% | 624.7 (cublaslt) | **1.100** | - |" in "\n".join(lines)
    assert "| 67% |" in "\n".join(lines)  # 2 · 8192² bytes in 50 µs, of 4 TB/s
    assert f"Geometric mean over 2: {(1.1 * 0.8) ** 0.5:.3f} × cuBLAS (goal 1.05)." in lines
    assert lines[-3:] == [
        "Falls short:",
        "- bfloat16/1x8192x8192: 0.800 × cublas, goal 1.0; 0.600 × Triton; "
        "67% of the copy bandwidth, goal 90%",
        "- int8/4096x4096x4096: not measured: why",
    ]


def test_every_template_meets_every_dtype_and_layout_before_a_second_size(
    correctness: ModuleType,
) -> None:
    pairs = [*correctness.combinations(H200, CUDA)]
    assert {template.name for template, _ in pairs} == {
        template.name for template in registry.templates("matmul") if "cuda" in template.dialects
    }
    assert {workload["dtype"] for _, workload in pairs} == set(ACCUMULATORS)
    ordered = correctness.evenly(pairs, seed=0)
    assert len(ordered) == len(pairs)
    kinds = {_kind(*pair) for pair in pairs}
    assert {_kind(*pair) for pair in ordered[: len(kinds)]} == kinds


def _kind(template: SimpleNamespace, workload: object) -> tuple[object, ...]:
    params = dict(workload.params)  # type: ignore[attr-defined]
    return (template.name, *((name, params[name]) for name in params if name not in "mnk"))


def test_correctness_counts_what_fails(
    correctness: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoilt(runner: LocalRunner, wanted: object, time_limit_s: float) -> object:
        for tried, measurement in real(runner, wanted, time_limit_s):
            failed = Measurement.failed(Status.WRONG_RESULT, "c: 1 of 9 elements are off")
            yield tried, measurement if next(fates) else failed

    real, fates = correctness.run, iter((True, False, True))
    argv = ["x", "--device", "sim:steady", "--limit", "3", "--samples", "1"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(correctness, "run", spoilt)
    assert correctness.main() == 1
    out = capsys.readouterr().out
    assert "3 of 3 runs: 2 right, 1 failed" in out
    assert "wrong_result: portable: matmul(" in out
    monkeypatch.setattr(correctness, "run", real)
    assert correctness.main() == 0


# The script that runs it all


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(RUN), *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_the_steps_are_shown_and_each_stays_below_nine_minutes() -> None:
    done = shell("--dry-run", "--wheels", "some/wheels", "all", TUNE_S="11")
    assert done.returncode == 0, done.stderr
    steps = [line[3:] for line in done.stdout.splitlines() if line.startswith("== ")]
    assert steps == ["verify", "correct", "tune-1", "tune-2", "bench", "export"]
    assert "some/wheels/*.whl" in done.stdout
    assert done.stdout.count("--time-limit 11 ") == 2
    for step in done.stdout.split("== ")[1:]:
        limits_s = [int(line[1:5]) for line in step.splitlines() if line.startswith("[")]
        assert 0 < sum(limits_s) < 9 * 60


@pytest.mark.parametrize("words", [(), ("nonsense",)])
def test_what_is_no_step_is_refused_with_the_usage(words: tuple[str, ...]) -> None:
    done = shell(*words)
    assert done.returncode == 2
    assert "--dry-run" in done.stderr


def test_a_step_that_fails_stops_no_other_and_logs_come_home(tmp_path: Path) -> None:
    commands, out = tmp_path / "commands", tmp_path / "out"
    commands.mkdir()
    out.mkdir()
    python = commands / "python3"
    python.write_text('#!/bin/sh\necho "ran $*"\ncase "$*" in *verify*) exit 3 ;; esac\n')
    python.chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    words = ("--work", str(tmp_path / "work"), "--wheels", str(tmp_path / "none"))
    done = shell(*words, "verify", "export", PATH=path, OUT=str(out))
    assert done.returncode == 1
    assert "no wheels" in done.stderr
    assert "ran benchmarks/cuda_matmul.py" in done.stdout
    assert done.stdout.endswith("failed: verify\n")
    with tarfile.open(out / "logs.tar.gz") as logs:
        assert {"./verify.log", "./export.log"} <= set(logs.getnames())
    assert shell(*words, "export", PATH=path, OUT=str(out)).returncode == 0


def test_the_tuning_steps_cover_every_case(table: ModuleType) -> None:
    done = shell("--dry-run", "tune-1", "tune-2")
    patterns = [line.rpartition(" ")[2] for line in done.stdout.splitlines() if "--shapes" in line]
    parts = [
        [case.name for case in table.CASES if table._is_chosen(case, pattern)]
        for pattern in patterns
    ]
    assert sorted(name for part in parts for name in part) == sorted(
        case.name for case in table.CASES
    )
