"""Schedules of one workload, measured on one runner."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from autotune.codegen.winners import why_outdated
from autotune.rendering import rendered
from autotune.runners import Job, Runner
from autotune.timing import TimingPlan
from records.measurement import Measurement, Status
from records.record import Kind, TuningRecord, utc_now
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload


class Workbench:
    """Renders and measures. What a template does wrong is a failure, and ends no session.

    `plan`: that of the session, of which only the circumstances count; `seed`: of the inputs.
    """

    def __init__(self, workload: Workload, runner: Runner, plan: TimingPlan, seed: int) -> None:
        self.workload = workload
        self.environment = runner.environment(plan)
        self._runner = runner
        self._seed = seed

    @property
    def target(self) -> Target:
        return self._runner.target

    def measured(
        self, schedules: Sequence[Schedule], plan: TimingPlan
    ) -> Generator[tuple[Schedule, Measurement], None, None]:
        """One by one, in the order in which they are ready. Closing it abandons the others."""
        jobs = {schedule: self._job(schedule) for schedule in schedules}
        for schedule, job in jobs.items():
            if isinstance(job, Measurement):
                yield schedule, job
        sound = [job for job in jobs.values() if isinstance(job, Job)]
        for job, measurement in self._runner.measure(sound, plan):
            yield job.schedule, measurement

    def raced(
        self, schedules: Sequence[Schedule], plan: TimingPlan, rounds: int
    ) -> Iterator[tuple[Schedule, Measurement]]:
        """Interleaved, in so many rounds; in the order given."""
        jobs = {schedule: self._job(schedule) for schedule in schedules}
        sound = [job for job in jobs.values() if isinstance(job, Job)]
        results = iter(self._runner.race(sound, plan, rounds))
        for schedule, job in jobs.items():
            yield schedule, job if isinstance(job, Measurement) else next(results)

    def record(self, schedule: Schedule, measurement: Measurement, kind: Kind) -> TuningRecord:
        """Of now."""
        return TuningRecord(self.workload, self.target, schedule, measurement, utc_now(), kind)

    def is_current(self, schedule: Schedule) -> bool:
        """Whether its kernel can still be made here."""
        return not why_outdated(self.workload, schedule, self._runner.dialect)

    def _job(self, schedule: Schedule) -> Job | Measurement:
        """What the runner takes, or a failure."""
        try:
            source = rendered(self.workload, schedule, self._runner.dialect)
        except Exception as error:
            reason = f"render failed: {type(error).__name__}: {error}"
            return Measurement.failed(Status.INVALID, reason, environment=dict(self.environment))
        return Job(self.workload, schedule, source, self._seed)
