"""The local runner on the first usable OpenCL device, with kernels that really break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autotune.local_runner import LocalRunner
from autotune.runners import Job
from autotune.testing import addition, devices
from autotune.testing.runner import Kind, RunnerConformance
from records.measurement import Status

BODIES = {
    "ok": "c[i] = a[i] + b[i];",
    "compile_error": "c[i] = a[i] + nothing[i];",
    "wrong_result": "c[i] = a[i] + b[i] + (i == 77);",
    "hang": "volatile int forever = 1; while (forever) {} c[i] = a[i] + b[i];",
    "crash": "*(volatile __global float*)(16 + i * 4) = a[i]; c[i] = a[i] + b[i];",
}


class TestOnOpenCl(RunnerConformance):
    kinds = ("ok", "compile_error", "wrong_result", "hang", "crash", "invalid")

    @pytest.fixture
    def runner(self) -> Iterator[LocalRunner]:
        usable = devices.names("opencl")
        if not usable:
            pytest.skip("no usable OpenCL device")
        with LocalRunner(usable[0], compile_workers=1) as runner:
            yield runner

    def job(self, kind: Kind, number: int = 0) -> Job:
        if kind == "invalid":
            return addition.too_large_a_group(number)
        return addition.job(BODIES[kind], number)

    def test_a_write_just_past_the_end_is_a_wrong_result(self, runner: LocalRunner) -> None:
        body = "c[i] = a[i] + b[i]; if (i == 1023) c[1024 + 5] = 1.0f;"
        [(_, measurement)] = runner.measure([addition.job(body)], self.plan)
        assert measurement.status is Status.WRONG_RESULT
        assert "outside the buffer" in measurement.error

    def test_an_element_left_out_is_a_wrong_result(self, runner: LocalRunner) -> None:
        [(_, measurement)] = runner.measure(
            [addition.job("if (i != 77) c[i] = a[i] + b[i];")], self.plan
        )
        assert measurement.status is Status.WRONG_RESULT
        assert "1 of 1024 elements are off, the worst at [77]: nan" in measurement.error
