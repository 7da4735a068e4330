"""Trials on a device of this machine, in child processes that may hang and crash."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from autotune.backends.base import Backend
from autotune.compiling import CompilePool
from autotune.limits import breaks_limits
from autotune.measure import Phase, circumstances
from autotune.messages import Task
from autotune.problem_files import ProblemFiles, temporary_directory
from autotune.runners import Job
from autotune.tasks import Compiled, MeasureTask, RaceTask
from autotune.timing import TimingPlan
from autotune.workers import Worker, WorkerDied, WorkerFailure, WorkerTimeout
from records.canonical import Items, freeze
from records.errors import DeviceError
from records.measurement import Measurement, Status
from records.target import Target
from search_spaces import registry
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource

_HOST_WORK_S = 600.0  # for inputs and reference of the largest workloads, or their check
_CLOSE_S = 60.0
_MAX_COMPILE_WORKERS = 8  # each holds an open device, which takes memory there
_CHUNK_PER_WORKER = 8  # texts compiled between two quiet times, on a CPU
_INNOCENT = (Phase.ACCEPTED, Phase.PREPARING)  # no launch yet: an earlier job may be to blame


class LocalRunner:
    """Measures in one child process, compiles in several; implements `Runner`.

    `open_backend` opens the device; it is called in the children, so it must be picklable (a
    function of a module that can be imported, or a `functools.partial` of one), and so must the
    ops of the jobs. A device's name stands for `autotune.device_names.open_backend` of that name.

    Where the device is the host's CPU, measuring must be quiet: jobs are compiled in chunks, by
    all the compile workers, and measured only while nothing compiles. Elsewhere compiling goes on
    while the device measures and while the caller holds a result.

    A child killed from outside costs nothing but time: the job in flight is done again, once. So
    is one whose child died before its launch. After a launch error or a wrong result the child is
    replaced too, because a kernel may have damaged its context or its memory. The next child
    finds inputs and references that take long to make in `problem_files`: by default in a
    temporary directory, and on a CPU in none.

    Used by one thread, and by one `measure` or `race` at a time. Close it, or use it in a `with`.
    Raises `DeviceError` where the device cannot be opened, and `InvalidInputError` or
    `MissingComponentError` as the opening raises them.
    """

    def __init__(
        self,
        open_backend: Callable[[], Backend] | str,
        *,
        compile_workers: int | None = None,
        problem_files: ProblemFiles | None = None,
    ) -> None:
        if isinstance(open_backend, str):
            open_backend = partial(_open_by_name, open_backend)
        self._closed = False
        self._worker = Worker(open_backend)
        ready = self._worker.start()
        self._target, self._dialect = ready.target, ready.dialect
        self._environment = dict(ready.environment)
        workers = compile_workers or _default_compile_workers(ready.target)
        self._pool = CompilePool(open_backend, workers)
        self._problem_files = problem_files
        self._own_files: Path | None = None
        if problem_files is None and not ready.target.is_cpu:  # whose kernels writing disturbs
            self._own_files = temporary_directory()
            self._problem_files = ProblemFiles(self._own_files)

    @property
    def target(self) -> Target:
        return self._target

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def worker_pids(self) -> list[int]:
        """Processes of the children that run now, the measuring one first."""
        measuring = [self._worker.pid] if self._worker.pid is not None else []
        return measuring + self._pool.pids

    def environment(self, plan: TimingPlan) -> Items:
        return freeze(circumstances(self._environment, plan))

    def measure(self, jobs: Sequence[Job], plan: TimingPlan) -> Iterator[tuple[Job, Measurement]]:
        """Every job once: those over the device's limits, then as the compiler finishes them."""
        legal = []
        for job in jobs:
            reason = self._refusal(job)
            if reason:
                yield job, self._failed(Status.INVALID, reason, plan)
            else:
                legal.append(job)
        for index, compiled in self._compiled([job.source for job in legal], plan):
            yield legal[index], self._measure_compiled(legal[index], compiled, plan)

    def race(self, jobs: Sequence[Job], plan: TimingPlan, rounds: int) -> list[Measurement]:
        """All jobs interleaved in one child; where one takes it down, the others race again."""
        results: dict[int, Measurement] = {}
        racing: dict[int, Compiled] = {}
        for index, job in enumerate(jobs):
            reason = self._refusal(job)
            if reason:
                results[index] = self._failed(Status.INVALID, reason, plan)
        legal = [index for index in range(len(jobs)) if index not in results]
        for place, compiled in self._compiled([jobs[index].source for index in legal], plan):
            if compiled.binary is None:
                results[legal[place]] = self._not_compiled(compiled, plan)
            else:
                racing[legal[place]] = compiled
        while racing:
            for index, measurement in self._race_once(jobs, racing, plan, rounds).items():
                results[index] = replace(measurement, compile_s=racing.pop(index).compile_s)
        return [results[index] for index in range(len(jobs))]

    def close(self) -> None:
        """Kill the children, and remove their files. Idempotent."""
        self._closed = True
        self._worker.close()
        self._worker.stop()
        self._pool.close()
        if self._own_files is not None:
            shutil.rmtree(self._own_files, ignore_errors=True)

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _refusal(self, job: Job) -> str:
        if job.workload.op not in registry.OPS:
            return f"no op {job.workload.op!r} in this process; register it first"
        return breaks_limits(job.source, self._target)

    def _compiled(
        self, sources: Sequence[KernelSource], plan: TimingPlan
    ) -> Iterator[tuple[int, Compiled]]:
        """Index and binary of each source, in the order of completion."""
        if self._closed:
            raise DeviceError("the runner is closed; open another")
        is_cpu = self._target.is_cpu
        size = self._pool.size * _CHUNK_PER_WORKER if is_cpu else len(sources)
        for start in range(0, len(sources), max(1, size)):
            chunk = sources[start : start + size]
            with self._pool.compiling(chunk, plan.compile_timeout_s) as batch:
                if is_cpu:
                    batch.wait()
                for index, compiled in batch:
                    yield start + index, compiled

    def _measure_compiled(self, job: Job, compiled: Compiled, plan: TimingPlan) -> Measurement:
        if compiled.binary is None:
            return self._not_compiled(compiled, plan)
        op, files = registry.op(job.workload.op), self._problem_files
        task = MeasureTask(op, job, compiled.binary, plan, files)
        outcome = self._run(task, plan)
        measurement: Measurement
        if isinstance(outcome, WorkerFailure):
            measurement = self._blamed(outcome, plan)
        else:
            measurement = outcome
        self._replace_child_after(measurement)
        return replace(measurement, compile_s=compiled.compile_s)

    def _race_once(
        self, jobs: Sequence[Job], racing: Mapping[int, Compiled], plan: TimingPlan, rounds: int
    ) -> dict[int, Measurement]:
        """Results by index of the job: all of them, or only some where the race was cut short."""
        indices = list(racing)
        ops = tuple({jobs[index].workload.op for index in indices})
        entries = tuple((jobs[index], racing[index].binary or b"") for index in indices)
        found = tuple(map(registry.op, ops))
        task = RaceTask(found, entries, plan, rounds, self._problem_files)
        outcome = self._run(task, plan)
        if isinstance(outcome, WorkerFailure):
            outcome = {outcome.entry: self._blamed(outcome, plan)}
        for measurement in outcome.values():
            self._replace_child_after(measurement)
        return {indices[entry]: measurement for entry, measurement in outcome.items()}

    def _run(self, task: Task, plan: TimingPlan) -> Any:
        """What the task returns, or the `WorkerFailure` that is the task's own fault."""
        for is_last in (False, True):
            try:
                return self._worker.run(task, _limits_s(plan))
            except WorkerDied as death:
                is_victim = death.was_killed or death.phase in _INNOCENT
                if is_last or death.known is not None or not is_victim:
                    return death
            except WorkerFailure as failure:
                return failure
        raise AssertionError("unreachable")

    def _blamed(self, failure: WorkerFailure, plan: TimingPlan) -> Measurement:
        """The outcome of the kernel that was under way when its child failed."""
        known = failure.known
        was_killed = isinstance(failure, WorkerDied) and failure.was_killed
        if known is not None and (was_killed or not known.is_ok):
            return known
        status = Status.TIMEOUT if isinstance(failure, WorkerTimeout) else Status.CRASHED
        return self._failed(status, str(failure), plan)

    def _replace_child_after(self, measurement: Measurement) -> None:
        if measurement.status in (Status.LAUNCH_ERROR, Status.WRONG_RESULT, Status.CRASHED):
            self._worker.stop()

    def _not_compiled(self, compiled: Compiled, plan: TimingPlan) -> Measurement:
        failed = self._failed(Status.COMPILE_ERROR, compiled.error, plan)
        return replace(failed, compile_s=compiled.compile_s)

    def _failed(self, status: Status, error: str, plan: TimingPlan) -> Measurement:
        return Measurement.failed(status, error, environment=dict(self.environment(plan)))


def _limits_s(plan: TimingPlan) -> dict[Phase, float]:
    return {
        Phase.ACCEPTED: _HOST_WORK_S,
        Phase.PREPARING: _HOST_WORK_S,
        Phase.LAUNCHING: plan.launch_timeout_s,
        Phase.CHECKING: _HOST_WORK_S,
        Phase.CLOSING: _CLOSE_S,
    }


def _default_compile_workers(target: Target) -> int:
    """One a core; where the device is not the CPU, a core is left for the measuring process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = (cores or 1) - (0 if target.is_cpu else 1)
    return max(1, min(_MAX_COMPILE_WORKERS, free))


def _open_by_name(name: str) -> Backend:
    from autotune.device_names import open_backend

    return open_backend(name)
