"""The benchmarks of CPUs: what they choose, run and write; memory on a real device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scripts import script

import autotune
from autotune import peaks
from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.device_names import is_simulator, list_devices
from records.measurement import Measurement
from records.record import TuningRecord, utc_now
from records.store import TuningDatabase
from search_spaces import registry

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def memory() -> ModuleType:
    return script(BENCHMARKS / "peak_memory.py")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory: ModuleType
) -> Callable[..., list[str]]:
    """`run(matmul, …)`: a benchmark on a simulated device, and the lines of its page.

    A simulated device has no peaks, no library runs on it, and it takes no memory.
    """
    bench = autotune.bench

    def with_rivals(*given: Any, **settings: Any) -> BenchResult:
        rivals = (
            (Standing("one", (2e-3,), details={"version": 3}), Ratio(2.0, 0.01)),
            (Standing("another", (1e-3,)), Ratio(1.0, None)),
        )
        return replace(bench(*given, **settings), rivals=rivals)

    found = peaks.Peaks(copy_bytes_per_s=1e9, flops_per_s={"float32": 1e9})
    monkeypatch.setattr(peaks, "probe", lambda device: found)
    monkeypatch.setattr(memory, "beyond_bytes", lambda *given: 3 << 19)

    def command(benchmark: ModuleType, *words: str) -> list[str]:
        page = tmp_path / "page.md"
        monkeypatch.setattr(autotune, "bench", with_rivals, raising=False)
        words = ("--device", "sim:steady", "--trials", "2", "--rounds", "2", *words)
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *words, "--write", str(page)])
        benchmark.main()
        return page.read_text().splitlines()

    return command


@pytest.fixture
def matmul() -> ModuleType:
    return script(BENCHMARKS / "cpu_matmul.py")


@pytest.fixture
def attention() -> ModuleType:
    return script(BENCHMARKS / "cpu_attention.py")


def test_matmul_is_tuned_raced_and_written(
    run: Callable[..., list[str]], matmul: ModuleType
) -> None:
    title, *_, heading, _, one, another = run(matmul, "--shape", "16x16x16")
    assert title == "# float32 matmul on a CPU"
    assert heading.startswith("| m×n×k | trials | tuning s | autotune GFLOP/s |")
    assert one.startswith("| 16×16×16 | 2 |")
    assert one.endswith("| one | 0.0 | **2.000×** ± 0.020 |")
    assert another.endswith("| another | 0.0 | **1.000×** |")


def test_attention_is_tuned_raced_and_written_with_its_memory(
    run: Callable[..., list[str]], attention: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SHAPES", {"tiny": dict(heads=2, q_len=8, head_dim=8)})
    lines = run(attention)
    assert "Rivals: version 3" in "\n".join(lines)
    *_, heading, _, one, another = lines
    assert heading.endswith("| rival | GFLOP/s | autotune is | beyond MiB |")
    assert one.endswith("**2.000×** ± 0.020 | 1.5 |") and another.endswith("| 1.5 |")


def test_what_is_stored_can_be_raced_alone(
    run: Callable[..., list[str]], matmul: ModuleType
) -> None:
    run(matmul, "--shape", "16x16x16")
    *_, one, _ = run(matmul, "--shape", "16x16x16", "--bench-only")
    assert one.startswith("| 16×16×16 |  |  |")


def test_shapes_of_attention_have_names_that_a_shell_takes(attention: ModuleType) -> None:
    shapes = attention.SHAPES
    workloads = {name: autotune.attention(**shape) for name, shape in shapes.items()}
    assert len(set(workloads.values())) == len(shapes) == 5
    assert all(" " not in name for name in shapes)
    assert {workload["dtype"] for workload in workloads.values()} == {"float32"}
    assert sum("causal" in workload.values for workload in workloads.values()) == 2


def test_memory_beyond_the_arrays_is_that_of_a_real_kernel(
    memory: ModuleType, tmp_path: Path
) -> None:
    usable = [each for each in list_devices() if each.usable and not is_simulator(each)]
    devices = [each for each in usable if each.target and each.target.limit("kind") == "cpu"]
    if not devices or not Path("/proc/self/status").exists():
        pytest.skip("needs Linux and an OpenCL CPU")
    (device, *_), workload = devices, autotune.matmul(m=512, n=512, k=64)
    assert device.target is not None
    template = registry.template("matmul", "portable")
    (schedule,) = template.space(workload, device.target).sample(1, np.random.default_rng(0))
    record = TuningRecord(workload, device.target, schedule, Measurement.ok((1e-3,)), utc_now())
    with TuningDatabase(tmp_path / "one.db") as database:
        database.add(record)
    found = memory.beyond_bytes(workload, device.name, tmp_path / "one.db")
    assert 0 <= found < 64 << 20
