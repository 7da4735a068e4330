"""What every `Runner` must do. A test module subclasses `RunnerConformance` and adds fixtures:

class TestMyRunner(RunnerConformance):
    @pytest.fixture
    def runner(self): ...            # fresh for each test; yield it and close it

    def job(self, kind, number=0): ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, TypeAlias

import pytest

from autotune.runners import Job, Runner
from autotune.timing import TimingPlan
from records.measurement import Measurement, Status

Kind: TypeAlias = Literal[
    "ok", "compile_error", "launch_error", "wrong_result", "hang", "crash", "invalid"
]

STATUSES: dict[Kind, Status] = {
    "ok": Status.OK,
    "compile_error": Status.COMPILE_ERROR,
    "launch_error": Status.LAUNCH_ERROR,
    "wrong_result": Status.WRONG_RESULT,
    "hang": Status.TIMEOUT,
    "crash": Status.CRASHED,
    "invalid": Status.INVALID,
}


class RunnerConformance:
    """`kinds`: the failures that the runner's device can be brought to."""

    kinds: tuple[Kind, ...] = tuple(STATUSES)
    plan = TimingPlan(warmup_s=0.0, launch_timeout_s=1.0, budget_s=0.05, max_runs=8)

    @pytest.fixture
    def runner(self) -> Iterator[Runner]:
        raise NotImplementedError("a fixture that yields a fresh runner, and closes it")

    def job(self, kind: Kind, number: int = 0) -> Job:
        """A job that ends so; another `number`, another kernel."""
        raise NotImplementedError("a job of each kind in `kinds`")

    def measured(self, runner: Runner, *kinds: Kind) -> dict[Job, Measurement]:
        jobs = [self.job(kind, number) for number, kind in enumerate(kinds)]
        results = list(runner.measure(jobs, self.plan))
        assert len(results) == len(jobs)
        assert {job for job, _ in results} == set(jobs)
        return dict(results)

    def test_every_job_comes_back_once_with_its_status(self, runner: Runner) -> None:
        kinds = [kind for failing in self.kinds for kind in ("ok", failing)]
        for job, measurement in self.measured(runner, *kinds).items():
            kind = kinds[_number(job)]
            assert measurement.status is STATUSES[kind], (kind, measurement.error)
            assert bool(measurement.error) == (kind != "ok")
            assert measurement.environment == runner.environment(self.plan)

    def test_no_jobs_no_results(self, runner: Runner) -> None:
        assert list(runner.measure([], self.plan)) == []
        assert runner.race([], self.plan, 3) == []

    def test_equal_kernels_are_both_measured(self, runner: Runner) -> None:
        job = self.job("ok")
        twin = replace(job, seed=job.seed + 1)
        results = dict(runner.measure([job, twin], self.plan))
        assert all(results[known].is_ok for known in (job, twin))

    def test_an_abandoned_measurement_leaves_the_runner_usable(self, runner: Runner) -> None:
        results = runner.measure([self.job("ok", number) for number in range(4)], self.plan)
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert all(result.is_ok for result in self.measured(runner, "ok", "ok").values())

    def test_a_clearly_slow_candidate_is_dropped_and_says_so(self, runner: Runner) -> None:
        plan = replace(self.plan, budget_s=60.0, drop_above_s=1e-12)
        [(_, measurement)] = runner.measure([self.job("ok")], plan)
        assert measurement.is_ok
        assert measurement.detail("dropped") is True
        assert len(measurement.times_s) == plan.drop_runs

    def test_nothing_is_launched_before_it_is_asked_for(self, runner: Runner) -> None:
        """The second kernel hangs too: had it been launched early, its time would be up."""
        if "hang" not in self.kinds:
            pytest.skip("this device cannot hang")
        timeout_s = 0.4
        plan = replace(self.plan, launch_timeout_s=timeout_s)
        results = iter(runner.measure([self.job("hang", 0), self.job("hang", 1)], plan))
        assert next(results)[1].status is Status.TIMEOUT
        time.sleep(2 * timeout_s)
        asked_s = time.monotonic()
        assert next(results)[1].status is Status.TIMEOUT
        assert time.monotonic() - asked_s > 0.9 * timeout_s

    def test_a_race_answers_in_order(self, runner: Runner) -> None:
        kinds: list[Kind] = ["ok", *self.kinds, "ok"]
        jobs = [self.job(kind, number) for number, kind in enumerate(kinds)]
        results = runner.race(jobs, self.plan, 4)
        assert [result.status for result in results] == [STATUSES[kind] for kind in kinds]
        assert {len(result.times_s) for result in results if result.is_ok} == {4}

    def test_close_is_idempotent(self, runner: Runner) -> None:
        self.measured(runner, "ok")
        runner.close()
        runner.close()


def _number(job: Job) -> int:
    return int(job.schedule["number"])
