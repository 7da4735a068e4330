"""The last word on a search: its fastest raced again, and ties called ties."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

from records.errors import NotTunedError
from records.measurement import Measurement
from records.record import Kind, TuningRecord
from records.schedule import Schedule
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload

SIGNIFICANCE = 0.05


def best_of(
    database: TuningDatabase,
    workload: Workload,
    target: Target,
    accept: Callable[[Schedule], bool],
) -> TuningRecord | None:
    """The database's answer; `None` where it has none."""
    try:
        return database.best(workload, target, accept=accept).record
    except NotTunedError:
        return None


def ties_of(best: TuningRecord | None, database: TuningDatabase) -> tuple[TuningRecord, ...]:
    """Those that the race of `best` could not tell from it, fastest first.

    The records of one race have one `created_at`.
    """
    if best is None or best.kind is not Kind.FINAL:
        return ()
    raced = database.records(best.workload, best.target, kinds={Kind.FINAL}, ok_only=True)
    ties = [
        record
        for record in raced
        if record.created_at == best.created_at
        and record.schedule != best.schedule
        and tied(best.measurement, record.measurement)
    ]
    return tuple(sorted(ties, key=lambda record: record.measurement.time_s or 0.0))


def tied(best: Measurement, other: Measurement) -> bool:
    """Whether the rounds of a race fail to tell two finalists apart.

    Sign test on the paired rounds (two-sided, 5 %): with fewer decisive rounds than that needs,
    they are tied.
    """
    pairs = list(zip(best.times_s, other.times_s, strict=False))
    wins = sum(first < second for first, second in pairs)
    losses = sum(first > second for first, second in pairs)
    return _sign_test(wins, losses) > SIGNIFICANCE


def _sign_test(wins: int, losses: int) -> float:
    """The chance of a split as uneven as this, or more, were both equally fast."""
    rounds = wins + losses
    if rounds == 0:
        return 1.0
    tail = sum(comb(rounds, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2.0**rounds))
