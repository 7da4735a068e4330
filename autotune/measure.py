"""Measuring: check a kernel's every output, then time it, alone or in a race.

These are plain functions on an open backend; a kernel that hangs or crashes takes the process
with it. `autotune.local_runner` calls them in a child process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from autotune.backends.base import Backend, Execution
from autotune.confidence import relative_interval
from autotune.disturbance import Timed, calm, on_this_host
from autotune.problems import checker
from autotune.runners import Job
from autotune.timing import TimingPlan, Verdict
from records.canonical import Value
from records.errors import AutotuneError, CompileError, DeviceError
from records.measurement import Measurement, Status

PROTOCOL = 1  # rises when times of this protocol are not comparable with the one before
SAMPLE_S = 100e-6  # a timed run lasts at least this long, so that a timer's tick is below 1 %
MAX_LAUNCHES = 100  # of one timed run
PULSE_S = 0.05  # least time between two announcements of launches


class Phase(StrEnum):
    """What a measurement is doing, for whoever must kill it when it takes too long."""

    ACCEPTED = "reading its task"
    COMPILING = "compiling"
    PREPARING = "preparing arrays and reference"
    LAUNCHING = "running the kernel"
    CHECKING = "checking the result"
    CLOSING = "freeing memory"


class Announce(Protocol):
    """Told before each phase, and again before a launch at least `PULSE_S` after the last time.

    `entry` counts the kernels of a race. `known`: the outcome if this phase ends the process.
    """

    def __call__(self, phase: Phase, entry: int = 0, known: Measurement | None = None) -> None: ...


def silent(phase: Phase, entry: int = 0, known: Measurement | None = None) -> None:
    """Announces to nobody."""


def circumstances(environment: Mapping[str, Value], plan: TimingPlan) -> dict[str, Value]:
    """The environment of a measurement under `plan` on a backend with that environment."""
    return {**environment, **plan.circumstances, "protocol": PROTOCOL}


def measure_one(
    backend: Backend,
    job: Job,
    binary: bytes,
    plan: TimingPlan,
    *,
    announce: Announce = silent,
) -> Measurement:
    """Check and time one compiled job by the protocol of `TimingPlan`.

    The timed runs are followed by one more launch on poisoned outputs, which is checked too: a
    kernel that is right only the first time is wrong. (Skipped for a dropped one.) Where one
    launch lasts less than 100 µs, a timed run is as many launches, at most 100, as fill that
    time, and counts as their mean: a timer's tick is then below 1 % of it. `budget_s` counts the
    wall clock from the first timed run, flushes included; one run is always timed.

    On the host's own CPU a run whose threads had to wait for a core is made again, up to three
    times (`autotune.disturbance`).

    Details: `max_error_ratio` (largest error / error allowed), `runs`, `launches_per_run`,
    `interval` (half-width of the median's 95 % confidence interval over the median, from 6 runs
    on), `dropped` and `disturbed_runs` (only where true and not 0), and those of the execution.
    Every failure that leaves the process alive is a status: `compile_error`, `launch_error` for
    other device errors, `wrong_result`, `invalid` for input that no op takes.
    """
    environment = circumstances(backend.environment, plan)
    contestant = None
    try:
        contestant = _Contestant(backend, job, binary, plan, announce)
        measurement = contestant.verify()
        if measurement is None:
            contestant.warm_up()
            _repeat(contestant, plan)
            measurement = contestant.result()
    except AutotuneError as error:
        measurement = Measurement.failed(_status(error), str(error), environment=environment)
    if contestant is not None:
        contestant.close(measurement)
    return measurement


def race(
    backend: Backend,
    entries: Sequence[tuple[Job, bytes]],
    plan: TimingPlan,
    rounds: int,
    *,
    announce: Announce = silent,
) -> dict[int, Measurement]:
    """Time several compiled jobs, interleaved: one run of each a round, in rotating order.

    Each is checked before and after, as `measure_one` does. With warm caches (`flush_bytes` 0)
    one untimed launch comes before every timed run, as the kernel before it has used the caches.
    Neither budget nor drop applies: every one gets `rounds` runs.

    Returns a measurement by index of entry. Those with a wrong result are out, and the race goes
    on. Where the device refuses a launch, its context may be lost: the race ends there, and only
    that entry and those found wrong are in the result. Race the others again in a new process.
    """
    environment = circumstances(backend.environment, plan)
    contestants: dict[int, _Contestant] = {}
    results: dict[int, Measurement] = {}
    current = 0
    try:
        for current, (job, binary) in enumerate(entries):
            contestants[current] = _Contestant(backend, job, binary, plan, announce, current)
            wrong = contestants[current].verify()
            if wrong is not None:
                results[current] = wrong
                contestants.pop(current).close(wrong)
        for turn, timed in _turns(plan, rounds):
            for current in _rotated(list(contestants), turn):
                contestants[current].race_run(timed)
        finished = {}
        for current, contestant in contestants.items():
            finished[current] = contestant.result()
        results.update(finished)
    except AutotuneError as error:
        results[current] = Measurement.failed(_status(error), str(error), environment=environment)
    for index, contestant in contestants.items():
        contestant.close(results.get(index))
    return dict(sorted(results.items()))


class _Contestant:
    """One prepared kernel: its execution, what it must compute, and its times so far."""

    def __init__(
        self,
        backend: Backend,
        job: Job,
        binary: bytes,
        plan: TimingPlan,
        announce: Announce,
        entry: int = 0,
    ) -> None:
        self._announce = _Pulse(announce, entry)
        self._announce(Phase.PREPARING)
        self._plan = plan
        self._environment = circumstances(backend.environment, plan)
        self._checker = checker(job.workload, job.seed)
        inputs = self._checker.problem.inputs
        self._execution: Execution = backend.prepare(job.source, binary, inputs)
        self._on_host = on_this_host(backend.target)
        self._disturbed_runs = 0
        self._max_error_ratio = 0.0
        self._launch_s: list[float] = []  # seconds of untimed launches
        self.times_s: list[float] = []
        self.dropped = False

    def verify(self) -> Measurement | None:
        """One launch into poison, checked; `None` where the result is right."""
        self._execution.poison()
        self._launch_s.append(self._launch())
        self._announce(Phase.CHECKING)
        damage = self._execution.damage()
        if damage:
            return self._wrong(damage)
        verdict = self._checker.check(self._execution.outputs())
        self._max_error_ratio = max(self._max_error_ratio, verdict.max_error_ratio)
        return self._wrong(verdict.error) if verdict.error else None

    def warm_up(self) -> None:
        started_s, runs = time.perf_counter(), 0
        while runs < self._plan.warmup_runs or _since(started_s) < self._plan.warmup_s:
            self._launch_s.append(self._run())
            runs += 1

    def timed_run(self) -> None:
        timed = calm(self._run) if self._on_host else Timed(self._run(), disturbed=False)
        if timed.time_s <= 0.0:
            raise DeviceError("the device's timer says that a run took no time; it cannot be timed")
        self._disturbed_runs += timed.disturbed
        self.times_s.append(timed.time_s)

    def race_run(self, timed: bool) -> None:
        """A run after another kernel's: announced each time, so that a crash has a name."""
        self._announce(Phase.LAUNCHING)
        if not self._plan.flush_bytes:
            self._execution.launch()
        if timed:
            self.timed_run()
        else:
            self._launch_s.append(self._run())

    def result(self) -> Measurement:
        """The outcome of the timed runs, after a last verification."""
        wrong = None if self.dropped else self.verify()
        if wrong is not None:
            return wrong
        details: dict[str, Value] = {
            **self._execution.details,
            "max_error_ratio": self._max_error_ratio,
            "runs": len(self.times_s),
            "launches_per_run": self._launches,
        }
        interval = relative_interval(self.times_s)
        if interval is not None:
            details["interval"] = interval
        if self._disturbed_runs:
            details["disturbed_runs"] = self._disturbed_runs
        if self.dropped:
            details["dropped"] = True
        return Measurement.ok(tuple(self.times_s), details=details, environment=self._environment)

    def close(self, known: Measurement | None) -> None:
        """Free the memory; a heap that the kernel has corrupted may abort the process here."""
        self._announce(Phase.CLOSING, known)
        with suppress(AutotuneError):  # what was measured stands
            self._execution.close()

    @property
    def _launches(self) -> int:
        """Launches of one run, from the fastest launch so far outside timed runs."""
        fastest_s = min(self._launch_s)
        if fastest_s * MAX_LAUNCHES <= SAMPLE_S:
            return MAX_LAUNCHES
        return max(1, -int(-SAMPLE_S // fastest_s))

    def _run(self) -> float:
        launches = self._launches
        return sum(self._launch() for _ in range(launches)) / launches

    def _launch(self) -> float:
        self._announce.pulse()
        if self._plan.flush_bytes:
            self._execution.flush(self._plan.flush_bytes)
        return self._execution.launch()

    def _wrong(self, error: str) -> Measurement:
        return Measurement.failed(
            Status.WRONG_RESULT,
            error,
            details=dict(self._execution.details),
            environment=self._environment,
        )


class _Pulse:
    """Announces phases, and launches not more often than every `PULSE_S`."""

    def __init__(self, announce: Announce, entry: int) -> None:
        self._announce = announce
        self._entry = entry
        self._phase: Phase | None = None
        self._last_s = 0.0

    def __call__(self, phase: Phase, known: Measurement | None = None) -> None:
        self._announce(phase, self._entry, known)
        self._phase, self._last_s = phase, time.perf_counter()

    def pulse(self) -> None:
        is_recent = time.perf_counter() - self._last_s < PULSE_S
        if self._phase is not Phase.LAUNCHING or not is_recent:
            self(Phase.LAUNCHING)


def _since(started_s: float) -> float:
    return time.perf_counter() - started_s


def _repeat(contestant: _Contestant, plan: TimingPlan) -> None:
    """Timed runs until the plan has seen enough, or the budget is used up.

    Looking at the interval after every run makes its true confidence somewhat less than nominal;
    it decides only how long to measure. Who wins is decided by a race.
    """
    started_s = time.perf_counter()
    verdict = Verdict.OPEN
    while verdict is Verdict.OPEN:
        contestant.timed_run()
        verdict = plan.verdict(contestant.times_s)
        if time.perf_counter() - started_s >= plan.budget_s:
            break
    contestant.dropped = verdict is Verdict.DROPPED


def _turns(plan: TimingPlan, rounds: int) -> Iterator[tuple[int, bool]]:
    """Rounds of a race, numbered, and whether they count: the warm-up's do not."""
    started_s, turn = time.perf_counter(), 0
    while turn < plan.warmup_runs or _since(started_s) < plan.warmup_s:
        yield turn, False
        turn += 1
    for later in range(turn, turn + rounds):
        yield later, True


def _rotated(indices: list[int], turn: int) -> list[int]:
    """Starting one later each turn, so that no kernel always follows the same pause."""
    start = turn % len(indices) if indices else 0
    return indices[start:] + indices[:start]


def _status(error: AutotuneError) -> Status:
    if isinstance(error, CompileError):
        return Status.COMPILE_ERROR
    return Status.LAUNCH_ERROR if isinstance(error, DeviceError) else Status.INVALID
