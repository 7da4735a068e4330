"""A runner that answers from a recording instead of a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from autotune.recorded import RecordedSpace
from autotune.runners import Job
from autotune.timing import TimingPlan, Verdict
from records.canonical import Items, freeze
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.target import Target
from search_spaces.dialect import DIALECTS, OPENCL, Dialect


class ReplayRunner:
    """What was recorded of each schedule, at once. Implements `Runner`.

    Raises `InvalidInputError` for a job of another workload, or of a schedule of which nothing
    is recorded: a made-up time would be worse. Nothing is compiled; a job's source is not read.
    """

    def __init__(self, recorded: RecordedSpace) -> None:
        self._recorded = recorded

    @property
    def target(self) -> Target:
        return self._recorded.target

    @property
    def dialect(self) -> Dialect:
        return DIALECTS.get(self.target.backend, OPENCL)

    def environment(self, plan: TimingPlan) -> Items:
        return freeze({"replayed": self._recorded.name})

    def measure(self, jobs: Sequence[Job], plan: TimingPlan) -> Iterator[tuple[Job, Measurement]]:
        for job in jobs:
            yield job, _by(plan, self._answer(job, plan))

    def race(self, jobs: Sequence[Job], plan: TimingPlan, rounds: int) -> list[Measurement]:
        answers = [self._answer(job, plan) for job in jobs]
        return [_of_runs(answer, rounds) for answer in answers]

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, job: Job, plan: TimingPlan) -> Measurement:
        if job.workload != self._recorded.workload:
            raise InvalidInputError(
                f"no recorded measurement of {job.workload}; there are those of "
                f"{self._recorded.workload}"
            )
        found = self._recorded.measure(job.schedule)
        return replace(found, environment=self.environment(plan))


def _by(plan: TimingPlan, answer: Measurement) -> Measurement:
    """No more of the recorded times than a device would have measured under the plan.

    The times come over and over where they are too few to drop a schedule by.
    """
    if not answer.is_ok:
        return answer
    for runs in range(1, max(len(answer.times_s), plan.drop_runs) + 1):
        timed = _of_runs(answer, runs)
        verdict = plan.verdict(timed.times_s)
        if verdict is Verdict.DROPPED:
            return replace(timed, details=freeze({**dict(answer.details), "dropped": True}))
        if verdict is not Verdict.OPEN:
            return timed
    return answer


def _of_runs(answer: Measurement, runs: int) -> Measurement:
    """The recorded times over and over, `runs` of them."""
    if not answer.is_ok:
        return answer
    times_s = answer.times_s * -(-runs // len(answer.times_s))
    return replace(answer, times_s=times_s[:runs])
