"""The last word on a search: its fastest raced again, and ties called ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import comb

from autotune.session import Clock, TuningOptions
from autotune.workbench import Workbench
from records.errors import NotTunedError
from records.measurement import Measurement
from records.record import Kind, TuningRecord, utc_now
from records.schedule import Schedule
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload

SIGNIFICANCE = 0.05
MAX_RACES = 3  # until the database's best is one that was raced


class Finals:
    """Races until the best that the database knows is one that was raced here.

    Its fastest search trials are partly its luckiest, and earlier winners may come from other
    circumstances. A race gives both a time to believe.
    """

    def __init__(
        self, workbench: Workbench, database: TuningDatabase, options: TuningOptions
    ) -> None:
        self._workbench = workbench
        self._database = database
        self._options = options

    def run(self, session: int, clock: Clock, best_s: float | None, reserve_s: float) -> None:
        """`best_s`: of the search; `reserve_s`: seconds that are needed after the races."""
        needed_s = 0.0  # the first race is worth more than what comes after it
        for _ in range(MAX_RACES):
            finalists = self._finalists()
            if not finalists or clock.left_s(needed_s) <= 0:
                return
            self._race(finalists, session)
            needed_s = self.estimate_s(best_s) + reserve_s

    def estimate_s(self, best_s: float | None) -> float:
        """Seconds of a race: a start-up, and every round with as long a warm-up."""
        if not self._options.finalists:
            return 0.0
        rounds = self._options.race_rounds * self._options.finalists
        return 2.0 + 2.5 * (best_s or 0.0) * rounds

    def _finalists(self) -> list[Schedule]:
        """The fastest few that the database knows; none where the first of them was raced."""
        ranking = self._database.ranking(
            self._workbench.workload,
            self._workbench.target,
            self._options.finalists,
            include_heats=True,
            accept=self._workbench.is_current,
        )
        if not ranking:
            return []
        first = ranking[0].record
        here = first.measurement.environment == self._workbench.environment
        is_raced = first.kind is Kind.FINAL and here
        return [] if is_raced else [match.schedule for match in ranking]

    def _race(self, finalists: Sequence[Schedule], session: int) -> None:
        plan = self._options.plan.against(None, 1.0)
        raced = list(self._workbench.raced(finalists, plan, self._options.race_rounds))
        now = utc_now()  # the records of one race have one time
        for schedule, measurement in raced:
            record = self._workbench.record(schedule, measurement, Kind.FINAL)
            self._database.add(replace(record, created_at=now), session)


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
