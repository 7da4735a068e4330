"""The stored best against the libraries, measured now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.codegen.winners import winner
from autotune.contest import Contest, Ratio, Ring, Standing, hold, ratio
from autotune.libraries import LIBRARIES, library
from autotune.runners import Job
from autotune.timing import default_plan
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
    on_request: Sequence[str] = (),
    ring: Ring | None = None,
) -> BenchResult:
    """Measure the stored best of `workload` and every library that can do it, interleaved.

    `on_request` names libraries of `autotune.libraries.ON_REQUEST` to be rivals too. Caches are
    as in the default `autotune.timing.default_plan`: flushed on a GPU. `ring`: where the contest
    is held, of the same device; by default in a process of its own.

    Raises `NotTunedError` where nothing is stored, `DeviceError` where the stored best fails.
    """
    from autotune.device_names import resolve

    info = resolve(device)
    assert info.target is not None, "resolve gives usable devices"
    with TuningDatabase(Path(database), read_only=True) as store:
        won = winner(store, workload, info.target)
    candidates = [*LIBRARIES, *map(library, on_request)]
    reasons = {
        each.name: each.rejects(workload, info.target)
        for each in candidates
        if each.op == workload.op
    }
    names = tuple(name for name, reason in reasons.items() if not reason)
    job = Job(workload, won.record.schedule, won.source, seed)
    flush_bytes = default_plan(info.target).flush_bytes
    contest = Contest(workload, ((OURS, job),), names, rounds, seed, flush_bytes)
    ours, *others = ring.hold(contest) if ring is not None else hold(info.name, contest)
    if ours.error:
        raise DeviceError(f"the stored best no longer works: {ours.error}")
    return BenchResult(
        workload,
        info.target,
        won.record,
        ours,
        tuple((other, ratio(ours, other)) for other in others if not other.error),
        tuple((other.name, other.error) for other in others if other.error)
        + tuple((name, reason) for name, reason in reasons.items() if reason),
    )
