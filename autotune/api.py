"""The Python face: what `import autotune` gives."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from autotune.backends.base import DeviceInfo
from autotune.codegen.winners import dialect_of, why_outdated
from autotune.finals import best_of, ties_of
from autotune.knowledge import KINDS, earlier_records
from autotune.prior import primed
from autotune.proposer import Proposer
from autotune.rivals import Rivals
from autotune.runners import Runner
from autotune.searches import put_together
from autotune.session import (
    INTERRUPTED,
    NO_MODEL,
    Clock,
    Context,
    Observer,
    Progress,
    SilentObserver,
    TuningOptions,
    TuningResult,
    batch_size,
)
from autotune.strategies import DEFAULT as DEFAULT_STRATEGY
from autotune.strategies.base import SearchStrategy
from autotune.timing import TimingPlan, default_plan
from autotune.tuner import Tuner
from records.errors import DeviceError, InvalidInputError
from records.peaks import Peaks
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.fit import check_fits
from search_spaces.template import Template
from search_spaces.union import UnionSpace


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
    stop_gain: float | None = None,
    seed: int = 0,
    strategy: str = DEFAULT_STRATEGY,
    model: str | None = None,
    compare: bool = True,
    templates: Sequence[str] | None = None,
    plan: TimingPlan | None = None,
    observer: Observer | None = None,
    runner: Runner | None = None,
) -> TuningResult:
    """Search for the fastest schedule of `workload` on `device`, storing every trial in `database`.

    `device` is a name such as `"opencl:cpu"`, `"cuda:0"` or `"sim:steady"`; by default the fastest
    usable one. `database` is a file, made where there is none. `trials` counts schedules measured
    under the same circumstances, those of earlier sessions too: calling again goes on where it
    stopped.

    `time_limit_s` bounds this session, in seconds: timing the libraries, the race of the finalists
    and the comparison are part of it, while a compilation or a launch under way is waited for.
    `stop_gain`, a share such as 0.005, ends the search where another 50 trials are expected to gain
    less; a call without it goes on; it needs a model that foresees gains.

    `seed` is that of the search and of the inputs. `strategy` is a name of
    `autotune.strategies.STRATEGIES`, `model` one of `cost_model.MODELS` or `"none"`, which it is by
    default where the strategy does not follow predictions. `compare` times the libraries too,
    before the search where the database does not know them, and against the best at the end.

    `templates` names those to search; by default all that serve. `plan` says how trials are timed:
    by default with warm caches on a CPU, and on a GPU with the last-level cache flushed before each
    run. `runner` measures them, on the same device, and stays open; by default one is made for the
    session. `observer` is told of trials, and in sentences of what else happens.

    The same seed and the same measurements give the same proposals.
    The `best` of the result is what `TuningDatabase.best` answers from then on. Ctrl-C ends the
    session, at any point, with the outcome `"interrupted"` and what was found.

    Raises `InvalidInputError` for what cannot be done, `MissingComponentError` where the device
    or its driver is not there, `DatabaseError` where the database cannot be written.
    """
    from autotune.device_names import resolve
    from autotune.local_runner import LocalRunner

    clock = Clock(time_limit_s)
    observer = observer or SilentObserver()
    info = resolve(device)
    assert info.target is not None, "resolve gives usable devices"
    plan = plan or default_plan(info.target)
    batch = batch_size(info.target)
    options = TuningOptions(
        trials, time_limit_s, seed, strategy, model, batch, stop_gain=stop_gain, plan=plan
    )
    space = search_space(workload, info.target, templates)
    with TuningDatabase(Path(database)) as store:
        rivals = Rivals(
            workload,
            info,
            store,
            observer,
            seed=seed,
            flush_bytes=plan.flush_bytes,
            enabled=compare,
        )
        result = _known_before(Context(workload, info.target), store, options)
        try:
            peaks = _peaks(info, observer)
            if peaks is not None:
                store.note_peaks(info.target, peaks)
            proposer = make_proposer(workload, info.target, space, store, options, observer)
            times_s = rivals.times_s()
            context = Context(workload, info.target, times_s, _floor_s(workload, peaks))
            with nullcontext(runner) if runner else LocalRunner(info.name) as measuring:
                tuner = Tuner(
                    context,
                    space,
                    measuring,
                    store,
                    proposer,
                    options,
                    observer,
                    clock=clock,
                    reserve_s=rivals.reserve_s(times_s),
                )
                result = tuner.run()
            if result.outcome != INTERRUPTED:
                ratios = rivals.ratios(result.best, dialect_of(info.backend), clock)
                result = replace(result, ratios=ratios)
        except KeyboardInterrupt:
            result = replace(result, outcome=INTERRUPTED)
    return replace(result, progress=replace(result.progress, elapsed_s=clock.elapsed_s))


def search_space(
    workload: Workload, target: Target, templates: Sequence[str] | None = None
) -> UnionSpace:
    """The union of the spaces of the templates (all, or those named) that serve the workload.

    Raises `InvalidInputError` with each template's reason where there is none, and where the
    workload does not fit the device's memory.
    """
    check_fits(workload, target)
    reasons, spaces = [], []
    for template in _templates(workload.op, templates):
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


def _templates(op: str, names: Sequence[str] | None) -> tuple[Template, ...]:
    if names is None:
        return registry.templates(op)
    return tuple(registry.template(op, name) for name in names)


def make_proposer(
    workload: Workload,
    target: Target,
    space: UnionSpace,
    store: TuningDatabase,
    options: TuningOptions,
    observer: Observer | None = None,
) -> Proposer:
    """The strategy and the cost model of a session, the model knowing what the database has.

    What won for the nearest other workloads, or on other devices, is proposed first; where the
    database knows nothing of the kind, what the shipped model expects to be fast. Strategies that
    decide themselves are asked for what is measured; of those that do not, three times as much,
    from which the model chooses.
    """
    observer = observer or SilentObserver()
    if options.model not in (None, NO_MODEL, options.model_used):
        observer.notice(f"{options.strategy} follows measurements alone: no cost model has a part")
    peaks = store.peaks()

    def begin(strategy: SearchStrategy) -> SearchStrategy:
        is_new = not any(store.records(workload, target, kinds=KINDS))
        if not is_new or options.model_used == NO_MODEL or options.strategy != DEFAULT_STRATEGY:
            return strategy
        return primed(strategy, workload, target, space, options.seed, observer.notice, peaks=peaks)

    return put_together(
        space,
        workload,
        target,
        earlier_records(store, workload, target),
        strategy=options.strategy,
        model=options.model_used,
        seed=options.seed,
        notice=observer.notice,
        peaks=peaks,
        begin=begin,
    )


def _known_before(context: Context, store: TuningDatabase, options: TuningOptions) -> TuningResult:
    """What there is to say of a session that is interrupted before its search."""
    dialect = dialect_of(context.target.backend)
    best = best_of(
        store,
        context.workload,
        context.target,
        lambda schedule: not why_outdated(context.workload, schedule, dialect),
    )
    progress = Progress(0, options.trials, 0, Counter(), best, 0.0, options.time_limit_s)
    return TuningResult(context, best, ties_of(best, store), progress, INTERRUPTED)


def _floor_s(workload: Workload, peaks: Peaks | None) -> float | None:
    """The roofline's time: work over peak or bytes over bandwidth, whichever is longer."""
    if peaks is None:
        return None
    op = registry.op(workload.op)
    dtype = str(workload.values.get("dtype", "float32"))
    return peaks.floor_s(op.flops(workload), op.bytes(workload), dtype)


def _peaks(info: DeviceInfo, observer: Observer) -> Peaks | None:
    from autotune import peaks

    if info.backend == "sim":
        return None
    try:
        if peaks.known(info.name) is None:
            observer.notice("the device's peaks are measured, once")
        return peaks.probe(info.name)
    except DeviceError as error:
        observer.notice(f"no roofline: the device's peaks are not known: {error}")
        return None
