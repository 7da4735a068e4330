from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from naive_matmul import Naive, naive_record

from autotune.backends.base import DeviceInfo
from autotune.device_names import is_simulator, list_devices
from records.store import TuningDatabase
from records.target import Target
from search_spaces import registry
from search_spaces.matmul import matmul


@pytest.fixture(autouse=True)
def naive_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's template is registered for one test only."""
    monkeypatch.setattr(registry, "_TEMPLATES", list(registry._TEMPLATES))
    registry.register_template(Naive())


@pytest.fixture(scope="session")
def device() -> DeviceInfo:
    """The first real OpenCL device, not one that is simulated."""
    for info in list_devices():
        if info.backend == "opencl" and info.usable and not is_simulator(info):
            return info
    pytest.skip("no usable OpenCL device")


@pytest.fixture
def target() -> Target:
    return Target.of(
        "opencl", 'Test "CPU" µ 1\\2 ??=', "x86-64-avx512", {"kind": "cpu", "units": 2}
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TuningDatabase]:
    with TuningDatabase(tmp_path / "tuning.db") as database:
        yield database


@pytest.fixture
def tuned(database: TuningDatabase, target: Target) -> TuningDatabase:
    """Two workloads with a winner on the target."""
    database.add(naive_record(matmul(m=8, n=4, k=2), target))
    database.add(
        naive_record(
            matmul(m=5, n=6, k=7, epilogue="alpha,bias,relu"), target, time_s=2e-6, staged=True
        )
    )
    return database
