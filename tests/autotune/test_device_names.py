from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from autotune import backends, device_names
from autotune.backends.base import DeviceInfo
from records.errors import InvalidInputError, MissingComponentError
from records.target import Target


def device(
    name: str, description: str, kind: str = "cpu", problem: str = "", **limits: object
) -> DeviceInfo:
    backend = name.partition(":")[0]
    target = Target.of(backend, description, "any", {"kind": kind, **limits})
    return DeviceInfo(name, backend, description, problem, target, "1.0")


CPU = device("opencl:1:0", "AMD EPYC (Intel OpenCL)")
SLOW_CPU = device("opencl:2:0", "AMD EPYC (Portable)")
GPU = device("opencl:3:0", "Arc B580 (Intel Graphics)", "gpu")
BROKEN = device("opencl:4:0", "Radeon (Rusticl)", "gpu", problem="cannot compile: update it")
ORACLE = device("opencl:0:0", "Simulator (Oclgrind)", problem="a simulator", simulator=True)
NO_CUDA = DeviceInfo("cuda", "cuda", "NVIDIA GPUs by CUDA", "PyCUDA not installed: pip install x")
FAKE = device("sim:steady", "a device that exists nowhere", "gpu")


@pytest.fixture
def opencl() -> list[DeviceInfo]:
    return [CPU, SLOW_CPU, BROKEN, ORACLE]


@pytest.fixture(autouse=True)
def backend_modules(monkeypatch: pytest.MonkeyPatch, opencl: list[DeviceInfo]) -> None:
    lists = {"opencl": opencl, "cuda": [NO_CUDA], "sim": [FAKE]}
    modules = {
        name: SimpleNamespace(list_devices=lambda infos=infos: infos, open=lambda name: name)
        for name, infos in lists.items()
    }
    monkeypatch.setattr(backends, "load", modules.__getitem__)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, CPU),
        ("opencl", CPU),
        ("opencl:1:0", CPU),
        ("opencl:2:0", SLOW_CPU),
        ("OpenCL:portable", SLOW_CPU),
        ("opencl:EPYC", CPU),
        ("opencl:cpu", CPU),
        ("opencl:oclgrind", ORACLE),
        ("opencl:0:0", ORACLE),
        ("sim:steady", FAKE),
        ("sim", FAKE),
    ],
)
def test_a_name_means_the_fastest_usable_match(name: str | None, expected: DeviceInfo) -> None:
    assert device_names.resolve(name) is expected


def test_a_gpu_goes_before_a_cpu(opencl: list[DeviceInfo]) -> None:
    opencl.insert(1, GPU)
    assert device_names.resolve() is GPU
    assert device_names.resolve("opencl:gpu") is GPU
    assert device_names.resolve("opencl:cpu") is CPU


@pytest.mark.parametrize(
    "name", ["opencl:voodoo", "opencl:9:9", "cuda:0", "metal", "", "sim:voodoo"]
)
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"opencl:1:0 \(AMD EPYC"):
        device_names.resolve(name)


@pytest.mark.parametrize(
    ("name", "remedy"), [("opencl:radeon", "update it"), ("cuda", "pip install x")]
)
def test_a_device_with_a_problem_says_its_remedy(name: str, remedy: str) -> None:
    with pytest.raises(MissingComponentError, match=remedy):
        device_names.resolve(name)


def test_a_simulator_is_never_the_default(opencl: list[DeviceInfo]) -> None:
    opencl[:] = [ORACLE]
    with pytest.raises(MissingComponentError, match="a simulator"):
        device_names.resolve()


def test_simulated_devices_are_listed_on_demand() -> None:
    assert FAKE not in device_names.list_devices()
    assert FAKE in device_names.list_devices(all=True)
    assert {CPU, NO_CUDA} <= set(device_names.list_devices())


def test_open_backend_opens_the_canonical_name() -> None:
    assert device_names.open_backend("opencl:epyc") == "opencl:1:0"


def test_importing_loads_no_driver() -> None:
    code = (
        "import sys, autotune, autotune.device_names, autotune.peaks, autotune.backends.opencl\n"
        "print(sorted({'pyopencl', 'pycuda', 'xgboost'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_module_hides_the_function_that_lists_devices() -> None:
    code = (
        "import autotune, autotune.device_names, autotune.peaks, autotune.api, autotune.cli\n"
        "print(callable(autotune.devices), callable(autotune.devices))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True True\n", "")
