"""What is known of other workloads and other devices, and a search that begins with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from autotune.proposer import Proposer
from autotune.strategies import make_strategy
from autotune.strategies.hedged import Hedged
from autotune.strategies.racing import Racing
from autotune.strategies.spaces import SearchableSpace
from autotune.warm_start import winners
from cost_model import EXPECTING, make_model
from cost_model.features import distance
from cost_model.groups import Group
from cost_model.table import FindTemplate
from cost_model.trust import Trust
from records.peaks import NO_PEAKS, PeaksOf
from records.record import Kind, TuningRecord
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.titles import counted, title

MOST = 2000
"""Records that a session learns from; more cost time and teach little."""

EACH = 250
"""Of one workload on one target, the latest."""

KINDS = frozenset({Kind.SEARCH, Kind.HEAT})
"""Trials that models learn from."""

HEDGED = frozenset({"guided", "racing"})
"""Strategies that are given what is known beforehand, and a search without it beside."""


def earlier_records(
    store: TuningDatabase, workload: Workload, target: Target
) -> list[TuningRecord]:
    """Of the op's other workloads, and of other devices; the nearest first.

    Simulated devices and real ones know nothing of each other.
    """
    return list(islice(_by_nearness(store, workload, target), MOST))


def _by_nearness(
    store: TuningDatabase, workload: Workload, target: Target
) -> Iterator[TuningRecord]:
    here, peaks = (workload, target), store.peaks()
    pairs = [
        (other, device)
        for device in store.targets()
        if (device.backend == "sim") == (target.backend == "sim")
        for other in store.workloads()
        if other.op == workload.op and (other, device) != here
    ]
    for other, device in sorted(pairs, key=lambda pair: distance(here, pair, peaks)):
        found = store.records(other, device, kinds=KINDS)
        yield from list(found)[-EACH:]


def informed(
    space: SearchableSpace,
    workload: Workload,
    target: Target,
    earlier: Sequence[TuningRecord],
    *,
    strategy: str,
    model: str,
    seed: int,
    notice: Callable[[str], None],
    find_template: FindTemplate = registry.template,
    peaks: PeaksOf = NO_PEAKS,
) -> Proposer | None:
    """A search that begins with what `earlier` records of others, all `usable`, tell of this space.

    `None` where they tell nothing, or for a strategy or a model that cannot be told. `notice` is
    told what is known, and later if it turns out not to help. `peaks`, of this target and of
    theirs, tell which are nearest.
    """
    if not earlier or strategy not in HEDGED or model not in EXPECTING:
        return None
    from cost_model.relatives import Relatives  # XGBoost, once it is needed

    relatives = Relatives(
        earlier, workload, target, seed=seed, find_template=find_template, peaks=peaks
    )
    if not relatives.known:
        return None
    notice(summary(relatives.groups))
    alone = Proposer(
        make_strategy("guided", space, seed),
        make_model(model, seed, find_template),
        Trust(),
        workload,
        target,
        seed=seed,
    )
    first = winners(earlier, workload, target, space, peaks=peaks)
    hedged = Hedged(make_strategy("guided", space, seed), alone, relatives.mean, notice, first)
    return Proposer(
        Racing(space, seed, hedged) if strategy == "racing" else hedged,
        make_model(model, seed, find_template, relatives),
        Trust(),
        workload,
        target,
        seed=seed,
    )


def usable(records: Sequence[TuningRecord], space: SearchableSpace) -> list[TuningRecord]:
    """Those of the space's templates, in their present versions, with the same knobs."""
    knobs = {
        (region.template, region.version): {knob.name for knob in region.knobs}
        for region in space.spaces
    }
    return [
        record
        for record in records
        if knobs.get((record.schedule.template, record.schedule.version))
        == record.schedule.values.keys()
    ]


def summary(groups: Sequence[Group]) -> str:
    """What is known, in a line; the nearest of at least one group stands first."""
    trials = sum(len(group.schedules) for group in groups)
    workloads = len({group.workload for group in groups})
    devices = len({group.target for group in groups})
    nearest = groups[0]
    return (
        f"knows {counted(trials, 'trial')} of {counted(workloads, 'workload')} on "
        f"{counted(devices, 'device')}; the nearest is {title(nearest.workload)} on "
        f"{nearest.target.device}"
    )
