"""What this package measured itself: a tuning database, or the lines that `db export` writes.

Each workload on each target is a recording of its own. Of several measurements of a schedule the
latest of the search counts, or the final race's where the search's is not there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autotune.recorded import RecordedSpace, from_records
from records import exchange
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.record import Kind, TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload


def recognises(data: Any) -> bool:
    return (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], dict)
        and data[0].get("format") == exchange.FORMAT
    )


def recordings(data: Any, path: Path) -> list[RecordedSpace]:
    return _grouped((TuningRecord.from_json(line) for line in data[1:]), path)


def from_database(path: Path) -> list[RecordedSpace]:
    from records.store import TuningDatabase

    with TuningDatabase(path, read_only=True) as store:
        return _grouped(store.records(), path)


_PREFERRED = {Kind.HEAT: 0, Kind.FINAL: 1, Kind.SEARCH: 2}
"""Search trials are comparable with each other; races have the fastest only."""


def _grouped(records: Iterable[TuningRecord], path: Path) -> list[RecordedSpace]:
    """Pairs in which nothing worked are left out."""
    groups: dict[tuple[Workload, Target], dict[Schedule, TuningRecord]] = {}
    for record in records:
        if record.kind is Kind.LIBRARY:
            continue
        group = groups.setdefault((record.workload, record.target), {})
        before = group.get(record.schedule)
        if before is None or _PREFERRED[record.kind] >= _PREFERRED[before.kind]:
            group[record.schedule] = record
    found = [
        from_records(workload, target, measured)
        for (workload, target), group in groups.items()
        if any((measured := _measurements(group))[schedule].is_ok for schedule in group)
    ]
    if not found:
        raise InvalidInputError(f"{path}: it has no workload of which a schedule worked")
    return found


def _measurements(group: dict[Schedule, TuningRecord]) -> dict[Schedule, Measurement]:
    return {schedule: record.measurement for schedule, record in group.items()}
