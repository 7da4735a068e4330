"""From a database to numbers, on a real OpenCL device."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive_matmul import naive_record

from autotune.backends.base import DeviceInfo
from autotune.device_names import open_backend
from autotune.loading import load
from records.errors import DeviceError, InvalidInputError, NotTunedError
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.matmul import matmul

FUSED = matmul(m=33, n=20, k=17, epilogue="alpha,bias,relu")


@pytest.fixture
def path(device: DeviceInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with one winner on the device, and an empty cache of compiled kernels."""
    monkeypatch.setattr("autotune.compile_cache.cache_directory", lambda *parts: tmp_path / "kept")
    assert device.target is not None
    with TuningDatabase(tmp_path / "real.db") as store:
        store.add(naive_record(FUSED, device.target, staged=True))
    return tmp_path / "real.db"


def backend_class(device: DeviceInfo) -> Any:
    with closing(open_backend(device.name)) as backend:
        return type(backend)


def check(kernel: Any) -> None:
    op = registry.op("matmul")
    for seed in (1, 2):
        inputs = op.inputs(FUSED, seed)
        wanted = op.reference(FUSED, inputs)
        bounds = op.tolerance(FUSED, inputs, wanted)
        got = kernel(**inputs)
        assert got.dtype == np.float32
        assert (np.abs(got - wanted["c"]) <= bounds["c"]).all()


def test_a_winner_computes(path: Path, device: DeviceInfo) -> None:
    with load(FUSED, device=device.name, database=path) as kernel:
        assert kernel.workload == FUSED and kernel.schedule["staged"] is True
        check(kernel)


def test_load_is_the_function_however_it_is_reached(path: Path, device: DeviceInfo) -> None:
    import autotune

    for _ in range(2):  # importing a module of that name would shadow the function
        assert autotune.load is load


def test_every_template_that_serves_the_device_can_be_loaded(
    path: Path, device: DeviceInfo
) -> None:
    assert device.target is not None
    serving = [t for t in registry.templates("matmul") if t.name != "naive"]
    serving = [t for t in serving if not t.rejects(FUSED, device.target)]
    for template in serving:
        space = template.space(FUSED, device.target)
        (schedule,) = space.sample(1, np.random.default_rng(0))
        record = replace(naive_record(FUSED, device.target, time_s=1e-9), schedule=schedule)
        with TuningDatabase(path.with_name(f"{template.name}.db")) as store:
            store.add(record)
        with load(
            FUSED, device=device.name, database=path.with_name(f"{template.name}.db")
        ) as kernel:
            assert kernel.schedule == schedule
            check(kernel)


def test_the_second_load_compiles_nothing(
    path: Path, device: DeviceInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(FUSED, device=device.name, database=str(path)).close()
    (entry,) = (tmp_path / "kept").iterdir()
    monkeypatch.setattr(backend_class(device), "compile", None)
    with load(FUSED, device=device.name, database=path) as kernel:
        check(kernel)
    assert list((tmp_path / "kept").iterdir()) == [entry]


def test_a_kept_binary_that_the_driver_refuses_is_compiled_again(
    path: Path, device: DeviceInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, refused = backend_class(device), []
    launcher = kind.launcher

    def refuse_once(self: Any, source: Any, binary: bytes) -> Any:
        if not refused:
            refused.append(binary)
            raise DeviceError("not of this driver")
        return launcher(self, source, binary)

    monkeypatch.setattr(kind, "launcher", refuse_once)
    with load(FUSED, device=device.name, database=path) as kernel:
        check(kernel)
    assert refused


def test_pyopencl_arrays_come_back_as_such(path: Path, device: DeviceInfo) -> None:
    cl_array = pytest.importorskip("pyopencl.array")
    import pyopencl as cl

    inputs = registry.op("matmul").inputs(FUSED, 3)
    _, platform, index = device.name.split(":")
    context = cl.Context([cl.get_platforms()[int(platform)].get_devices()[int(index)]])
    with (
        load(FUSED, device=device.name, database=path) as kernel,
        cl.CommandQueue(context) as queue,
    ):
        on_device = {
            name: value if value.shape == () else cl_array.to_device(queue, value)
            for name, value in inputs.items()
        }
        result = kernel(**on_device)
        assert isinstance(result, cl_array.Array)
        np.testing.assert_array_equal(result.get(), kernel(**inputs))


def test_not_tuned_says_how_to_tune(path: Path, device: DeviceInfo) -> None:
    with pytest.raises(NotTunedError, match="autotune tune matmul"):
        load(matmul(m=2, n=2, k=2), device=device.name, database=path)


def test_a_template_that_changed_is_refused(path: Path, device: DeviceInfo) -> None:
    assert device.target is not None
    other = matmul(m=2, n=2, k=2)
    with TuningDatabase(path) as store:
        store.add(naive_record(other, device.target, version=9))
    with pytest.raises(InvalidInputError, match="version 9"):
        load(other, device=device.name, database=path)
