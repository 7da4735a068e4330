"""The benchmark of attention on NVIDIA GPUs, on simulated devices: its cases, rows and page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import script

from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.peaks import Peaks
from records import Kind, Schedule, Target, TuningRecord
from records.measurement import Measurement
from records.record import utc_now
from records.workload import Workload
from search_spaces import registry
from search_spaces.attention.parameters import BIASES, Parameters
from search_spaces.dialect import CUDA

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
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
        "warp": 32,
        "dtypes": ("float16", "bfloat16", "float32"),
    },
)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return script(BENCHMARKS / "cuda_attention.py")


def test_every_case_has_a_template_and_decode_one_of_its_own(table: ModuleType) -> None:
    templates = registry.templates("attention")
    assert len({case.name for case in table.CASES}) == len(table.CASES) == 21
    for case in table.CASES:
        serving = {each.name for each in templates if not each.rejects(case.workload, H200)}
        assert "mma_sync" in serving
        assert ("decode" in serving) == case.name.startswith("decode/")


def test_long_sequences_get_more_of_the_time(table: ModuleType) -> None:
    weights = {case.name: case.weight for case in table.CASES}
    assert weights["full/1x16x16384x128"] > 2 * weights["full/16x16x512x128"]


def raced(table: ModuleType, name: str, **times_s: float) -> object:
    """A row of the table; `times_s` by contender."""
    [case] = [case for case in table.CASES if case.name == name]
    measured = Measurement.ok((times_s["autotune"],))
    chosen = Schedule.of("decode", 1, {})
    record = TuningRecord(case.workload, H200, chosen, measured, utc_now(), Kind.FINAL)
    ours = Standing("autotune", (times_s.pop("autotune"),))
    rivals = tuple(
        (Standing(rival, (time_s,)), Ratio(time_s / (ours.time_s or 1.0), None))
        for rival, time_s in times_s.items()
    )
    result = BenchResult(case.workload, H200, record, ours, rivals, ())
    return table.Row(case, 7, result, Peaks(4.0e12, {"bfloat16": 800e12}))


def test_the_page_gives_rates_ratios_and_what_falls_short(table: ModuleType) -> None:
    """4 · 16 · 4096² · 4 · 128 operations; 8 · 32768 · 2 · 128 bf16 of K and V."""
    fast = raced(table, "full/4x16x4096x128", autotune=1e-3, sdpa_cudnn=1.1e-3, sdpa_flash=1.3e-3)
    slow = raced(table, "decode/1x32768", autotune=5e-5, sdpa_cudnn=4e-5)
    page = [*sys.modules["cuda_races"].page(table.TABLE, [fast, slow], [])]
    shown = "\n".join(page)
    assert (
        "| 549.8 TFLOP/s | 69% | 499.8 TFLOP/s (sdpa_cudnn) | **1.100** | sdpa_flash **1.300** |"
    ) in shown
    assert "| 2.68 TB/s | 67% | 3.36 TB/s (sdpa_cudnn) | **0.800** | - | decode |" in shown
    assert f"Geometric mean over 2: {(1.1 * 0.8) ** 0.5:.3f} × the best rival (goal 1.05)." in page
    assert page[-2:] == [
        "Falls short:",
        "- decode/1x32768: 0.800 × sdpa_cudnn, goal 1.0; 67% of the copy bandwidth, goal 85%",
    ]


def test_where_nothing_can_be_measured_it_fails(
    table: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--device", "sim:steady", "--shapes", "decode/1x4096", "--bench-only"]
    monkeypatch.setattr(sys, "argv", ["cuda_attention.py", *words])
    assert table.main() == 1


def test_every_template_meets_every_feature_before_a_second_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    correctness = script(BENCHMARKS / "cuda_correctness.py")
    pairs = [*correctness.combinations(H200, CUDA, "attention")]
    assert {template.name for template, _ in pairs} == {
        each.name for each in registry.templates("attention") if "cuda" in each.dialects
    }
    for template in ("portable", "mma_sync", "decode"):
        served = [Parameters.of(workload) for each, workload in pairs if each.name == template]
        assert {True, False} == {given.packed for given in served}
        assert {0, 16} == {given.page_size for given in served}
        assert set(BIASES) == {given.bias for given in served}
    ordered = correctness.evenly(pairs, seed=0)
    assert len(ordered) == len(pairs)
    kinds = {(each.name, _features(workload)) for each, workload in pairs}
    first = ordered[: len(kinds)]
    assert {(each.name, _features(workload)) for each, workload in first} == kinds


def _features(workload: Workload) -> tuple[object, ...]:
    sizes = ("q_len", "kv_len", "q_lens", "kv_lens", "head_dim", "v_dim")
    return tuple(value for value in workload.params if value[0] not in sizes)


def test_the_steps_of_the_script_end_in_time() -> None:
    steps = [f"attention-{step}" for step in ("correct", "tune", "bench", "export")]
    words = ["bash", str(BENCHMARKS / "h200_run.sh"), "--dry-run", *steps]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"== (\S+)", done.stdout) == steps
    limits_s = [int(each) for each in re.findall(r"^\[ *(\d+) s\]", done.stdout, re.M)]
    assert sum(limits_s) < 25 * 60
    assert max(limits_s) < 9 * 60
    asked = re.findall(r"\[ *(\d+) s\].*--(?:deadline|time-limit) (\d+)", done.stdout)
    assert len(asked) == 4
    assert all(int(own_s) + 10 < int(limit_s) for limit_s, own_s in asked)
    for command in re.findall(r"(benchmarks/cuda_\w+\.py)(.*)", done.stdout):
        assert "attention" in "".join(command)
