"""Problems that outlive the process that made them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from autotune import problems
from autotune.backends.simulated import SimulatedBackend
from autotune.local_runner import LocalRunner
from autotune.problem_files import ProblemFiles, temporary_directory
from autotune.problems import Problem, check, problem
from records.workload import Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.op import Matmul

WORKLOAD = matmul(m=5, n=6, k=7, dtype="bfloat16", epilogue="alpha,bias")


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that has made no problem yet, and to which every one is worth keeping."""
    monkeypatch.setattr(problems, "_kept", OrderedDict())
    monkeypatch.setattr(problems, "_WORTH_KEEPING_S", 0.0)
    yield
    problems.keep_in(None)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_kept", OrderedDict())


def made(workload: Workload, files: ProblemFiles, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """As another process gets it."""
    forget(monkeypatch)
    problems.keep_in(files)
    return problem(workload, 3)


def test_the_next_process_finds_the_same_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ProblemFiles(tmp_path)
    first = made(WORKLOAD, files, monkeypatch)
    monkeypatch.setattr(Matmul, "reference", None)  # not asked
    second = made(WORKLOAD, files, monkeypatch)
    assert second is not first and second.dtypes == first.dtypes == {"c": "bfloat16"}
    for kind in ("inputs", "reference", "tolerance"):
        before, after = getattr(first, kind), getattr(second, kind)
        assert before.keys() == after.keys()
        for name, array in before.items():
            assert after[name].dtype == np.asarray(array).dtype
            np.testing.assert_array_equal(after[name], array)
    with pytest.raises(ValueError, match="read-only"):
        second.reference["c"][0, 0] = 1.0
    assert "30 of 30" in check(second, {"c": np.full((5, 6), 0xFFFF, np.uint16)}).error


def test_what_is_made_quickly_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_WORTH_KEEPING_S", 60.0)
    made(WORKLOAD, ProblemFiles(tmp_path), monkeypatch)
    assert not list(tmp_path.iterdir())


def test_only_the_latest_few_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ProblemFiles(tmp_path)
    for n in range(1, 6):
        made(matmul(m=2, n=n, k=2), files, monkeypatch)
    assert len(list(tmp_path.iterdir())) == 2
    assert files.load(matmul(m=2, n=5, k=2), 3, {}) is not None
    assert files.load(matmul(m=2, n=5, k=2), 4, {}) is None
    assert files.load(matmul(m=2, n=1, k=2), 3, {}) is None


def test_as_many_as_wanted_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ProblemFiles(tmp_path, most=4)
    for n in range(1, 7):
        made(matmul(m=2, n=n, k=2), files, monkeypatch)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_and_broken_files_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ProblemFiles(tmp_path)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 0))
        made(WORKLOAD, files, monkeypatch)
    assert not list(tmp_path.iterdir())
    first = made(WORKLOAD, files, monkeypatch)
    (folder,) = tmp_path.iterdir()
    (folder / "reference.c.npy").write_bytes(b"")
    again = made(WORKLOAD, files, monkeypatch)
    np.testing.assert_array_equal(again.reference["c"], first.reference["c"])
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]
    assert (folder / "reference.c.npy").stat().st_size
    made(WORKLOAD, ProblemFiles(tmp_path / "removed"), monkeypatch)


def test_directories_of_processes_that_were_killed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"autotune-problems-{ended.pid}-x"
    mine = tmp_path / f"autotune-problems-{os.getpid()}-x"
    for directory in (left, mine):
        directory.mkdir()
    assert temporary_directory().parent == tmp_path
    assert mine.exists() and not left.exists()


@pytest.mark.parametrize(("kind", "directories"), [("gpu", 1), ("cpu", 0)])
def test_a_runner_removes_what_it_has_kept(
    kind: str, directories: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with LocalRunner(partial(SimulatedBackend, kind=kind), compile_workers=1):
        assert len(list(tmp_path.glob("autotune-problems-*"))) == directories
    assert not list(tmp_path.glob("autotune-problems-*"))


def test_files_that_a_runner_is_given_stay(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with LocalRunner(SimulatedBackend, compile_workers=1, problem_files=ProblemFiles(kept)):
        pass
    assert kept.exists()
