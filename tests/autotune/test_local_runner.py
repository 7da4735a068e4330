"""The local runner over simulated devices: what breaks, and what survives."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autotune.backends.simulated import FLAKY, Failure, SimulatedBackend
from autotune.local_runner import LocalRunner
from autotune.runners import Job
from autotune.testing import addition
from autotune.testing.runner import Kind, RunnerConformance
from autotune.timing import TimingPlan
from records.errors import DeviceError, InvalidInputError
from records.measurement import Measurement, Status

REQUESTS = {
    "compile_error": Failure.COMPILE_ERROR,
    "launch_error": Failure.LAUNCH_ERROR,
    "wrong_result": Failure.WRONG_RESULT,
    "hang": Failure.HANG,
    "crash": Failure.SEGFAULT,
}


class TestOnSimulated(RunnerConformance):
    @pytest.fixture
    def runner(self) -> Iterator[LocalRunner]:
        with LocalRunner(SimulatedBackend, compile_workers=1) as runner:
            yield runner

    def job(self, kind: Kind, number: int = 0) -> Job:
        if kind == "invalid":
            return addition.too_large_a_group(number)
        request = f"\n#define SIMULATE_FAILURE {REQUESTS[kind]}\n" if kind in REQUESTS else ""
        return addition.job("c[i] = a[i] + b[i];" + request, number)


PLAN = TimingPlan(
    warmup_s=0.0, compile_timeout_s=1.0, launch_timeout_s=1.0, budget_s=0.05, max_runs=8
)


class Diary(SimulatedBackend):
    """Writes a line to a file before and after each compile and each launch, with the time."""

    def __init__(self, path: Path, kind: str = "gpu", pause_s: float = 0.0) -> None:
        super().__init__(kind=kind)
        self._path = path
        self._pause_s = pause_s

    def compile(self, source: Any) -> bytes:
        with self._noted("compile"):
            time.sleep(self._pause_s)
            return super().compile(source)

    def prepare(self, source: Any, binary: bytes, inputs: Any) -> Any:
        with self._noted("measure"):
            time.sleep(self._pause_s)
            return super().prepare(source, binary, inputs)

    def _noted(self, what: str) -> Any:
        return Noted(self._path, what)


class Noted:
    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what

    def __enter__(self) -> None:
        self._note("start")

    def __exit__(self, *error: object) -> None:
        self._note("end")

    def _note(self, when: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{time.monotonic()} {self._what} {when}\n")


def events(path: Path) -> list[tuple[str, str]]:
    lines = sorted(path.read_text().splitlines(), key=lambda line: float(line.split()[0]))
    return [(line.split()[1], line.split()[2]) for line in lines]


def failing(failure: Failure, number: int = 0) -> Job:
    return addition.job(f"c[i] = a[i] + b[i];\n#define SIMULATE_FAILURE {failure}\n", number)


@pytest.fixture(scope="module")
def steady() -> Iterator[LocalRunner]:
    """One for all, as it must survive each test."""
    with LocalRunner(SimulatedBackend, compile_workers=2) as runner:
        yield runner


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


REASONS = {
    Failure.COMPILE_CRASH: (Status.COMPILE_ERROR, "the compiler crashed: .* SIGSEGV"),
    Failure.COMPILE_HANG: (Status.COMPILE_ERROR, "compiling took longer than 1 s"),
    Failure.ABORT: (Status.CRASHED, "SIGABRT .* while running .*\nsimulated: assertion failed"),
    Failure.EXIT: (Status.CRASHED, "exit status 3 while running the kernel"),
    Failure.ABORT_AT_CLOSE: (Status.CRASHED, "while freeing memory; .*\n.*invalid pointer"),
    Failure.HANG: (Status.TIMEOUT, "running the kernel took longer than 1 s"),
    Failure.WRONG_LATER: (Status.WRONG_RESULT, "1 of 1024 elements"),
}


def test_failures_keep_their_reason(steady: LocalRunner) -> None:
    jobs = {failing(failure): failure for failure in REASONS}
    fine = [addition.job(number=number) for number in range(1, 3)]
    results = dict(steady.measure([fine[0], *jobs, fine[1]], PLAN))
    for job, failure in jobs.items():
        status, words = REASONS[failure]
        assert results[job].status is status
        assert re.search(words, results[job].error)
    assert all(results[job].is_ok for job in fine)


def test_what_was_known_before_a_crash_on_closing_stands() -> None:
    with LocalRunner(WrongAndCorrupting, compile_workers=1) as runner:
        [(_, measurement)] = runner.measure([addition.job()], PLAN)
    assert measurement.status is Status.WRONG_RESULT
    assert "1 of 1024 elements are off" in measurement.error


class WrongAndCorrupting(SimulatedBackend):
    def prepare(self, source: Any, binary: bytes, inputs: Any) -> Any:
        execution = super().prepare(source, binary, inputs)
        execution._failure = Failure.WRONG_RESULT
        execution.close = os.abort  # type: ignore[method-assign]
        return execution


def test_a_worker_killed_at_any_moment_loses_nothing() -> None:
    """SIGKILL at a random moment within each job, at most one a job."""
    random_delay = random.Random(1)
    jobs = [addition.job(number=number) for number in range(12)]
    done: list[tuple[Job, Measurement]] = []
    ended = threading.Event()

    def kill_one_a_job() -> None:
        killed_at = -1
        while not ended.is_set():
            pids = runner.worker_pids
            if len(done) > killed_at and pids:
                time.sleep(random_delay.uniform(0.0, 0.05))
                killed_at = len(done)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random_delay.choice(pids), signal.SIGKILL)
            time.sleep(0.001)

    slow = partial(SlowToPrepare, 0.03)
    with LocalRunner(slow, compile_workers=2) as runner:
        killer = threading.Thread(target=kill_one_a_job)
        killer.start()
        try:
            for result in runner.measure(jobs, PLAN):
                done.append(result)
        finally:
            ended.set()
            killer.join()
    assert sorted(job.schedule["number"] for job, _ in done) == list(range(12))
    assert [measurement.error for _, measurement in done if not measurement.is_ok] == []


class SlowToPrepare(SimulatedBackend):
    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self._pause_s = pause_s

    def prepare(self, source: Any, binary: bytes, inputs: Any) -> Any:
        time.sleep(self._pause_s)
        return super().prepare(source, binary, inputs)


class KillsItself(SimulatedBackend):
    """As if the system were out of memory for this kernel, every time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def prepare(self, source: Any, binary: bytes, inputs: Any) -> Any:
        if "NUMBER 0" in source.text:
            with self._path.open("a") as file:
                file.write(".")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(source, binary, inputs)


