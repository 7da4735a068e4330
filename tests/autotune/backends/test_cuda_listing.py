from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from autotune.backends import cuda


def test_without_pycuda_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (info,) = cuda.list_devices()
    assert info.problem == 'PyCUDA not installed: pip install "autotune-kernels[cuda]"'


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace())
    module = ModuleType("pycuda.driver")
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", module)
    return module


def test_without_a_driver_the_reason(driver: ModuleType) -> None:
    def init() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    driver.init = init  # type: ignore[attr-defined]
    (info,) = cuda.list_devices()
    assert "libcuda.so.1" in info.problem


def test_devices_are_listed_with_their_architecture(driver: ModuleType) -> None:
    class Device:
        count = staticmethod(lambda: 2)

        def __init__(self, index: int) -> None:
            self.name = lambda: f"GPU {index}"
            self.compute_capability = lambda: (9, 0)

    driver.__dict__.update(init=lambda: None, Device=Device, get_version=lambda: (12, 6, 0))
    infos = cuda.list_devices()
    assert [info.name for info in infos] == ["cuda:0", "cuda:1"]
    assert infos[1].target is not None and infos[1].target.arch == "sm_90"
    assert infos[1].driver == "12.6.0"
