"""A runner without processes: for devices that neither hang nor crash, such as simulated ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autotune.backends.base import Backend
from autotune.limits import breaks_limits
from autotune.measure import circumstances, measure_one, race
from autotune.runners import Job
from autotune.timing import TimingPlan
from records.canonical import Items, freeze
from records.errors import DeviceError
from records.measurement import Measurement, Status
from records.target import Target
from search_spaces.dialect import Dialect


class InProcessRunner:
    """Compiles and measures in the caller's own process, one job at a time. Implements `Runner`.

    A kernel that hangs or crashes takes the caller with it.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def target(self) -> Target:
        return self._backend.target

    @property
    def dialect(self) -> Dialect:
        return self._backend.dialect

    def environment(self, plan: TimingPlan) -> Items:
        return freeze(circumstances(self._backend.environment, plan))

    def measure(self, jobs: Sequence[Job], plan: TimingPlan) -> Iterator[tuple[Job, Measurement]]:
        for job in jobs:
            binary = self._compiled(job, plan)
            if isinstance(binary, Measurement):
                yield job, binary
            else:
                yield job, measure_one(self._backend, job, binary, plan)

    def race(self, jobs: Sequence[Job], plan: TimingPlan, rounds: int) -> list[Measurement]:
        compiled = {index: self._compiled(job, plan) for index, job in enumerate(jobs)}
        results = {
            index: outcome
            for index, outcome in compiled.items()
            if isinstance(outcome, Measurement)
        }
        racing = {
            index: (jobs[index], binary)
            for index, binary in compiled.items()
            if isinstance(binary, bytes)
        }
        while racing:  # again without those that the device refused
            indices = list(racing)
            entries = [racing[index] for index in indices]
            for entry, measurement in race(self._backend, entries, plan, rounds).items():
                results[indices[entry]] = measurement
                del racing[indices[entry]]
        return [results[index] for index in range(len(jobs))]

    def close(self) -> None:
        self._backend.close()

    def _compiled(self, job: Job, plan: TimingPlan) -> bytes | Measurement:
        environment = dict(self.environment(plan))
        reason = breaks_limits(job.source, self.target)
        if reason:
            return Measurement.failed(Status.INVALID, reason, environment=environment)
        try:
            return self._backend.compile(job.source)
        except DeviceError as refusal:
            return Measurement.failed(Status.COMPILE_ERROR, str(refusal), environment=environment)
