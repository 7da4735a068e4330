"""The tuning loop: propose, compile, measure, write the row, learn, and race the finalists."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import comb
from typing import Protocol

from autotune.contest import Ratio
from autotune.proposer import Proposer
from autotune.runners import Job, Runner
from autotune.timing import TimingPlan
from records.errors import InvalidInputError
from records.measurement import Measurement, Status
from records.record import Kind, TuningRecord
from records.schedule import Schedule
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces import registry

INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class TuningOptions:
    """What bounds a session and how it searches.

    `trials`: schedules measured in all under the same circumstances, earlier sessions included.
    `time_limit_s`: seconds for this session, the race of the finalists included.
    `batch`: schedules proposed, compiled and measured between two fits of the cost model.
    `finalists` are raced again for `race_rounds` interleaved rounds; none with 0.
    A trial slower than `drop_factor` × the best time is dropped after its first runs.
    """

    trials: int = 200
    time_limit_s: float | None = None
    seed: int = 0
    strategy: str = "evolutionary"
    model: str = "xgboost"
    batch: int = 12
    finalists: int = 6
    race_rounds: int = 15
    drop_factor: float = 1.5
    plan: TimingPlan = field(default_factory=TimingPlan)

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("batch", 1), ("finalists", 0), ("race_rounds", 1)):
            if getattr(self, name) < least:
                raise InvalidInputError(
                    f"{name}={getattr(self, name)}: need a whole number of at least {least}"
                )
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise InvalidInputError(f"time limit {self.time_limit_s} s: need more than 0 seconds")


@dataclass(frozen=True)
class Progress:
    """Where a session stands. `counts` by status; times in seconds."""

    done: int
    trials: int
    resumed: int
    counts: Counter[Status]
    best: TuningRecord | None
    elapsed_s: float
    time_limit_s: float | None


@dataclass(frozen=True)
class Context:
    """What a session's times are compared with, seconds; empty and `None` where unknown.

    `libraries`: each library's time by name. `floor_s`: the device's roofline for the workload.
    """

    workload: Workload
    target: Target
    libraries: Mapping[str, float] = field(default_factory=dict)
    floor_s: float | None = None


class Observer(Protocol):
    """Is told what happens, in the tuner's thread; what it raises ends the session."""

    def started(self, context: Context, progress: Progress) -> None: ...

    def trial(self, record: TuningRecord, progress: Progress) -> None: ...

    def notice(self, text: str) -> None: ...


