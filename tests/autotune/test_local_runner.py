"""The local runner over simulated devices: what breaks, and what survives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from autotune.backends.simulated import Failure, SimulatedBackend
from autotune.local_runner import LocalRunner
from autotune.runners import Job
from autotune.testing import addition
from autotune.testing.runner import Kind, RunnerConformance

REQUESTS = {
    "compile_error": Failure.COMPILE_ERROR,
    "launch_error": Failure.LAUNCH_ERROR,
    "wrong_result": Failure.WRONG_RESULT,
    "hang": Failure.HANG,
    "crash": Failure.SEGFAULT,
}


class OnSimulated(RunnerConformance):
    kind = "gpu"

    @pytest.fixture
    def runner(self) -> Iterator[LocalRunner]:
        device = partial(SimulatedBackend, kind=self.kind)
        with LocalRunner(device, compile_workers=1) as runner:
            yield runner

    def job(self, kind: Kind, number: int = 0) -> Job:
        if kind == "invalid":
            return addition.too_large_a_group(number)
        request = f"\n#define SIMULATE_FAILURE {REQUESTS[kind]}\n" if kind in REQUESTS else ""
        return addition.job("c[i] = a[i] + b[i];" + request, number)


class TestOnGpu(OnSimulated):
    pass


class TestOnCpu(OnSimulated):
    kind = "cpu"