def test_a_job_that_is_always_killed_is_tried_twice(tmp_path: Path) -> None:
    path = tmp_path / "tries"
    with LocalRunner(partial(KillsItself, path), compile_workers=1) as runner:
        jobs = [addition.job(number=number) for number in range(2)]
        results = dict(runner.measure(jobs, PLAN))
        raced = runner.race(jobs, PLAN, 2)
    assert results[jobs[0]].status is Status.CRASHED
    assert "out of memory" in results[jobs[0]].error
    assert results[jobs[1]].is_ok
    assert [result.status for result in raced] == [Status.CRASHED, Status.OK]
    assert path.read_text() == "...."


def test_a_race_survives_several_kinds_of_failure(steady: LocalRunner) -> None:
    kinds = [None, Failure.SEGFAULT, Failure.LAUNCH_ERROR, None, Failure.ABORT_AT_CLOSE, None]
    jobs = [failing(kind, n) if kind else addition.job(number=n) for n, kind in enumerate(kinds)]
    results = steady.race(jobs, PLAN, 3)
    assert [result.status for result in results] == [
        Status.OK,
        Status.CRASHED,
        Status.LAUNCH_ERROR,
        Status.OK,
        Status.CRASHED,
        Status.OK,
    ]


def test_equal_texts_are_compiled_once_and_remembered_for_the_race(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    with LocalRunner(partial(Diary, path), compile_workers=2) as runner:
        job = addition.job()
        jobs = [replace(job, seed=seed) for seed in range(4)]
        assert len(list(runner.measure(jobs, PLAN))) == 4
        assert all(result.is_ok for result in runner.race(jobs, PLAN, 2))
        list(runner.measure([job], PLAN))
    assert events(path).count(("compile", "start")) == 1
    assert events(path).count(("measure", "start")) == 9


def test_a_cpu_is_measured_while_nothing_compiles(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    diary = partial(Diary, path, kind="cpu", pause_s=0.01)
    jobs = [addition.job(number=number) for number in range(20)]
    with LocalRunner(diary, compile_workers=2) as runner:
        assert all(result.is_ok for _, result in runner.measure(jobs, PLAN))
    compiling = 0
    for what, when in events(path):
        if what == "compile":
            compiling += 1 if when == "start" else -1
        else:
            assert compiling == 0
    assert events(path).count(("measure", "end")) == 20


def test_elsewhere_compiling_goes_on_while_a_result_is_held(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    jobs = [addition.job(number=number) for number in range(6)]
    with LocalRunner(partial(Diary, path, pause_s=0.01), compile_workers=1) as runner:
        results = runner.measure(jobs, PLAN)
        next(results)
        deadline_s = time.monotonic() + 20.0
        while events(path).count(("compile", "end")) < 6 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert events(path).count(("compile", "end")) == 6
        assert events(path).count(("measure", "start")) == 1
        assert len(list(results)) == 5


def test_close_kills_the_children_even_while_they_compile(tmp_path: Path) -> None:
    runner = LocalRunner(SimulatedBackend, compile_workers=2)
    results = runner.measure(
        [addition.job(), failing(Failure.COMPILE_HANG, 1)], replace(PLAN, compile_timeout_s=60.0)
    )
    assert next(results)[1].is_ok
    pids = runner.worker_pids
    assert len(pids) == 3
    started_s = time.monotonic()
    runner.close()
    assert time.monotonic() - started_s < 30.0
    assert not any(map(is_alive, pids)), "neither running nor zombies"
    assert runner.worker_pids == []


def test_a_closed_runner_says_so() -> None:
    runner = LocalRunner(SimulatedBackend, compile_workers=1)
    results = runner.measure([addition.job(number=number) for number in range(8)], PLAN)
    next(results)
    runner.close()
    with pytest.raises(DeviceError, match="closed"):
        list(results)
    with pytest.raises(DeviceError, match="closed"):
        list(runner.measure([addition.job()], PLAN))
    assert runner.worker_pids == []


def test_a_device_that_goes_away_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.touch()
    with LocalRunner(partial(open_while_there, path), compile_workers=1) as runner:
        jobs = [addition.job(number=0), failing(Failure.SEGFAULT, 1), addition.job(number=2)]
        results = runner.measure(jobs, PLAN)
        assert next(results)[1].is_ok
        path.unlink()
        with pytest.raises(DeviceError, match="fell off the bus"):
            list(results)


def open_while_there(path: Path) -> SimulatedBackend:
    if not path.exists():
        raise DeviceError("the device fell off the bus")
    return SimulatedBackend()


def test_an_unknown_device_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="sim:nonsense"):
        LocalRunner("sim:nonsense")


def test_an_op_unknown_to_this_process_is_a_result(steady: LocalRunner) -> None:
    job = addition.job()
    unknown = replace(job, workload=replace(job.workload, op="unheard of"))
    [(_, measurement)] = steady.measure([unknown], PLAN)
    assert measurement.status is Status.INVALID
    assert "unheard of" in measurement.error


def test_a_runner_made_by_a_thread_that_has_ended() -> None:
    """On Linux a child dies with the thread that started it; it is replaced."""
    runners: list[LocalRunner] = []
    maker = threading.Thread(
        target=lambda: runners.append(LocalRunner(SimulatedBackend, compile_workers=1))
    )
    maker.start()
    maker.join()
    with runners[0] as runner:
        [(_, measurement)] = runner.measure([addition.job()], PLAN)
    assert measurement.is_ok


def test_the_flaky_device_fails_in_every_way_and_every_job_comes_back() -> None:
    jobs: dict[Failure | None, Job] = {}
    for number in range(2000):
        job = addition.job(number=number)
        jobs.setdefault(FLAKY(job.source), job)
    plan = replace(PLAN, compile_timeout_s=0.2, launch_timeout_s=0.2)
    with LocalRunner("sim:flaky", compile_workers=2) as runner:
        results = dict(runner.measure(list(jobs.values()), plan))
    assert jobs.keys() == {None, *Failure}
    assert results.keys() == set(jobs.values())
    assert {result.status for result in results.values()} == set(Status) - {Status.INVALID}
    assert results[jobs[None]].is_ok


def test_compile_time_and_circumstances_are_told(steady: LocalRunner) -> None:
    plan = replace(PLAN, flush_bytes=4096)
    jobs = [addition.job(), failing(Failure.SEGFAULT), failing(Failure.COMPILE_ERROR)]
    for _, measurement in steady.measure(jobs, plan):
        assert measurement.compile_s > 0.0
        assert dict(measurement.environment)["flush_bytes"] == 4096
        assert measurement.environment == steady.environment(plan)
