"""The runner without processes keeps the contract as far as nothing kills its process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autotune.backends.simulated import SimulatedBackend
from autotune.runners import Job
from autotune.testing import addition
from autotune.testing.in_process import InProcessRunner
from autotune.testing.runner import Kind, RunnerConformance


class TestInProcess(RunnerConformance):
    kinds = ("ok", "compile_error", "launch_error", "wrong_result", "invalid")

    @pytest.fixture
    def runner(self) -> Iterator[InProcessRunner]:
        runner = InProcessRunner(SimulatedBackend())
        yield runner
        runner.close()

    def job(self, kind: Kind, number: int = 0) -> Job:
        if kind == "invalid":
            return addition.too_large_a_group(number)
        request = "" if kind == "ok" else f"\n#define SIMULATE_FAILURE {kind}\n"
        return addition.job("c[i] = a[i] + b[i];" + request, number)
