"""The simulated devices: deterministic, and broken exactly as told."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from autotune.backends import simulated
from autotune.backends.simulated import Failure, SimulatedBackend, at_rates, ideal_time_s, numbers
from autotune.problems import problem
from autotune.testing import addition
from records.errors import DeviceError, InvalidInputError


def add(source: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"c": inputs["a"] + inputs["b"]}


def test_the_listed_devices_open_with_their_target() -> None:
    infos = simulated.list_devices()
    assert [info.name for info in infos] == ["sim:steady", "sim:noisy", "sim:flaky"]
    for info in infos:
        assert info.usable
        assert simulated.open(info.name).target == info.target
    assert len({info.target for info in infos}) == 3


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInputError, match="sim:steady, sim:noisy, sim:flaky"):
        simulated.open("sim:unsteady")


def test_numbers_are_read_from_the_defines() -> None:
    job = addition.job("\n#define TILE (32)\n#define TILE 64\n#define X a + 1\n", number=5)
    assert numbers(job.source) == {"NUMBER": 5, "TILE": 32}


def test_times_are_the_same_in_every_process() -> None:
    code = (
        "from autotune.testing import addition; from autotune.backends.simulated import *; "
        "print(repr(ideal_time_s(addition.job(number=9).source)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "123", "PYTHONPATH": ":".join(sys.path)},
    )
    assert float(done.stdout) == ideal_time_s(addition.job(number=9).source)


def test_times_are_smooth_with_one_best_value() -> None:
    times_s = [ideal_time_s(addition.job(number=2**power).source) for power in range(12)]
    best = times_s.index(min(times_s))
    assert times_s[: best + 1] == sorted(times_s[: best + 1], reverse=True)
    assert times_s[best:] == sorted(times_s[best:])
    assert max(b / a for a, b in zip(times_s, times_s[1:], strict=False)) < 3


def test_noise_has_the_spread_it_says() -> None:
    source = addition.job().source
    backend = SimulatedBackend(noise=0.1, solve=add)
    ones = {name: np.ones(1024, np.float32) for name in "ab"}
    first, again = (
        [execution.launch() for _ in range(2000)]
        for execution in (backend.prepare(source, backend.compile(source), ones) for _ in range(2))
    )
    assert first == again
    logs = [math.log(time_s / ideal_time_s(source)) for time_s in first]
    assert np.std(logs) == pytest.approx(0.1, rel=0.1)


def test_rates_hold_and_the_same_kernel_always_fails_the_same() -> None:
    fail = at_rates({Failure.HANG: 0.2, Failure.ABORT: 0.1}, seed=3)
    sources = [addition.job(number=number).source for number in range(2000)]
    drawn = [fail(source) for source in sources]
    assert drawn == [fail(source) for source in sources]
    counts = Counter(drawn)
    assert counts[Failure.HANG] / 2000 == pytest.approx(0.2, abs=0.03)
    assert counts[Failure.ABORT] / 2000 == pytest.approx(0.1, abs=0.03)
    assert counts[None] == 2000 - counts[Failure.HANG] - counts[Failure.ABORT]
    assert drawn != [at_rates({Failure.HANG: 0.2, Failure.ABORT: 0.1})(one) for one in sources]


def test_every_failure_can_be_asked_for() -> None:
    for failure in Failure:
        source = addition.job(f"\n#define SIMULATE_FAILURE {failure}\n").source
        assert simulated.requested(source) is failure
    with pytest.raises(ValueError, match="typo"):
        simulated.requested(addition.job("\n#define SIMULATE_FAILURE typo\n").source)


def test_results_are_those_of_the_problem_at_hand() -> None:
    job = addition.job()
    backend = SimulatedBackend()
    inputs = problem(job.workload, job.seed).inputs
    execution = backend.prepare(job.source, backend.compile(job.source), inputs)
    assert np.isnan(execution.outputs()["c"]).all()
    execution.launch()
    assert np.array_equal(execution.outputs()["c"], inputs["a"] + inputs["b"])


def test_other_arrays_need_a_solver() -> None:
    source = addition.job().source
    ones = {name: np.ones(1024, np.float32) for name in "ab"}
    backend = SimulatedBackend()
    with pytest.raises(DeviceError, match="solve"):
        backend.prepare(source, backend.compile(source), ones)
    backend = SimulatedBackend(solve=add)
    launcher = backend.launcher(source, backend.compile(source))
    assert (launcher(ones)["c"] == 2).all()
    out = np.zeros(1024, np.float32)
    assert launcher(ones, out={"c": out})["c"] is out
    assert (out == 2).all()


def test_a_launch_over_the_limits_is_refused() -> None:
    source = addition.too_large_a_group().source
    backend = SimulatedBackend(solve=add)
    with pytest.raises(DeviceError, match="1048576 work-items; the device takes at most 1024"):
        backend.prepare(source, backend.compile(source), {})
