"""Kernels against libraries, interleaved in one run of one process with a clean environment.

On a GPU both sides are timed by its own clock, between events around the work.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from autotune.backends.base import Backend, Execution
from autotune.confidence import relative_interval
from autotune.disturbance import calm, on_this_host
from autotune.libraries import clean_environment, library
from autotune.measure import Announce, Phase
from autotune.messages import Task
from autotune.problem_files import ProblemFiles
from autotune.problems import Problem, check, keep_in, problem
from autotune.runners import Job
from autotune.workers import Worker, WorkerFailure
from records.canonical import Value
from records.errors import AutotuneError, DeviceError
from records.workload import Workload
from search_spaces import registry
from search_spaces.op import Op

PAUSE_S = 0.13  # OpenBLAS's threads spin for about 0.1 s after a call and would disturb the next
WARMUP_S = 0.05  # threads that were asleep may all wake on one core; the system then spreads them
BURST_S = 0.02  # a round's sample is the median of runs that fill this time
MAX_BURST = 9


@dataclass(frozen=True)
class Standing:
    """One contender's outcome. `times_s`: one a round; `error` says why there are none.

    `details`: what ran, in a library's own words (version, threads, kernel architecture).
    """

    name: str
    times_s: tuple[float, ...] = ()
    error: str = ""
    details: Mapping[str, Value] = field(default_factory=dict)

    @property
    def time_s(self) -> float | None:
        return statistics.median(self.times_s) if self.times_s else None


@dataclass(frozen=True)
class Ratio:
    """How often faster a contender is than another: the median over rounds of paired ratios.

    `interval`: relative half-width of its 95 % confidence interval; `None` with few rounds.
    """

    value: float
    interval: float | None


def ratio(ours: Standing, theirs: Standing) -> Ratio:
    """Above 1 where `ours` is faster. Both need times of the same rounds."""
    pairs = zip(ours.times_s, theirs.times_s, strict=True)
    ratios = [their_s / our_s for our_s, their_s in pairs]
    return Ratio(statistics.median(ratios), relative_interval(ratios))


@dataclass(frozen=True)
class Contest:
    """What is to be raced: compiled schedules by name, and libraries by name. Picklable.

    Caches are flushed by `flush_bytes` before each run; 0: they are warm.
    """

    workload: Workload
    kernels: tuple[tuple[str, Job], ...]
    libraries: tuple[str, ...]
    rounds: int = 15
    seed: int = 0
    flush_bytes: int = 0


class Ring:
    """A child process with a clean environment, in which contests are held one after another.

    It starts with the first one, and again after one in which a contender failed. `device`: its
    canonical name. Inputs and references that take long to make are looked for in `problem_files`.
    Used by one thread; close it, or use it in a `with`.
    """

    def __init__(self, device: str, *, problem_files: ProblemFiles | None = None) -> None:
        from autotune.device_names import open_backend

        self._device = device
        self._problem_files = problem_files
        self._worker = Worker(partial(open_backend, device))
        self._knows_libraries = False

    def hold(self, contest: Contest) -> list[Standing]:
        """Run a contest and return the standings, kernels first.

        Every contender is checked against the reference first. Then, each round, in rotating
        order: untimed runs for a warm-up, and a sample, the median of a burst of runs. A contender
        that fails has an error; the others go on. Raises `DeviceError` where the child is lost.

        On the host's own cores a pause comes before each turn (threads of a library spin after a
        call), runs that other processes disturb are made again, and times are of the wall clock
        around a call that waits for its result. Elsewhere they are what each launch says the
        device took.
        """
        op, files = registry.op(contest.workload.op), self._problem_files
        task = _ContestTask(op, self._device, contest, files)
        if contest.libraries and not self._knows_libraries:
            self.close()  # PyTorch must make a CUDA device's primary context before we retain it
            self._knows_libraries = True
        with clean_environment():  # for the child, should it start in here
            try:
                limits_s = dict.fromkeys(Phase, _limit_s(contest))
                standings: list[Standing] = self._worker.run(task, limits_s)
            except WorkerFailure as failure:
                self.close()
                raise DeviceError(f"the contest was lost: {failure}") from None
        if any(each.error for each in standings):
            self.close()  # it may have left a broken context, or memory that it has damaged
        return standings

    def close(self) -> None:
        """End the process. Idempotent; the next contest starts another."""
        self._worker.stop()
        self._knows_libraries = False

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def hold(device: str, contest: Contest) -> list[Standing]:
    """One contest in a `Ring` of its own."""
    with Ring(device) as ring:
        return ring.hold(contest)


def _limit_s(contest: Contest) -> float:
    """Far more than a contest takes on a device of 10 GFLOP/s."""
    flops = registry.op(contest.workload.op).flops(contest.workload)
    contenders = len(contest.kernels) + len(contest.libraries)
    return 600.0 + contenders * contest.rounds * (1.0 + MAX_BURST * flops / 1e10)


@dataclass(frozen=True)
class _ContestTask(Task):
    op: Op
    device: str
    contest: Contest
    problem_files: ProblemFiles | None

    def __call__(self, backend: Backend, announce: Announce) -> list[Standing]:
        registry.OPS.setdefault(self.op.name, self.op)
        keep_in(self.problem_files)
        announce(Phase.PREPARING)
        contest = self.contest
        facts = problem(contest.workload, contest.seed)
        sampler: _Sampler = _OnHost(contest) if on_this_host(backend.target) else _OnDevice(contest)
        # Libraries first: in a new process PyTorch's context must come before ours.
        theirs = [self._library(name, facts) for name in contest.libraries]
        ours = [
            _entered(name, partial(_kernel, job, backend, facts), facts)
            for name, job in contest.kernels
        ]
        announce(Phase.LAUNCHING)
        try:
            _race([each for each in (*ours, *theirs) if not each.error], contest.rounds, sampler)
            return [each.standing() for each in (*ours, *theirs)]
        finally:
            for each in (*ours, *theirs):
                each.close()

    def _library(self, name: str, facts: Problem) -> _Contender:
        workload, device = self.contest.workload, self.device
        return _entered(name, lambda: library(name).prepare(workload, facts.inputs, device), facts)


@dataclass
class _Contender:
    """An error says why there is no execution that can be timed."""

    name: str
    execution: Execution | None = None
    error: str = ""
    times_s: list[float] = field(default_factory=list)

    def standing(self) -> Standing:
        details = {} if self.execution is None else self.execution.details
        return Standing(self.name, tuple(self.times_s), self.error, details)

    def close(self) -> None:
        if self.execution is not None:
            with suppress(AutotuneError):  # what was measured stands
                self.execution.close()


def _kernel(job: Job, backend: Backend, facts: Problem) -> Execution:
    return backend.prepare(job.source, backend.compile(job.source), facts.inputs)


def _entered(name: str, prepare: Callable[[], Execution], facts: Problem) -> _Contender:
    """A contender that computes the right thing, or the reason why not."""
    try:
        execution = prepare()
        execution.poison()
        execution.launch()
        error = execution.damage() or check(facts, execution.outputs()).error
    except DeviceError as refusal:
        return _Contender(name, error=str(refusal))
    except Exception as failure:  # whatever a foreign library raises
        return _Contender(name, error=f"{type(failure).__name__}: {failure}")
    return _Contender(name, None, error) if error else _Contender(name, execution)


class _Sampler(Protocol):
    """How a contender's turn is timed, by where it runs."""

    pause_s: float

    def run_s(self, execution: Execution) -> float:
        """Seconds of one run, under the contest's caches."""

    def counted_s(self, execution: Execution) -> float:
        """The same, of a run that counts."""


