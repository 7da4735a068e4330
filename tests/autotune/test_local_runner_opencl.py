"""The local runner on the first usable OpenCL device, with kernels that really break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autotune.device_names import is_simulator, list_devices
from autotune.local_runner import LocalRunner
from autotune.runners import Job
from autotune.testing import addition
from autotune.testing.runner import Kind, RunnerConformance

BODIES = {
    "ok": "c[i] = a[i] + b[i];",
    "compile_error": "c[i] = a[i] + nothing[i];",
    "wrong_result": "c[i] = a[i] + b[i] + (i == 77);",
    "hang": "volatile int forever = 1; while (forever) {} c[i] = a[i] + b[i];",
    "crash": "*(volatile __global float*)(16 + i * 4) = a[i]; c[i] = a[i] + b[i];",
}


def device_name() -> str:
    usable = [
        info
        for info in list_devices()
        if info.backend == "opencl" and info.usable and not is_simulator(info)
    ]
    if not usable:
        pytest.skip("no usable OpenCL device")
    return usable[0].name


class TestOnOpenCl(RunnerConformance):
    kinds = ("ok", "compile_error", "wrong_result", "hang", "crash", "invalid")

    @pytest.fixture
    def runner(self) -> Iterator[LocalRunner]:
        with LocalRunner(device_name(), compile_workers=1) as runner:
            yield runner

    def job(self, kind: Kind, number: int = 0) -> Job:
        if kind == "invalid":
            return addition.too_large_a_group(number)
        return addition.job(BODIES[kind], number)

    def test_a_write_past_the_end_is_a_wrong_result(self, runner: LocalRunner) -> None:
        past_the_end = addition.job("c[i] = a[i] + b[i]; c[i + 8] = 1.0f; c[i] = a[i] + b[i];")
        [(_, measurement)] = runner.measure([past_the_end], self.plan)
        assert not measurement.is_ok, "a write past the end passed as right"
