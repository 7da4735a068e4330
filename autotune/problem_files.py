"""Problems in files, for the next process of a session: references of large workloads take long."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.problems import Problem
from records.canonical import canonical_json, digest
from records.workload import Workload

_PREFIX = "autotune-problems-"
_FREE_FOLD = 4  # as much space must be free as a problem takes, this many times
_KINDS = ("inputs", "reference", "tolerance")


@dataclass(frozen=True)
class ProblemFiles:
    """Problems below a directory, one folder each; the latest `most` stay. Picklable.

    What is loaded is mapped and cannot be written to. Files that cannot be written or read are
    as good as none: the problem is made again.
    """

    directory: Path
    most: int = 2  # a process keeps as many

    def save(self, workload: Workload, seed: int, problem: Problem) -> None:
        place = self._place(workload, seed)
        arrays = {
            f"{kind}.{name}": np.asarray(array)
            for kind in _KINDS
            for name, array in getattr(problem, kind).items()
        }
        with suppress(OSError):
            if not self._has_room(sum(array.nbytes for array in arrays.values())):
                return
            staged = Path(tempfile.mkdtemp(dir=self.directory, prefix="."))
            for name, array in arrays.items():
                np.save(staged / f"{name}.npy", array)
            shutil.rmtree(place, ignore_errors=True)  # of files that could not be read
            os.rename(staged, place)
            self._forget_all_but(self.most)

    def load(self, workload: Workload, seed: int, dtypes: Mapping[str, str]) -> Problem | None:
        """`dtypes` are those of the problem's outputs."""
        found: dict[str, dict[str, npt.NDArray[Any]]] = {kind: {} for kind in _KINDS}
        try:
            for file in sorted(self._place(workload, seed).iterdir()):
                kind, _, name = file.stem.partition(".")
                found[kind][name] = np.asarray(np.load(file, mmap_mode="r"))
        except (OSError, EOFError, ValueError):
            return None
        return Problem(found["inputs"], found["reference"], found["tolerance"], dtypes)

    def _place(self, workload: Workload, seed: int) -> Path:
        return self.directory / digest(canonical_json([workload.to_json(), seed]))

    def _has_room(self, size: int) -> bool:
        return shutil.disk_usage(self.directory).free > _FREE_FOLD * size

    def _forget_all_but(self, count: int) -> None:
        folders = sorted(self.directory.iterdir(), key=lambda each: each.stat().st_mtime)
        for folder in folders[:-count]:
            shutil.rmtree(folder, ignore_errors=True)


def temporary_directory() -> Path:
    """A new one of this process, for it to remove; those of processes that were killed go."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
