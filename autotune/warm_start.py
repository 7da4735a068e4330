"""First schedules from what won elsewhere: a good one for one size is seldom bad for the next."""

from __future__ import annotations

from collections.abc import Container, Sequence

from cost_model.features import distance
from cost_model.groups import fastest_first
from records.peaks import NO_PEAKS, PeaksOf
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload

MOST = 4
"""Winners tried; more would cost trials where workloads are not alike after all."""


def winners(
    earlier: Sequence[TuningRecord],
    workload: Workload,
    target: Target,
    space: Container[object],
    most: int = MOST,
    peaks: PeaksOf = NO_PEAKS,
) -> list[Schedule]:
    """The fastest of each other workload, and target, that `space` has; the nearest first."""
    groups: dict[tuple[Workload, Target], list[TuningRecord]] = {}
    for record in earlier:
        groups.setdefault((record.workload, record.target), []).append(record)
    found: dict[Schedule, None] = {}
    for other in sorted(groups, key=lambda other: distance((workload, target), other, peaks)):
        ranked = fastest_first(groups[other])
        best = next((each.schedule for each in ranked if each.schedule in space), None)
        if best is not None:
            found[best] = None
        if len(found) == most:
            break
    return list(found)
