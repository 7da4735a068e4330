from __future__ import annotations

import pytest

from autotune.backends.base import DeviceInfo
from autotune.testing import devices
from records.target import Target

TARGET = Target.of("opencl", "a CPU", "any", {"kind": "cpu"})
CPU = DeviceInfo("opencl:0:0", "opencl", "a CPU", "", TARGET, "1.0")
BROKEN = DeviceInfo("opencl:1:0", "opencl", "a GPU", "cannot compile", TARGET, "1.0")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (devices.VARIABLE, "CI"):
        monkeypatch.delenv(variable, raising=False)


def test_every_usable_device_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_devices", lambda: [BROKEN, CPU])
    assert devices.names("opencl") == ["opencl:0:0"]
    assert devices.names("cuda") == []


def test_a_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, "opencl:one, opencl:two")
    asked: list[str] = []

    def resolve(name: str) -> DeviceInfo:
        asked.append(name)
        return CPU

    monkeypatch.setattr(devices, "resolve", resolve)
    assert devices.names("opencl") == ["opencl:0:0", "opencl:0:0"]
    assert asked == ["opencl:one", "opencl:two"]


def test_without_a_device_ci_fails_and_others_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_devices", lambda: [BROKEN])
    assert devices.names("opencl") == []
    monkeypatch.setenv("CI", "true")
    with pytest.raises(RuntimeError, match="autotune-kernels"):
        devices.names("opencl")
    assert devices.names("cuda") == []
