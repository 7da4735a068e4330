from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autotune import child, peaks
from autotune.backends.base import DeviceInfo
from autotune.peaks import Peaks
from records.errors import DeviceError
from records.target import Target

PEAKS = Peaks(100e9, {"float32": 1e12, "float64": 5e11})


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Asked:
    """Stands for the child process, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, function: str, *arguments: Any, timeout_s: float) -> Any:
        self.times += 1
        return PEAKS.to_json()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    ask = Asked()
    monkeypatch.setattr(child, "ask", ask)
    return ask


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The installed driver's version, as a list of one to change."""
    versions = ["1.0"]
    target = Target.of("opencl", "a CPU", "any", {"kind": "cpu"})
    monkeypatch.setattr(
        peaks,
        "resolve",
        lambda name: DeviceInfo("opencl:0:0", "opencl", "a CPU", "", target, versions[0]),
    )
    return versions


def test_json_round_trip() -> None:
    assert Peaks.from_json(PEAKS.to_json()) == PEAKS


@pytest.mark.parametrize(
    ("flops", "bytes_", "dtype", "expected_s"),
    [
        (1e12, 1e9, "float32", 1.0),
        (1e12, 1e9, "float64", 2.0),
        (1e9, 1e12, "float32", 10.0),
        (1e12, 1e9, "bfloat16", 0.01),
    ],
)
def test_the_roofline_is_the_slower_of_work_and_traffic(
    flops: float, bytes_: float, dtype: str, expected_s: float
) -> None:
    assert PEAKS.floor_s(flops, bytes_, dtype) == pytest.approx(expected_s)


def test_a_device_is_probed_once_for_a_driver(driver: list[str], asked: Asked) -> None:
    assert peaks.known() is None
    assert peaks.probe() == PEAKS == peaks.probe() == peaks.known()
    assert asked.times == 1
    driver[0] = "1.1"
    assert peaks.known() is None
    peaks.probe()
    assert asked.times == 2
    peaks.probe(again=True)
    assert asked.times == 3


def test_a_spoilt_file_is_probed_again(driver: list[str], asked: Asked, tmp_path: Path) -> None:
    peaks.probe()
    (file,) = tmp_path.rglob("*.json")
    file.write_text('{"copy_bytes')
    assert peaks.probe() == PEAKS
    assert asked.times == 2


def test_a_probe_that_fails_is_a_device_error_and_not_kept(
    driver: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise DeviceError("crashed with SIGSEGV")

    monkeypatch.setattr(child, "ask", refuse)
    with pytest.raises(DeviceError, match="SIGSEGV"):
        peaks.probe()
    assert peaks.known() is None