class _OnHost:
    """The wall clock around a call that waits for its result, the same for all; calm runs."""

    pause_s = PAUSE_S

    def __init__(self, contest: Contest) -> None:
        self._flush_bytes = contest.flush_bytes

    def run_s(self, execution: Execution) -> float:
        execution.flush(self._flush_bytes)
        started_s = time.perf_counter()
        execution.launch()
        return time.perf_counter() - started_s

    def counted_s(self, execution: Execution) -> float:
        return calm(lambda: self.run_s(execution)).time_s


class _OnDevice:
    """What the launch says that the device took: events around it, on both sides."""

    pause_s = 0.0

    def __init__(self, contest: Contest) -> None:
        self._flush_bytes = contest.flush_bytes

    def run_s(self, execution: Execution) -> float:
        execution.flush(self._flush_bytes)
        return execution.launch()

    def counted_s(self, execution: Execution) -> float:
        return self.run_s(execution)


def _race(contenders: Sequence[_Contender], rounds: int, sampler: _Sampler) -> None:
    for turn in range(rounds):
        start = turn % max(1, len(contenders))
        for contender in (*contenders[start:], *contenders[:start]):
            assert contender.execution is not None, "those without are not in the race"
            time.sleep(sampler.pause_s)
            contender.times_s.append(_sample_s(contender.execution, sampler))


def _sample_s(execution: Execution, sampler: _Sampler) -> float:
    started_s, run_s = time.perf_counter(), sampler.run_s(execution)
    while time.perf_counter() - started_s < WARMUP_S:
        run_s = sampler.run_s(execution)
    burst = max(1, min(MAX_BURST, math.ceil(BURST_S / max(run_s, 1e-6))))
    return statistics.median(sampler.counted_s(execution) for _ in range(burst))
