"""The benchmark that counts trials until a search is as fast as a library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scripts import script

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library_s: float) -> str:
    """The page of a benchmark on a simulated device, with a library that takes `library_s`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("autotune.rivals.Rivals.times_s", lambda _: {"numpy": library_s})
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = script(BENCHMARKS / "trials_to_library.py")
    monkeypatch.setattr(benchmark, "SHAPES", ((64, 64, 64),))
    words = ["--device", "sim:steady", "--seeds", "1", "--trials", "2"]
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["trials_to_library.py", *words, "--write", str(page)])
    benchmark.main()
    return page.read_text()


def test_a_slow_library_is_beaten_by_the_first_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "| 64×64×64 |" + " **1** (1) |" * 3 in run(monkeypatch, tmp_path, 1e9)


def test_a_search_that_is_never_as_fast_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = run(monkeypatch, tmp_path, 1e-15)
    assert " **more** (more than 2) |" * 3 in page