class SilentObserver:
    """Says nothing."""

    def started(self, context: Context, progress: Progress) -> None:
        pass

    def trial(self, record: TuningRecord, progress: Progress) -> None:
        pass

    def notice(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class TuningResult:
    """What a session found. `ties` are finalists that the race could not tell from the best.

    `outcome`: `"finished"`, `"time limit"`, `"exhausted"` (no schedule left) or `"interrupted"`.
    `ratios`: by how much the best is faster than each library, raced against it at the end.
    """

    context: Context
    best: TuningRecord | None
    ties: tuple[TuningRecord, ...]
    progress: Progress
    outcome: str
    ratios: Mapping[str, Ratio] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        return self.context.workload

    @property
    def target(self) -> Target:
        return self.context.target


class Tuner:
    """One session of one workload on one runner. The only writer of the database."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        database: TuningDatabase,
        proposer: Proposer,
        options: TuningOptions,
        observer: Observer,
    ) -> None:
        self.context = context
        self.workload = context.workload
        self.runner = runner
        self.database = database
        self.proposer = proposer
        self.options = options
        self.observer = observer
        self._environment = runner.environment(options.plan)
        self._known: dict[Schedule, Measurement] = {}
        self._resumed = 0
        self._best: TuningRecord | None = None
        self._started_s = time.monotonic()

    def run(self) -> TuningResult:
        """Search until a bound is met, then race the finalists.

        Ctrl-C (`KeyboardInterrupt`) ends the session early: every finished trial is stored.
        """
        self._resume()
        self.observer.started(self.context, self.progress)
        session = self.database.start_session(
            self.workload,
            self.runner.target,
            strategy=self.options.strategy,
            seed=self.options.seed,
            options={"trials": self.options.trials, "model": self.options.model},
        )
        outcome = "failed"
        ties: tuple[TuningRecord, ...] = ()
        try:
            outcome = self._search(session)
            ties = self._race(session)
        except KeyboardInterrupt:
            outcome = INTERRUPTED
        finally:
            self.database.end_session(session, outcome)
        return TuningResult(self.context, self._best, ties, self.progress, outcome)

    @property
    def progress(self) -> Progress:
        return Progress(
            done=len(self._known),
            trials=self.options.trials,
            resumed=self._resumed,
            counts=Counter(measurement.status for measurement in self._known.values()),
            best=self._best,
            elapsed_s=time.monotonic() - self._started_s,
            time_limit_s=self.options.time_limit_s,
        )

    def _resume(self) -> None:
        """Take over what was measured before under the same circumstances."""
        earlier = self.database.measured(self.workload, self.runner.target, self._environment)
        for schedule, measurement in earlier.items():
            self._learn(self._record(schedule, measurement, Kind.SEARCH))
        self._resumed = len(self._known)
        self.proposer.refit()

    def _search(self, session: int) -> str:
        while (left := self.options.trials - len(self._known)) > 0:
            if self._time_left_s() <= 0:
                return "time limit"
            batch = self.proposer.next(min(left, self.options.batch))
            if not batch:
                return "exhausted"
            for schedule, measurement in self._measure(batch):
                record = self._record(schedule, measurement, Kind.SEARCH)
                self.database.add(record, session)
                self._learn(record)
                self.observer.trial(record, self.progress)
                if self._time_left_s() <= 0:
                    break
            for notice in self.proposer.refit():
                self.observer.notice(notice)
        return "finished"

    def _measure(self, batch: Sequence[Schedule]) -> Iterator[tuple[Schedule, Measurement]]:
        best_s = _time_s(self._best) * self.options.drop_factor if self._best else None
        plan = self.options.plan.dropping_above(best_s)
        jobs = []
        for schedule in batch:
            try:
                jobs.append(self._job(schedule))
            except Exception as error:  # a template's own mistake costs a status, not the session
                reason = f"render failed: {type(error).__name__}: {error}"
                yield (
                    schedule,
                    Measurement.failed(Status.INVALID, reason, environment=dict(self._environment)),
                )
        for job, measurement in self.runner.measure(jobs, plan):
            yield job.schedule, measurement

    def _race(self, session: int) -> tuple[TuningRecord, ...]:
        """Measure the fastest few again, interleaved: the time to believe, free of luck."""
        ranked = sorted(
            (
                (measurement.time_s, schedule)
                for schedule, measurement in self._known.items()
                if measurement.time_s is not None
            ),
            key=lambda pair: pair[0],
        )
        finalists = [schedule for _, schedule in ranked[: self.options.finalists]]
        if not finalists:
            return ()
        plan = replace(self.options.plan, drop_above_s=None)
        measured = self.runner.race(
            [self._job(schedule) for schedule in finalists], plan, self.options.race_rounds
        )
        records = [
            self._record(schedule, measurement, Kind.FINAL)
            for schedule, measurement in zip(finalists, measured, strict=True)
        ]
        for record in records:
            self.database.add(record, session)
        return self._crown([record for record in records if record.measurement.is_ok])

    def _crown(self, records: Sequence[TuningRecord]) -> tuple[TuningRecord, ...]:
        if not records:
            return ()
        best, *others = sorted(records, key=_time_s)
        self._best = best
        return tuple(other for other in others if tied(best.measurement, other.measurement))

    def _learn(self, record: TuningRecord) -> None:
        self._known[record.schedule] = record.measurement
        self.proposer.tell(record.schedule, record.measurement)
        if record.measurement.is_ok and (
            self._best is None or _time_s(record) < _time_s(self._best)
        ):
            self._best = record

    def _job(self, schedule: Schedule) -> Job:
        template = registry.template(self.workload.op, schedule.template)
        source = template.render(self.workload, schedule, self.runner.dialect)
        return Job(self.workload, schedule, source, self.options.seed)

    def _record(self, schedule: Schedule, measurement: Measurement, kind: Kind) -> TuningRecord:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return TuningRecord(self.workload, self.runner.target, schedule, measurement, now, kind)

    def _time_left_s(self) -> float:
        if self.options.time_limit_s is None:
            return float("inf")
        spent_s = time.monotonic() - self._started_s
        return self.options.time_limit_s - spent_s - self._race_estimate_s()

    def _race_estimate_s(self) -> float:
        """Seconds to keep for the race: a start-up, and every round with as long a warm-up."""
        best_s = _time_s(self._best) if self._best else 0.0
        return 2.0 + 2.5 * best_s * self.options.race_rounds * self.options.finalists


def tied(best: Measurement, other: Measurement) -> bool:
    """Whether the rounds of a race fail to tell two finalists apart.

    Sign test on the paired rounds (two-sided, 5 %): with fewer decisive rounds than that needs,
    they are tied.
    """
    pairs = list(zip(best.times_s, other.times_s, strict=False))
    wins = sum(first < second for first, second in pairs)
    losses = sum(first > second for first, second in pairs)
    return _sign_test(wins, losses) > 0.05


def _sign_test(wins: int, losses: int) -> float:
    rounds = wins + losses
    if rounds == 0:
        return 1.0
    tail = sum(comb(rounds, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2.0**rounds))


def _time_s(record: TuningRecord) -> float:
    time_s = record.measurement.time_s
    assert time_s is not None, "only asked of ok records"
    return time_s
