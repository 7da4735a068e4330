"""Kernels against libraries, interleaved in one run of one process with a clean environment."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from autotune.backends.base import Backend
from autotune.confidence import relative_interval
from autotune.disturbance import calm
from autotune.libraries import clean_environment, library
from autotune.measure import Announce, Phase
from autotune.messages import Task
from autotune.problems import Problem, check, problem
from autotune.runners import Job
from autotune.workers import Worker, WorkerFailure
from records.canonical import Value
from records.errors import DeviceError
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
    """What is to be raced: compiled schedules by name, and libraries by name. Picklable."""

    workload: Workload
    kernels: tuple[tuple[str, Job], ...]
    libraries: tuple[str, ...]
    rounds: int = 15
    seed: int = 0


def hold(device: str, contest: Contest) -> list[Standing]:
    """Run a contest in a child process and return the standings, kernels first.

    Every contender is checked against the reference first. Then, each round, in rotating order:
    a pause (threads of a library spin after a call), untimed runs for a warm-up, and a sample, the
    median of a burst of runs; runs that other processes disturb are made again. Times are of the
    wall clock around a call that waits for its result, the same for all. A contender that fails
    has an error; the others go on. Raises `DeviceError` where the child is lost.
    """
    from autotune.device_names import open_backend

    task = _ContestTask(registry.op(contest.workload.op), contest)
    worker = Worker(partial(open_backend, device))
    with clean_environment():  # for the child that starts in here
        try:
            standings: list[Standing] = worker.run(task, dict.fromkeys(Phase, _limit_s(contest)))
        except WorkerFailure as failure:
            raise DeviceError(f"the contest was lost: {failure}") from None
        finally:
            worker.stop()
    return standings


def _limit_s(contest: Contest) -> float:
    """Far more than a contest takes on a device of 10 GFLOP/s."""
    flops = registry.op(contest.workload.op).flops(contest.workload)
    contenders = len(contest.kernels) + len(contest.libraries)
    return 600.0 + contenders * contest.rounds * (1.0 + MAX_BURST * flops / 1e10)


@dataclass(frozen=True)
class _ContestTask(Task):
    op: Op
    contest: Contest

    def __call__(self, backend: Backend, announce: Announce) -> list[Standing]:
        registry.OPS.setdefault(self.op.name, self.op)
        announce(Phase.PREPARING)
        facts = problem(self.contest.workload, self.contest.seed)
        contenders = [
            *(_kernel(name, job, backend, facts) for name, job in self.contest.kernels),
            *(_library(name, self.contest.workload, facts) for name in self.contest.libraries),
        ]
        announce(Phase.LAUNCHING)
        _race([contender for contender in contenders if not contender.error], self.contest.rounds)
        return [contender.standing() for contender in contenders]


@dataclass
class _Contender:
    name: str
    run: Callable[[], object]
    details: Callable[[], Mapping[str, Value]] = dict
    error: str = ""
    times_s: list[float] = field(default_factory=list)

    def standing(self) -> Standing:
        details = {} if self.error else self.details()
        return Standing(self.name, tuple(self.times_s), self.error, details)


def _kernel(name: str, job: Job, backend: Backend, facts: Problem) -> _Contender:
    try:
        execution = backend.prepare(job.source, backend.compile(job.source), facts.inputs)
        execution.poison()
        execution.launch()
        error = execution.damage() or check(facts, execution.outputs()).error
    except DeviceError as refusal:
        return _Contender(name, _nothing, error=str(refusal))
    return _Contender(name, execution.launch, lambda: execution.details, error)


def _library(name: str, workload: Workload, facts: Problem) -> _Contender:
    rival = library(name)
    try:
        run = rival.prepare(workload, facts.inputs)
        error = check(facts, {"c": run()}).error
    except Exception as failure:  # whatever a foreign library raises
        return _Contender(name, _nothing, error=f"{type(failure).__name__}: {failure}")
    return _Contender(name, run, rival.details, error)


def _nothing() -> None:
    return None


def _race(contenders: Sequence[_Contender], rounds: int) -> None:
    for turn in range(rounds):
        start = turn % max(1, len(contenders))
        for contender in (*contenders[start:], *contenders[:start]):
            time.sleep(PAUSE_S)
            contender.times_s.append(_sample_s(contender.run))


def _sample_s(run: Callable[[], object]) -> float:
    started_s, run_s = time.perf_counter(), _timed_s(run)
    while time.perf_counter() - started_s < WARMUP_S:
        run_s = _timed_s(run)
    burst = max(1, min(MAX_BURST, math.ceil(BURST_S / max(run_s, 1e-6))))
    return statistics.median(calm(lambda: _timed_s(run)).time_s for _ in range(burst))


def _timed_s(run: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    run()
    return time.perf_counter() - started_s
