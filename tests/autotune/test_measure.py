"""The measurement protocol on a simulated device in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from autotune import measure
from autotune.backends.simulated import Failure, SimulatedBackend, SimulatedExecution
from autotune.measure import Phase, measure_one, race
from autotune.runners import Job
from autotune.testing import addition
from autotune.timing import TimingPlan
from records.errors import DeviceError
from records.measurement import Measurement, Status

PLAN = TimingPlan(budget_s=60.0, warmup_s=0.0)


class Recorder(SimulatedBackend):
    """Writes down what every execution is told, and answers launches with the times given."""

    def __init__(self, times_s: Mapping[int, float] | float = 1e-3, noise: float = 0.0) -> None:
        super().__init__(noise=noise)
        self.calls: list[tuple[int, str]] = []
        self.times_s = times_s

    def prepare(self, source: Any, binary: bytes, inputs: Any) -> Any:
        number = int(source.text.split("NUMBER ")[1].split()[0])
        return RecordedExecution(self, number, super().prepare(source, binary, inputs))

    def told(self, number: int = 0) -> list[str]:
        return [call for known, call in self.calls if known == number]


class RecordedExecution:
    def __init__(self, backend: Recorder, number: int, inner: SimulatedExecution) -> None:
        self._backend, self._number, self._inner = backend, number, inner

    def __getattr__(self, name: str) -> Any:
        if name == "details":
            return {"registers": 40}
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> Any:
        self._backend.calls.append((self._number, name))
        result = getattr(self._inner, name)(*arguments)
        if name != "launch":
            return result
        times_s = self._backend.times_s
        base_s = times_s if isinstance(times_s, float) else times_s[self._number]
        return base_s * result / self._inner._time_s


def one(backend: SimulatedBackend, job: Job | None = None, plan: TimingPlan = PLAN) -> Measurement:
    job = job or addition.job()
    return measure_one(backend, job, backend.compile(job.source), plan)


def failing(failure: Failure, number: int = 0) -> Job:
    body = f"c[i] = a[i] + b[i];\n#define SIMULATE_FAILURE {failure}\n"
    return addition.job(body, number)


def test_steady_times_need_six_runs_for_an_interval() -> None:
    measurement = one(Recorder())
    assert measurement.is_ok
    assert measurement.times_s == pytest.approx([1e-3] * 6)
    assert measurement.detail("interval") == 0.0
    assert measurement.detail("runs") == 6
    assert measurement.detail("registers") == 40
    assert 0.0 <= measurement.detail("max_error_ratio") <= 1.0
    assert measurement.detail("dropped") is None


def test_the_order_of_things() -> None:
    backend = Recorder()
    one(backend, plan=replace(PLAN, warmup_runs=2, min_runs=6, flush_bytes=1 << 20))
    run = ["flush", "launch"]
    check = ["poison", *run, "damage", "outputs"]
    assert backend.told() == check + run * 2 + run * 6 + check + ["close"]


def test_noise_is_measured_until_the_interval_is_narrow() -> None:
    wide = one(Recorder(noise=0.05), plan=replace(PLAN, max_runs=1000, interval=0.02))
    narrow = one(Recorder(noise=0.05), plan=replace(PLAN, max_runs=1000, interval=0.005))
    assert 6 < wide.detail("runs") < narrow.detail("runs") < 1000
    assert wide.detail("interval") <= 0.02
    assert narrow.detail("interval") <= 0.005


def test_max_runs_end_it() -> None:
    assert one(Recorder(noise=0.5), plan=replace(PLAN, max_runs=17)).detail("runs") == 17


def test_without_budget_one_run_is_timed() -> None:
    measurement = one(Recorder(), plan=replace(PLAN, budget_s=0.0))
    assert len(measurement.times_s) == 1
    assert measurement.detail("interval") is None


@pytest.mark.parametrize(("limit_s", "dropped"), [(0.9e-3, True), (1.1e-3, None), (None, None)])
def test_the_clearly_slow_are_dropped(limit_s: float | None, dropped: bool | None) -> None:
    backend = Recorder()
    measurement = one(backend, plan=replace(PLAN, drop_runs=3, drop_above_s=limit_s))
    assert measurement.is_ok
    assert measurement.detail("dropped") is dropped
    assert (len(measurement.times_s) == 3) == bool(dropped)
    assert backend.told().count("poison") == (1 if dropped else 2)


@pytest.mark.parametrize(("best_s", "runs"), [(0.9e-3, 3), (1.1e-3, 6), (None, 6)])
def test_three_runs_are_enough_to_be_beaten(best_s: float | None, runs: int) -> None:
    backend = Recorder()
    measurement = one(backend, plan=PLAN.against(best_s, drop_factor=1.5))
    assert measurement.is_ok
    assert len(measurement.times_s) == runs
    assert measurement.detail("dropped") is None
    assert backend.told().count("poison") == 2


@pytest.mark.parametrize(("time_s", "launches"), [(1e-3, 1), (60e-6, 2), (3e-6, 34), (1e-8, 100)])
def test_short_kernels_are_launched_several_times_a_run(time_s: float, launches: int) -> None:
    measurement = one(Recorder(time_s))
    assert measurement.detail("launches_per_run") == launches
    assert measurement.time_s == pytest.approx(time_s)


def test_a_timer_that_stands_still_is_no_time() -> None:
    measurement = one(Recorder(0.0))
    assert measurement.status is Status.LAUNCH_ERROR
    assert "took no time" in measurement.error


@pytest.mark.parametrize(
    ("failure", "status", "words"),
    [
        (Failure.WRONG_RESULT, Status.WRONG_RESULT, "1 of 1024 elements are off"),
        (Failure.WRONG_LATER, Status.WRONG_RESULT, "1 of 1024 elements are off"),
        (Failure.OUT_OF_BOUNDS, Status.WRONG_RESULT, "written 4 bytes past its end"),
        (Failure.LAUNCH_ERROR, Status.LAUNCH_ERROR, "out of resources"),
    ],
)
def test_failures_are_results(failure: Failure, status: Status, words: str) -> None:
    measurement = one(SimulatedBackend(), failing(failure))
    assert measurement.status is status
    assert words in measurement.error
    assert measurement.times_s == ()
    assert dict(measurement.environment)["protocol"] == measure.PROTOCOL


def test_a_foreign_binary_and_an_unknown_op_are_results_too() -> None:
    job = addition.job()
    assert measure_one(SimulatedBackend(), job, b"", PLAN).status is Status.LAUNCH_ERROR
    unknown = replace(job, workload=replace(job.workload, op="unheard of"))
    assert one(SimulatedBackend(), unknown).status is Status.INVALID


def test_the_environment_tells_backend_plan_and_protocol() -> None:
    plan = replace(PLAN, flush_bytes=4096, warmup_runs=3)
    environment = dict(one(SimulatedBackend(noise=0.25), plan=plan).environment)
    assert environment["noise"] == 0.25
    assert environment["flush_bytes"] == 4096
    assert environment["warmup_runs"] == 3


def test_phases_are_announced_in_order_and_the_outcome_before_closing() -> None:
    heard: list[tuple[Phase, Measurement | None]] = []

    def announce(phase: Phase, entry: int = 0, known: Measurement | None = None) -> None:
        heard.append((phase, known))

    backend = Recorder()
    job = addition.job()
    measurement = measure_one(backend, job, backend.compile(job.source), PLAN, announce=announce)
    assert [phase for phase, _ in groupby(heard, key=lambda told: told[0])] == [
        Phase.PREPARING,
        Phase.LAUNCHING,
        Phase.CHECKING,
        Phase.LAUNCHING,
        Phase.CHECKING,
        Phase.CLOSING,
    ]
    assert heard[-1] == (Phase.CLOSING, measurement)


def entries(backend: SimulatedBackend, jobs: list[Job]) -> list[tuple[Job, bytes]]:
    return [(job, backend.compile(job.source)) for job in jobs]


def test_a_race_gives_each_its_rounds_in_rotating_order() -> None:
    backend = Recorder({0: 1e-3, 1: 2e-3, 2: 3e-3})
    plan = replace(PLAN, flush_bytes=1 << 20, warmup_runs=0)
    results = race(backend, entries(backend, [addition.job(number=n) for n in range(3)]), plan, 4)
    assert {index: result.time_s for index, result in results.items()} == pytest.approx(
        {0: 1e-3, 1: 2e-3, 2: 3e-3}
    )
    assert {len(result.times_s) for result in results.values()} == {4}
    launches = [number for number, call in backend.calls if call == "launch"]
    assert launches[3:-3] == [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]


def test_a_race_with_warm_caches_warms_them_before_each_run() -> None:
    backend = Recorder({0: 1e-3, 1: 2e-3})
    race(backend, entries(backend, [addition.job(number=n) for n in range(2)]), PLAN, 1)
    launches = [number for number, call in backend.calls if call == "launch"]
    assert launches[2:-2] == [0, 0, 1, 1, 1, 1, 0, 0]


def test_a_wrong_one_leaves_the_race() -> None:
    backend = SimulatedBackend()
    jobs = [addition.job(number=0), failing(Failure.WRONG_RESULT, 1), addition.job(number=2)]
    statuses = [result.status for result in race(backend, entries(backend, jobs), PLAN, 3).values()]
    assert statuses == [Status.OK, Status.WRONG_RESULT, Status.OK]


def test_a_refused_launch_ends_the_race() -> None:
    backend = SimulatedBackend()
    jobs = [addition.job(number=0), failing(Failure.LAUNCH_ERROR, 1), addition.job(number=2)]
    results = race(backend, entries(backend, jobs), PLAN, 3)
    assert {index: result.status for index, result in results.items()} == {1: Status.LAUNCH_ERROR}


def test_the_outputs_are_poisoned_before_each_check() -> None:
    """A kernel that leaves an element out would pass on what a launch before has left there."""
    kept: list[np.floating[Any]] = []

    class Peeking(RecordedExecution):
        def launch(self) -> float:
            kept.append(self._inner.outputs()["c"][5])
            return float(self._call("launch"))

    class Backend(Recorder):
        def prepare(self, source: Any, binary: bytes, inputs: Any) -> Any:
            return Peeking(self, 0, SimulatedBackend.prepare(self, source, binary, inputs))

    one(Backend())
    assert np.isnan(kept[0]) and np.isnan(kept[-1])
    assert not np.isnan(kept[1])


def test_errors_on_closing_do_not_take_the_result_away() -> None:
    class Closing(RecordedExecution):
        def close(self) -> None:
            raise DeviceError("lost")

    class Backend(Recorder):
        def prepare(self, source: Any, binary: bytes, inputs: Any) -> Any:
            return Closing(self, 0, SimulatedBackend.prepare(self, source, binary, inputs))

    assert one(Backend()).is_ok


def test_warm_up_lasts_for_a_time_too() -> None:
    backend = Recorder()
    one(backend, plan=replace(PLAN, warmup_s=0.02, min_runs=6, max_runs=6))
    assert backend.told().count("launch") > 2 + 1 + 6
