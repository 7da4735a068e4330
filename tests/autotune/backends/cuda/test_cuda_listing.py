from __future__ import annotations

import sys

import pytest

from autotune.backends import cuda
from autotune.testing.fake_cuda import FakeCuda


def test_without_pycuda_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    (info,) = cuda.list_devices()
    assert not info.usable
    assert 'pip install "autotune-kernels[cuda]"' in info.problem


def test_without_a_driver_the_reason(monkeypatch: pytest.MonkeyPatch, fake: FakeCuda) -> None:
    def init() -> None:
        raise RuntimeError("cuInit failed: no CUDA-capable device is detected")

    monkeypatch.setattr(sys.modules["pycuda.driver"], "init", init)
    (info,) = cuda.list_devices()
    assert "no CUDA-capable device" in info.problem
    assert "install NVIDIA's driver" in info.problem


def test_no_device_is_said(fake: FakeCuda) -> None:
    fake.devices = 0
    (info,) = cuda.list_devices()
    assert "CUDA_VISIBLE_DEVICES" in info.problem


def test_devices_are_listed_with_architecture_and_driver_and_no_context(fake: FakeCuda) -> None:
    fake.devices = 2
    infos = cuda.list_devices()
    assert [info.name for info in infos] == ["cuda:0", "cuda:1"]
    assert all(info.usable for info in infos)
    assert infos[1].target is not None and infos[1].target.arch == "sm_90a"
    assert infos[1].description == "Fake GPU 1"
    assert infos[1].driver == "CUDA 13.0"
    assert fake.contexts == 0
