"""The tuning loop: propose, compile, measure, write the row, learn, and race the finalists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace

from autotune.finals import Finals, best_of, ties_of
from autotune.model_report import ModelReport
from autotune.proposer import Proposer
from autotune.runners import Runner
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
from autotune.workbench import Workbench
from records.errors import DatabaseError
from records.measurement import Measurement
from records.record import Kind, TuningRecord
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
        self.database = database
        self.proposer = proposer
        self.options = options
        self.observer = observer
        self._clock = clock or Clock(options.time_limit_s)
        self._reserve_s = reserve_s
        self._workbench = Workbench(self.workload, runner, options.plan, options.seed)
        self._finals = Finals(self._workbench, database, options)
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
        target = self._workbench.target
        best = best_of(self.database, self.workload, target, self._workbench.is_current)
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
        target, environment = self._workbench.target, self._workbench.environment
        searched = self.database.measured(self.workload, target, environment)
        raced = {
            record.schedule: record.measurement
            for record in self.database.records(self.workload, target, kinds={Kind.FINAL})
            if record.measurement.environment == environment
        }
        for schedule, measurement in {**raced, **searched}.items():
            if schedule in self.space:
                believed = raced.get(schedule, measurement)
                self._note(self._workbench.record(schedule, believed, Kind.SEARCH))
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
        heats = self.database.records(self.workload, self._workbench.target, kinds={Kind.HEAT})
        newest = {
            record.schedule: record
            for record in heats
            if record.measurement.environment == self._workbench.environment
        }
        return [
            record
            for schedule, record in newest.items()
            if schedule in self.space and schedule not in self._known
        ]

    def _in_a_session(self) -> str:
        session = self.database.start_session(
            self.workload,
            self._workbench.target,
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
            self._finals.run(session, self._clock, self._best_s, self._reserve_s)
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
        with closing(self._workbench.measured(batch, self._plan(heat_runs))) as measuring:
            for schedule, measurement in measuring:
                is_heat = heat_runs is not None and measurement.is_ok
                kind = Kind.HEAT if is_heat else Kind.SEARCH
                record = self._workbench.record(schedule, measurement, kind)
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
        return self.options.plan.against(self._best_s, self.options.drop_factor)

    def _note(self, record: TuningRecord) -> None:
        self._known[record.schedule] = record.measurement
        if record.kind is Kind.HEAT or not record.measurement.is_ok:
            return
        if self._best is None or _time_s(record) < _time_s(self._best):
            self._best = record

    def _batch_size(self) -> int:
        """No more than there is time for, going by the trials so far."""
        measured = len(self._known) - self._resumed
        searched_s = self._clock.elapsed_s - self._search_started_s
        per_trial_s = searched_s / measured if measured else FIRST_GUESS_S
        return int(max(1.0, min(self.options.batch, self._time_left_s() / per_trial_s)))

    def _time_left_s(self) -> float:
        """Seconds left for the search."""
        return self._clock.left_s(self._finals.estimate_s(self._best_s) + self._reserve_s)

    @property
    def _best_s(self) -> float | None:
        """Seconds of the best of the search's full trials."""
        return _time_s(self._best) if self._best else None


def _time_s(record: TuningRecord) -> float:
    time_s = record.measurement.time_s
    assert time_s is not None, "only asked of ok records"
    return time_s
