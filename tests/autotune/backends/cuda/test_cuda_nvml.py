from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from autotune.backends.cuda.nvml import Telemetry


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A device at 1755 MHz; `reasons` are the bits of its throttling."""
    module = ModuleType("pynvml")
    answers: dict[str, Any] = {
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "reasons": 0x1,
        "nvmlInit": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlDeviceGetHandleByPciBusId": lambda bus: bus,
        "nvmlDeviceGetClockInfo": lambda handle, clock: {1: 1755, 2: 3201}[clock],
        "nvmlDeviceGetPowerUsage": lambda handle: 612_500,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: module.__dict__["reasons"],
    }
    module.__dict__.update(answers)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr("autotune.backends.cuda.nvml._PERIOD_S", 0.0)
    return module


def test_a_sample_is_told_with_every_reason_since_the_start(nvml: ModuleType) -> None:
    telemetry = Telemetry("0000:01:00.0")
    assert telemetry.driver_version == "580.65.06"
    assert telemetry.details == {}
    for reasons in (0x1, 0x4, 0x20):
        nvml.__dict__["reasons"] = reasons
        telemetry.sample()
    assert telemetry.details == {
        "clock_mhz": 1755,
        "memory_clock_mhz": 3201,
        "power_w": 612.5,
        "temperature_c": 61,
        "throttled": "power cap, software thermal",
    }
    telemetry.restart()
    assert telemetry.details == {}


def test_what_a_device_does_not_tell_is_left_out(nvml: ModuleType) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Not Supported")

    nvml.__dict__["nvmlDeviceGetPowerUsage"] = refuse
    nvml.__dict__["nvmlDeviceGetCurrentClocksThrottleReasons"] = refuse
    telemetry = Telemetry("0000:01:00.0")
    telemetry.sample()
    assert set(telemetry.details) == {"clock_mhz", "memory_clock_mhz", "temperature_c"}


def test_without_the_package_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    telemetry = Telemetry("0000:01:00.0")
    telemetry.sample()
    assert telemetry.details == {}
    assert telemetry.driver_version == ""
