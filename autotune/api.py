"""The Python face: what `import autotune` gives."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from autotune.backends.base import DeviceInfo
from autotune.benchmark import bench
from autotune.contest import Contest, Standing, hold
from autotune.libraries import libraries
from autotune.proposer import Proposer
from autotune.strategies import SELF_GUIDED, make_strategy
from autotune.timing import TimingPlan
from autotune.tuner import (
    INTERRUPTED,
    Context,
    Observer,
    SilentObserver,
    Tuner,
    TuningOptions,
    TuningResult,
)
from cost_model import make_model
from cost_model.trust import Trust
from records.errors import DeviceError, InvalidInputError
from records.measurement import Measurement, Status
from records.record import Kind, TuningRecord
from records.schedule import Schedule
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.fit import check_fits
from search_spaces.union import UnionSpace

NO_MODEL = "none"
OVERSAMPLE = 3
EARLIER_RECORDS = 2000  # of other workloads; more slow each fit down and teach little
LIBRARY_ROUNDS = 5
COMPARE_ROUNDS = 7
LIBRARY_VERSION = 1


def devices(*, all: bool = False) -> list[DeviceInfo]:
    """Every device, usable or not, with the reason; simulated ones with `all`."""
    from autotune.device_names import list_devices

    return list_devices(all=all)


def tune(
    workload: Workload,
    *,
    device: str | None = None,
    database: str | os.PathLike[str] = "tuning.db",
    trials: int = 200,
    time_limit_s: float | None = None,
    seed: int = 0,
    strategy: str = "evolutionary",
    model: str = "xgboost",
    compare: bool = True,
    plan: TimingPlan | None = None,
    observer: Observer | None = None,
) -> TuningResult:
    """Search for the fastest schedule of `workload` on `device`, storing every trial.

    `trials` counts schedules measured under the same circumstances, those of earlier sessions
    too: calling again goes on where it stopped. `time_limit_s` bounds this session, in seconds.
    `compare` times the libraries too, before the search where the database does not know them,
    and against the best at the end. `model` may be `"none"`. The same seed and the same
    measurements give the same proposals.

    Raises `InvalidInputError` for what cannot be done, `MissingComponentError` where the device
    or its driver is not there, `DatabaseError` where the database cannot be written.
    """
    from autotune.device_names import resolve
    from autotune.local_runner import LocalRunner

    options = TuningOptions(trials, time_limit_s, seed, strategy, model, plan=plan or TimingPlan())
    info = resolve(device)
    assert info.target is not None, "resolve gives usable devices"
    space = search_space(workload, info.target)
    with TuningDatabase(Path(database)) as store:
        proposer = make_proposer(workload, info.target, space, store, options)
        context = Context(
            workload,
            info.target,
            _library_times(workload, info, store) if compare else {},
            _floor_s(workload, info),
        )
        with closing(LocalRunner(info.name)) as runner:
            tuner = Tuner(context, runner, store, proposer, options, observer or SilentObserver())
            result = tuner.run()
        return _compared(result, info, store) if compare else result


def search_space(workload: Workload, target: Target) -> UnionSpace:
    """The union of the spaces of every template that serves `workload` on `target`.

    Raises `InvalidInputError` with each template's reason where there is none, and where the
    workload does not fit the device's memory.
    """
    check_fits(workload, target)
    reasons, spaces = [], []
    for template in registry.templates(workload.op):
        reason = template.rejects(workload, target)
        if reason:
            reasons.append(f"{template.name}: {reason}")
            continue
        space = template.space(workload, target)
        if space.size:
            spaces.append(space)
        else:
            reasons.append(f"{template.name}: {'; '.join(space.why_empty())}")
    if not spaces:
        raise InvalidInputError(
            f"no template can do {workload} on {target.device}: {'; '.join(reasons) or 'none'}"
        )
    return UnionSpace(spaces)


def make_proposer(
    workload: Workload,
    target: Target,
    space: UnionSpace,
    store: TuningDatabase,
    options: TuningOptions,
) -> Proposer:
    """The strategy and the cost model of a session, the model knowing what the database has.

    Strategies that breed from predictions are asked for what is measured; the others for three
    times as much, from which the model chooses.
    """
    model = None if options.model == NO_MODEL else make_model(options.model, options.seed)
    earlier = [
        record
        for record in store.records(target=target, op=workload.op, kinds={Kind.SEARCH})
        if record.workload != workload
    ]
    return Proposer(
        make_strategy(options.strategy, space, options.seed),
        model,
        Trust(),
        workload,
        target,
        oversample=1 if options.strategy in SELF_GUIDED else OVERSAMPLE,
        seed=options.seed,
        earlier=earlier[-EARLIER_RECORDS:],
    )


def _library_times(workload: Workload, info: DeviceInfo, store: TuningDatabase) -> dict[str, float]:
    """Seconds of each library that can do the workload; measured unless the database knows."""
    assert info.target is not None
    known = {
        record.schedule.template: record.measurement.time_s
        for record in store.library(workload, info.target)
        if record.measurement.time_s is not None
    }
    missing = [
        library.name for library in libraries(workload, info.target) if library.name not in known
    ]
    if missing:
        contest = Contest(workload, (), tuple(missing), LIBRARY_ROUNDS)
        for standing in hold(info.name, contest):
            record = _library_record(workload, info.target, standing)
            store.add(record)
            if record.measurement.time_s is not None:
                known[standing.name] = record.measurement.time_s
    return known


def _compared(result: TuningResult, info: DeviceInfo, store: TuningDatabase) -> TuningResult:
    """The result with the libraries raced against its best, interleaved; their times stored."""
    if result.best is None or result.outcome == INTERRUPTED:
        return result
    try:
        rivals = bench(
            result.workload, device=info.name, database=store.path, rounds=COMPARE_ROUNDS
        ).rivals
    except DeviceError:  # the trials stand, whatever became of the comparison
        return result
    for standing, _ in rivals:
        store.add(_library_record(result.workload, result.target, standing))
    return replace(result, ratios={standing.name: ratio for standing, ratio in rivals})


def _library_record(workload: Workload, target: Target, standing: Standing) -> TuningRecord:
    measurement = (
        Measurement.failed(Status.WRONG_RESULT, standing.error)
        if standing.error
        else Measurement.ok(standing.times_s, environment=standing.details)
    )
    schedule = Schedule.of(standing.name, LIBRARY_VERSION, {})
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return TuningRecord(workload, target, schedule, measurement, now, Kind.LIBRARY)


def _floor_s(workload: Workload, info: DeviceInfo) -> float | None:
    """The roofline's time: work over peak or bytes over bandwidth, whichever is longer."""
    from autotune import peaks

    op = registry.op(workload.op)
    try:
        return peaks.probe(info.name).floor_s(
            op.flops(workload), op.bytes(workload), workload["dtype"]
        )
    except DeviceError:
        return None
