from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autotune import child, peak_kernels
from autotune.backends import probes
from autotune.backends.opencl import discovery, runtimes
from autotune.backends.opencl.backend import open_device
from autotune.backends.opencl.driver import find_device
from autotune.backends.opencl.target import target_of
from autotune.device_names import is_simulator, resolve
from autotune.testing import devices
from records.errors import DeviceError, InvalidInputError

NAMES = [name for name in devices.names("opencl") if not is_simulator(resolve(name))]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_target_holds_the_limits_that_templates_need(name: str) -> None:
    target = next(info.target for info in discovery.list_devices() if info.name == name)
    assert target is not None
    for limit in ("units", "max_group", "shared_bytes", "memory_bytes", "max_buffer_bytes"):
        assert target.limit(limit) > 0
    assert target.limit("kind") in ("cpu", "gpu")
    if target.is_cpu:
        assert target.limit("warp") == 1
        assert target.limit("vector_bytes") in (16, 32, 64)
    _, platform, device = name.split(":")
    assert target_of(find_device(int(platform), int(device))) == target


def test_usable_devices_come_first_with_gpus_before_cpus() -> None:
    order = [
        (info.usable, info.target is not None and not info.target.is_cpu)
        for info in discovery.list_devices()
    ]
    assert order == sorted(order, reverse=True)


@pytest.mark.skipif(not NAMES, reason="no device to be broken")
def test_a_device_that_cannot_run_a_kernel_is_listed_with_the_reason_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answers: list[Any] = [DeviceError("crashed with SIGABRT"), True]

    def ask(function: str, name: str, timeout_s: float) -> Any:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(child, "ask", ask)
    broken = {info.name: info for info in discovery.list_devices()}[NAMES[0]]
    assert not broken.usable and "SIGABRT" in broken.problem and "driver" in broken.problem
    answers.pop(0)
    assert {info.name: info for info in discovery.list_devices()}[NAMES[0]].usable
    answers.insert(0, DeviceError("asked although it is known to work"))
    assert {info.name: info for info in discovery.list_devices()}[NAMES[0]].usable


def test_a_setting_that_hides_every_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "platforms", lambda: [])
    monkeypatch.setattr(runtimes, "loading_problem", lambda: "")
    for name in runtimes.USER_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OCL_ICD_VENDORS", "/mine")
    (info,) = discovery.list_devices()
    assert "OCL_ICD_VENDORS=/mine" in info.problem and "unset" in info.problem


@pytest.mark.skipif(not NAMES, reason="no device to ask")
def test_a_home_that_cannot_be_written_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert child.ask(f"{discovery.__name__}:check", NAMES[0], timeout_s=60) is True


@pytest.mark.parametrize("name", ["opencl", "opencl:0", "opencl:a:b"])
def test_only_canonical_names_are_opened(name: str) -> None:
    with pytest.raises(InvalidInputError, match="platform index"):
        open_device(name)


def test_a_device_that_went_away_is_said_so() -> None:
    with pytest.raises(DeviceError, match="no longer there"):
        open_device("opencl:99:0")


def test_peaks_of_a_real_device_are_plausible(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_kernels, "_SEARCH_S", (0.0, 0.05))
    monkeypatch.setattr(probes, "_COPY_BYTES", (1 << 20, 1 << 20))
    backend = open_device(name)
    peaks = peak_kernels.measure(backend)
    backend.close()
    assert peaks.copy_bytes_per_s > 0
    assert set(peaks.flops_per_s) == set(backend.target.limit("dtypes"))
    # A scalar loop does one operation a cycle: vectors and all units are far beyond it.
    assert peaks.flops_per_s["float32"] > 4e9
