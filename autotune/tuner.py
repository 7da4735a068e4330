"""The tuning loop: propose, compile, measure, write the row, learn, and race the finalists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import replace

from autotune.codegen.winners import why_outdated
from autotune.finals import best_of, ties_of
from autotune.model_report import ModelReport
from autotune.proposer import Proposer
from autotune.rendering import rendered
from autotune.runners import Job, Runner
from autotune.session import (
    INTERRUPTED,
    LITTLE_TO_GAIN,
    Clock,
    Context,
    Observer,
    Progress,
    SilentObserver,
    TuningOptions,
    TuningResult,
)
from autotune.stopping import StoppingRule
from autotune.timing import TimingPlan
from records.errors import DatabaseError
from records.measurement import Measurement, Status
from records.record import Kind, TuningRecord, utc_now
from records.schedule import Schedule
from records.store import TuningDatabase
from search_spaces.union import UnionSpace

__all__ = [
    "INTERRUPTED",
    "Clock",
    "Context",
    "Observer",
    "Progress",
    "SilentObserver",
    "Tuner",
    "TuningOptions",
    "TuningResult",
]

MAX_RACES = 3  # until the database's best is one that was raced
FIRST_GUESS_S = 1.0  # of a trial, while none was measured


class Tuner:
    """One session of one workload on one runner. The only writer of the database.

    `space` holds what `proposer` proposes: earlier trials outside of it do not count. `clock`
    runs since the session's work began; `reserve_s`: seconds of it that are needed after the
    tuner is done.
    """

    def __init__(
        self,
        context: Context,
        space: UnionSpace,
        runner: Runner,
        database: TuningDatabase,
        proposer: Proposer,
        options: TuningOptions,
        observer: Observer,
        *,
        clock: Clock | None = None,
        reserve_s: float = 0.0,
    ) -> None:
        self.context = context
        self.workload = context.workload
        self.space = space
        self.runner = runner
        self.database = database
        self.proposer = proposer
        self.options = options
        self.observer = observer
        self._clock = clock or Clock(options.time_limit_s)
        self._reserve_s = reserve_s
        self._environment = runner.environment(options.plan)
        self._known: dict[Schedule, Measurement] = {}
        self._resumed = 0
        self._best: TuningRecord | None = None
        self._model: ModelReport | None = None
        self._search_started_s = 0.0

    def run(self) -> TuningResult:
        """Search until a bound is met, then race the finalists.

        Ctrl-C (`KeyboardInterrupt`) ends the session early: every finished trial is stored.
        """
        outcome = INTERRUPTED
        with suppress(KeyboardInterrupt):
            self._resume()
            self.observer.started(self.context, self.progress)
            outcome = self._in_a_session()
        best = best_of(self.database, self.workload, self.runner.target, self._is_current)
        progress = replace(self.progress, best=best)
        return TuningResult(self.context, best, ties_of(best, self.database), progress, outcome)

    @property
    def progress(self) -> Progress:
        return Progress(
            done=len(self._known),
            trials=self.options.trials,
            resumed=self._resumed,
            counts=Counter(measurement.status for measurement in self._known.values()),
            best=self._best,
            elapsed_s=self._clock.elapsed_s,
            time_limit_s=self.options.time_limit_s,
            model=self._model,
        )

    def _resume(self) -> None:
        """Take over what was measured before under the same circumstances.

        The strategy learns from search trials, which are comparable; the best is told by races.
        """
        target = self.runner.target
        searched = self.database.measured(self.workload, target, self._environment)
        raced = {
            record.schedule: record.measurement
            for record in self.database.records(self.workload, target, kinds={Kind.FINAL})
            if record.measurement.environment == self._environment
        }
        for schedule, measurement in {**raced, **searched}.items():
            if schedule in self.space:
                believed = raced.get(schedule, measurement)
                self._note(self._record(schedule, believed, Kind.SEARCH))
                self.proposer.tell(schedule, measurement)
        for record in self._earlier_heats():
            self._note(record)
            self.proposer.tell(record.schedule, record.measurement, heat=True)
        self._resumed = len(self._known)
        self.proposer.refit()

    def _earlier_heats(self) -> list[TuningRecord]:
        """Of a search that runs heats too; for any other they are no trials."""
        if self.proposer.heat_runs is None:
            return []
        heats = self.database.records(self.workload, self.runner.target, kinds={Kind.HEAT})
        newest = {
            record.schedule: record
            for record in heats
            if record.measurement.environment == self._environment
        }
        return [
            record
            for schedule, record in newest.items()
            if schedule in self.space and schedule not in self._known
        ]

    def _in_a_session(self) -> str:
        session = self.database.start_session(
            self.workload,
            self.runner.target,
            strategy=self.options.strategy,
            seed=self.options.seed,
            options={
                "trials": self.options.trials,
                "model": self.options.model_used,
                "stop_gain": self.options.stop_gain,
            },
        )
        try:
            outcome = self._search(session)
            if outcome != LITTLE_TO_GAIN:  # which was judged just before
                self._model = self.proposer.report()
            self._decide(session)
        except KeyboardInterrupt:
            outcome = INTERRUPTED
        except BaseException:
            with suppress(DatabaseError):  # the error that led here is the one to tell
                self.database.end_session(session, "failed")
            raise
        self.database.end_session(session, outcome)
        return outcome

    def _search(self, session: int) -> str:
        self._search_started_s = self._clock.elapsed_s
        stopping = StoppingRule(self.options.stop_gain)
        while (left := self.options.trials - len(self._known)) > 0:
            if self._time_left_s() <= 0:
                return "time limit"
            batch = self.proposer.next(min(left, self._batch_size()))
            if not batch:
                return "exhausted"
            self._model = self.proposer.report()
            if stopping.is_met(self._model, len(self._known)):
                return LITTLE_TO_GAIN
            self._try(batch, session, self.proposer.heat_runs)
            if self._time_left_s() > 0 and (leading := self.proposer.promote(self.options.batch)):
                self._try(leading, session)
            for notice in self.proposer.refit():
                self.observer.notice(notice)
        return "finished"

    def _try(self, batch: Sequence[Schedule], session: int, heat_runs: int | None = None) -> None:
        """Measure, store and tell; in a heat where `heat_runs` says so."""
        records = self._measure_and_store(batch, session, heat_runs)
        for schedule in batch:  # in this order, whichever was compiled first: reproducible
            if schedule in records:
                record = records[schedule]
                self.proposer.tell(schedule, record.measurement, heat=record.kind is Kind.HEAT)

    def _measure_and_store(
        self, batch: Sequence[Schedule], session: int, heat_runs: int | None
    ) -> dict[Schedule, TuningRecord]:
        """A row each before the next launch; only some of the batch where time runs out.

        What fails in a heat has failed.
        """
        records = {}
        with closing(self._measure(batch, self._plan(heat_runs))) as measuring:
            for schedule, measurement in measuring:
                is_heat = heat_runs is not None and measurement.is_ok
                record = self._record(schedule, measurement, Kind.HEAT if is_heat else Kind.SEARCH)
                self.database.add(record, session)
                records[schedule] = record
                self._note(record)
                self.observer.trial(record, self.progress)
                if self._time_left_s() <= 0:
                    break
        return records

    def _plan(self, heat_runs: int | None) -> TimingPlan:
        if heat_runs is not None:
            return self.options.plan.heat(heat_runs)
        best_s = _time_s(self._best) if self._best else None
        return self.options.plan.against(best_s, self.options.drop_factor)

    def _measure(
        self, batch: Sequence[Schedule], plan: TimingPlan
    ) -> Generator[tuple[Schedule, Measurement], None, None]:
        rendered = {schedule: self._job(schedule) for schedule in batch}
        for schedule, job in rendered.items():
            if isinstance(job, Measurement):
                yield schedule, job
        jobs = [job for job in rendered.values() if isinstance(job, Job)]
        for job, measurement in self.runner.measure(jobs, plan):
            yield job.schedule, measurement

    def _decide(self, session: int) -> None:
        """Race until the best that the database knows is one that was raced here.

        Its fastest search trials are partly its luckiest, and earlier winners may come from
        other circumstances. A race gives both a time to believe.
        """
        reserve_s = 0.0  # the first race is worth more than the comparison after it
        for _ in range(MAX_RACES):
            finalists = self._finalists()
            if not finalists or self._clock.left_s(reserve_s) <= 0:
                return
            self._race(finalists, session)
            reserve_s = self._race_estimate_s() + self._reserve_s

    def _finalists(self) -> list[Schedule]:
        """The fastest few that the database knows; none where the first of them was raced."""
        ranking = self.database.ranking(
            self.workload,
            self.runner.target,
            self.options.finalists,
            include_heats=True,
            accept=self._is_current,
        )
        if not ranking:
            return []
        first = ranking[0].record
        is_raced = first.kind is Kind.FINAL and first.measurement.environment == self._environment
        return [] if is_raced else [match.schedule for match in ranking]

    def _race(self, finalists: Sequence[Schedule], session: int) -> None:
        rendered = {schedule: self._job(schedule) for schedule in finalists}
        jobs = [job for job in rendered.values() if isinstance(job, Job)]
        plan = self.options.plan.against(None, 1.0)
        results = iter(self.runner.race(jobs, plan, self.options.race_rounds))
        now = utc_now()
        for schedule, job in rendered.items():
            measurement = job if isinstance(job, Measurement) else next(results)
            record = self._record(schedule, measurement, Kind.FINAL)
            self.database.add(replace(record, created_at=now), session)

    def _note(self, record: TuningRecord) -> None:
        self._known[record.schedule] = record.measurement
        if record.kind is Kind.HEAT or not record.measurement.is_ok:
            return
        if self._best is None or _time_s(record) < _time_s(self._best):
            self._best = record

    def _job(self, schedule: Schedule) -> Job | Measurement:
        """What the runner takes, or a failure: a template's mistake does not end the session."""
        try:
            source = rendered(self.workload, schedule, self.runner.dialect)
        except Exception as error:
            reason = f"render failed: {type(error).__name__}: {error}"
            return Measurement.failed(Status.INVALID, reason, environment=dict(self._environment))
        return Job(self.workload, schedule, source, self.options.seed)

    def _record(self, schedule: Schedule, measurement: Measurement, kind: Kind) -> TuningRecord:
        target = self.runner.target
        return TuningRecord(self.workload, target, schedule, measurement, utc_now(), kind)

    def _is_current(self, schedule: Schedule) -> bool:
        return not why_outdated(self.workload, schedule, self.runner.dialect)

    def _batch_size(self) -> int:
        """No more than there is time for, going by the trials so far."""
        measured = len(self._known) - self._resumed
        searched_s = self._clock.elapsed_s - self._search_started_s
        per_trial_s = searched_s / measured if measured else FIRST_GUESS_S
        return int(max(1.0, min(self.options.batch, self._time_left_s() / per_trial_s)))

    def _time_left_s(self) -> float:
        """Seconds left for the search."""
        return self._clock.left_s(self._race_estimate_s() + self._reserve_s)

    def _race_estimate_s(self) -> float:
        """A start-up, and every round with as long a warm-up."""
        if not self.options.finalists:
            return 0.0
        best_s = _time_s(self._best) if self._best else 0.0
        return 2.0 + 2.5 * best_s * self.options.race_rounds * self.options.finalists


def _time_s(record: TuningRecord) -> float:
    time_s = record.measurement.time_s
    assert time_s is not None, "only asked of ok records"
    return time_s
