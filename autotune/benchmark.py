"""The stored best against the libraries, measured now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from autotune.codegen.winners import winner
from autotune.contest import Contest, Ratio, Standing, hold, ratio
from autotune.libraries import LIBRARIES, libraries
from autotune.runners import Job
from records.errors import DeviceError
from records.record import TuningRecord
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload

OURS = "autotune"


@dataclass(frozen=True)
class BenchResult:
    """`rivals` hold every library that ran, with the ratio by which ours is faster.

    `absent`: libraries that did not run, with the reason.
    """

    workload: Workload
    target: Target
    record: TuningRecord
    ours: Standing
    rivals: tuple[tuple[Standing, Ratio], ...]
    absent: tuple[tuple[str, str], ...]


def bench(
    workload: Workload,
    *,
    device: str | None = None,
    database: str | os.PathLike[str] = "tuning.db",
    rounds: int = 15,
    seed: int = 0,
) -> BenchResult:
    """Measure the stored best of `workload` and every library that can do it, interleaved.

    Raises `NotTunedError` where nothing is stored, `DeviceError` where the stored best fails.
    """
    from autotune.device_names import resolve

    info = resolve(device)
    assert info.target is not None, "resolve gives usable devices"
    with TuningDatabase(Path(database), read_only=True) as store:
        won = winner(store, workload, info.target)
    names = tuple(library.name for library in libraries(workload, info.target))
    job = Job(workload, won.record.schedule, won.source, seed)
    contest = Contest(workload, ((OURS, job),), names, rounds, seed)
    ours, *others = hold(info.name, contest)
    if ours.error:
        raise DeviceError(f"the stored best no longer works: {ours.error}")
    return BenchResult(
        workload,
        info.target,
        won.record,
        ours,
        tuple((other, ratio(ours, other)) for other in others if not other.error),
        tuple((other.name, other.error) for other in others if other.error)
        + tuple(
            (library.name, library.rejects(workload, info.target))
            for library in LIBRARIES
            if library.op == workload.op and library.name not in names
        ),
    )
