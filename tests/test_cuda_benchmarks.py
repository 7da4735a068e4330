"""The benchmarks of NVIDIA GPUs, on simulated devices: what they choose, run, and write."""

from __future__ import annotations

import os
import re
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
def races(table: ModuleType) -> ModuleType:
    """What the tables share; on the path with them."""
    return sys.modules["cuda_races"]


@pytest.fixture
def correctness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
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
    shape = ("--shapes", "float16/512*,int8/*", "--trials", "2", "--problems", "kept")
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


def test_the_page_gives_rates_ratios_and_what_falls_short(
    table: ModuleType, races: ModuleType
) -> None:
    fast = raced(table, "bfloat16/4096x4096x4096", autotune=2e-4, cublas=4e-4, cublaslt=2.2e-4)
    slow = raced(table, "bfloat16/1x8192x8192", autotune=5e-5, cublas=4e-5, triton=3e-5)
    eased = raced(table, "int4/128x8192x8192", autotune=1e-5, cublas=4e-5, tinygemm=2e-5)
    absent = ["- int8/4096x4096x4096: not measured: why"]
    lines = [*races.page(table.TABLE, [fast, slow, eased], absent)]
    assert "| 687.2 | 86% | 624.7 (cublaslt) | **1.100** | - |" in "\n".join(lines)
    assert "| **0.800** | triton **0.600** |" in "\n".join(lines)
    assert "| **4.000** | tinygemm **2.000** |" in "\n".join(lines)  # which no mean counts
    assert "| 67% |" in "\n".join(lines)  # 2 · 8192² bytes in 50 µs, of 4 TB/s
    assert f"Geometric mean over 2: {(1.1 * 0.8) ** 0.5:.3f} × cuBLAS (goal 1.05)." in lines
    assert lines[-3:] == [
        "Falls short:",
        "- bfloat16/1x8192x8192: 0.800 × cublas, goal 1.0; 0.600 × triton; "
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


def limits_s(shown: str) -> list[int]:
    return [int(line[1:5]) for line in shown.splitlines() if line.startswith("[")]


def test_all_steps_end_within_25_minutes_each_within_nine() -> None:
    done = shell("--dry-run", "--wheels", "some/wheels", "all")
    assert done.returncode == 0, done.stderr
    steps = [line[3:] for line in done.stdout.splitlines() if line.startswith("== ")]
    assert steps == ["verify", "correct", "tune-1", "tune-2", "bench", "export"]
    assert "some/wheels/*.whl" in done.stdout
    for step in done.stdout.split("== ")[1:]:
        assert 0 < sum(limits_s(step)) < 9 * 60
    killing_s = 5 * len(limits_s(done.stdout))
    assert sum(limits_s(done.stdout)) + killing_s < 25 * 60


def test_what_a_step_asks_of_itself_ends_before_it_is_killed() -> None:
    shown = shell("--dry-run", "all", "triton").stdout
    asked = re.findall(r"\[ *(\d+) s\].*--(?:deadline|time-limit) (\d+)", shown)
    assert len(asked) == 6
    assert all(int(own_s) + 10 < int(limit_s) for limit_s, own_s in asked)


def test_every_step_has_a_function_and_stands_in_the_usage() -> None:
    listed = re.findall(r"^([a-z]\S*) +\d+ (?:all|-) ", RUN.read_text(), re.MULTILINE)
    assert len(listed) >= 7
    for step in listed:
        assert len(limits_s(shell("--dry-run", step).stdout)) >= 2  # with the installing
    assert all(step in shell("--help").stdout for step in listed)


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


def test_the_time_that_a_step_leaves_goes_to_the_next(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$*"\n')
    python.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    words = ("--work", str(tmp_path / "work"), "--wheels", str(tmp_path / "none"))
    done = shell(*words, "verify", "export", "bench", "tune-1", PATH=path)
    given_s = [int(each) for each in re.findall(r"== \S+: \d+ of (\d+) s", done.stdout)]
    alone_s = [limits_s(shell("--dry-run", step).stdout)[-1] for step in ("verify", "export")]
    assert given_s[0] == alone_s[0]
    assert sum(alone_s) - 30 < given_s[1] <= sum(alone_s)
    assert given_s[3] == 530  # and no step gets more
    assert f"--deadline {given_s[3] - 15} " in done.stdout


# Time that is shared out


def shares(limit_s: float, spent_s: list[float], weights: list[float]) -> list[float]:
    """What each thing is given, where it then takes `spent_s`."""
    elapsed, given = SimpleNamespace(s=0.0), []
    module = script(BENCHMARKS / "shares.py")
    planned = module.Shares(limit_s, weights, least_s=5.0, clock=lambda: elapsed.s)
    for share_s, taken_s in zip(planned, spent_s, strict=True):
        given.append(share_s)
        elapsed.s += taken_s
    return given


def test_time_is_shared_by_weight_and_what_is_left_goes_on() -> None:
    assert shares(100.0, [20.0, 60.0, 20.0], [1, 3, 1]) == [20.0, 60.0, 20.0]
    assert shares(100.0, [0.0, 50.0, 50.0], [1, 1, 1]) == pytest.approx([100 / 3, 50.0, 50.0])
    assert shares(float("inf"), [1.0, 1.0], [1, 2]) == [float("inf")] * 2


def test_who_takes_too_long_leaves_less_or_nothing() -> None:
    assert shares(100.0, [80.0, 16.0, 0.0], [1, 1, 1]) == pytest.approx([100 / 3, 10.0, 0.0])


def test_a_deadline_bounds_tuning_and_says_what_it_left(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--shapes", "float16/512*,float16/1x*", "--tune-only", "--deadline", "1") == 1
    assert capsys.readouterr().out.count("no time left") == 2


def test_the_tuning_steps_cover_every_case(table: ModuleType, races: ModuleType) -> None:
    done = shell("--dry-run", "tune-1", "tune-2")
    patterns = [line.rpartition(" ")[2] for line in done.stdout.splitlines() if "--shapes" in line]
    parts = [
        [case.name for case in table.CASES if races.is_chosen(case, pattern)]
        for pattern in patterns
    ]
    assert sorted(name for part in parts for name in part) == sorted(
        case.name for case in table.CASES
    )
