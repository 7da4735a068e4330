"""Contexts, errors, timing: how a backend deals with its device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from autotune import device_names
from autotune.backends.cuda import backend as cuda_backend
from autotune.backends.cuda import compiler, timer
from autotune.backends.cuda.backend import CudaBackend
from autotune.measure import measure_one
from autotune.testing import addition
from autotune.testing import backend_kernels as kernels
from autotune.testing.fake_cuda import Call, FakeCuda, LogicError
from autotune.timing import TimingPlan
from records.errors import DeviceError, InvalidInputError, MissingComponentError
from records.measurement import Status
from search_spaces.kernel import KernelSource

pytest.importorskip("cuda.bindings.nvrtc")

N = 1000
X = np.random.default_rng(1).uniform(0.5, 2.0, N).astype(np.float32)


@pytest.fixture
def backend(fake: FakeCuda) -> Iterator[CudaBackend]:
    opened = cuda_backend.open_device("cuda:0")
    yield opened
    opened.close()


@pytest.fixture
def source() -> KernelSource:
    return kernels.chained("cuda", N)


def expected(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return 2 * (x + 1) ** 2


def test_limits_come_from_the_device(backend: CudaBackend) -> None:
    target = backend.target
    assert (target.backend, target.arch) == ("cuda", "sm_90a")
    assert target.limit("units") == 132
    assert target.limit("shared_bytes") == 232448
    assert target.limit("cache_bytes") == 60 << 20
    assert target.limit("clock_mhz") == 1980
    assert {"bfloat16", "tf32", "float8_e4m3"} <= set(target.limit("dtypes"))


@pytest.mark.parametrize(
    ("capability", "arch", "has", "lacks"),
    [
        ((7, 5), "sm_75", "float16", "bfloat16"),
        ((8, 0), "sm_80", "tf32", "float8_e4m3"),
        ((8, 9), "sm_89", "float8_e5m2", "none"),
        ((10, 0), "sm_100a", "float8_e4m3", "none"),
        ((12, 0), "sm_120", "float8_e4m3", "none"),
    ],
)
def test_the_architecture_follows_the_capability(
    fake: FakeCuda, capability: tuple[int, int], arch: str, has: str, lacks: str
) -> None:
    fake.capability = capability
    target = cuda_backend.open_device("cuda:0").target
    assert target.arch == arch
    assert has in target.limit("dtypes") and lacks not in target.limit("dtypes")


def test_compiling_needs_no_context(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    backend.compile(source)
    assert "nvrtc" in str(backend.environment["compiler"])
    assert device_names.resolve("cuda:0").usable
    assert fake.contexts == 0
    backend.prepare(source, backend.compile(source), {"x": X}).close()
    assert fake.contexts == 1
    backend.close()
    assert fake.contexts == 0


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda", "opencl:0:0"])
def test_a_name_that_is_none_is_refused(fake: FakeCuda, name: str) -> None:
    with pytest.raises(InvalidInputError, match="cuda:<index>"):
        cuda_backend.open_device(name)


def test_a_device_that_is_not_there_is_a_device_error(fake: FakeCuda) -> None:
    with pytest.raises(DeviceError, match="cuda:1 is no longer there"):
        cuda_backend.open_device("cuda:1")


def test_a_faulting_kernel_costs_the_context_and_says_so(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    def fault(call: Call) -> None:
        fake.lost = "cuEventSynchronize failed: an illegal memory access was encountered"

    execution = backend.prepare(source, backend.compile(source), {"x": X})
    fake.kernels["reverse"] = fault
    with pytest.raises(DeviceError, match=r"illegal memory access.*context is lost"):
        execution.launch()
    fake.kernels.clear()
    for use in (execution.launch, execution.outputs, execution.damage, execution.poison):
        with pytest.raises(DeviceError, match="start a new process"):
            use()
    with pytest.raises(DeviceError, match="start a new process"):
        backend.prepare(source, backend.compile(source), {"x": X})
    execution.close()
    backend.close()


def test_memory_that_does_not_suffice_is_a_device_error(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    fake.free_bytes = 4096
    with pytest.raises(DeviceError, match=r"allocating \d+ bytes: cuMemAlloc failed: out of mem"):
        backend.prepare(source, backend.compile(source), {"x": X})
    fake.free_bytes = 1 << 30
    execution = backend.prepare(source, backend.compile(source), {"x": X})
    assert execution.launch() > 0
    execution.close()


def test_details_tell_what_the_binary_uses(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    fake.function_attributes |= {"NUM_REGS": 168, "LOCAL_SIZE_BYTES": 24}
    fake.library.blocks_per_unit = 512
    execution = backend.prepare(source, backend.compile(source), {"x": X})
    details = execution.details
    execution.close()
    assert (details["registers"], details["local_bytes"]) == (168, 24)
    assert details["shared_bytes"] == 512
    assert details["occupancy"] == 512 * 1 / 2048


def test_a_driver_that_tells_no_occupancy_costs_only_that(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    fake.library.failing["cuOccupancyMaxActiveBlocksPerMultiprocessor"] = 1
    execution = backend.prepare(source, backend.compile(source), {"x": X})
    assert "occupancy" not in execution.details
    execution.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run lasts 5 µs by the device's clock."""

    def time_s(self: timer.Timer, enqueue: object) -> float:
        enqueue(self._session.stream)  # type: ignore[operator]
        return 5e-6

    monkeypatch.setattr(timer.Timer, "time_s", time_s)


@pytest.mark.usefixtures("short")
def test_short_launches_on_warm_caches_are_replayed_from_a_graph(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    execution = backend.prepare(source, backend.compile(source), {"x": X})
    execution.launch()
    assert len(fake.launches("plus")) == 1
    assert execution.launch() == pytest.approx(5e-6 / 40)
    assert len(fake.launches("plus")) == 41
    assert execution.details["graph_launches"] == 40
    execution.poison()
    execution.launch()
    execution.flush(1 << 20)
    execution.launch()
    assert len(fake.launches("plus")) == 43  # one each: nothing may be warm or written before
    np.testing.assert_allclose(execution.outputs()["y"], expected(X), rtol=1e-6)
    execution.close()
    assert fake.library.names().count("cuGraphExecDestroy") == 1


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("refused", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_without_graphs_short_launches_go_one_by_one(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource, refused: str
) -> None:
    fake.library.failing[refused] = 801
    execution = backend.prepare(source, backend.compile(source), {"x": X})
    for _ in range(3):
        assert execution.launch() == 5e-6
    assert len(fake.launches("plus")) == 3
    assert fake.library.names().count(refused) == 1
    execution.close()


@pytest.mark.usefixtures("short")
def test_a_launch_that_cannot_be_recorded_goes_without_a_graph(
    monkeypatch: pytest.MonkeyPatch, fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    execution = backend.prepare(source, backend.compile(source), {"x": X})
    execution.launch()
    run = fake.launch

    def refuse_recorded(call: Call) -> None:
        if fake.library.names()[-1] == "cuStreamBeginCapture_v2":
            raise LogicError("operation not permitted when stream is capturing")
        run(call)

    monkeypatch.setattr(fake, "launch", refuse_recorded)
    assert execution.launch() == 5e-6
    assert "graph_launches" not in execution.details
    np.testing.assert_allclose(execution.outputs()["y"], expected(X), rtol=1e-6)
    execution.close()


def test_a_held_device_times_only_the_kernel(
    fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    execution = backend.prepare(source, backend.compile(source), {"x": X})
    execution.launch()
    order = [call.kernel for call in fake.calls]
    execution.close()
    assert order == ["hold", "plus", "reverse", "twice"]
    assert len({call.stream for call in fake.calls}) == 1


def test_without_a_compiler_binaries_still_run(
    monkeypatch: pytest.MonkeyPatch, fake: FakeCuda, backend: CudaBackend, source: KernelSource
) -> None:
    binary = backend.compile(source)

    def absent(*_: object) -> None:
        raise MissingComponentError("no CUDA compiler")

    monkeypatch.setattr(compiler, "compiler", absent)
    timer._hold_binary.cache_clear()
    execution = backend.prepare(source, binary, {"x": X})
    assert execution.launch() > 0
    assert "compiler" not in backend.environment
    assert not fake.launches("hold")
    execution.close()
    timer._hold_binary.cache_clear()
    (info,) = [info for info in device_names.list_devices() if info.name == "cuda:0"]
    assert "no CUDA compiler" in info.problem


def test_the_measuring_protocol_runs_on_it(fake: FakeCuda, backend: CudaBackend) -> None:
    job = addition.job(dialect="cuda")
    binary = backend.compile(job.source)
    plan = TimingPlan(flush_bytes=1 << 20, budget_s=0.05)
    measurement = measure_one(backend, job, binary, plan)
    assert measurement.status is Status.OK, measurement.error
    assert dict(measurement.details)["registers"] == 40
    assert dict(measurement.environment)["cuda"] == "13.0"

    def fault(call: Call) -> None:
        fake.lost = "cuEventSynchronize failed: misaligned address"

    fake.kernels["add"] = fault
    measurement = measure_one(backend, job, binary, plan)
    assert measurement.status is Status.LAUNCH_ERROR
    assert "misaligned address" in measurement.error


def test_large_inputs_go_to_the_device_once_for_all_trials(
    fake: FakeCuda, backend: CudaBackend
) -> None:
    moved = []
    for number in range(2):
        job = addition.job(number=number, n=1 << 19, dialect="cuda")
        before = fake.uploaded_bytes
        plan = TimingPlan(budget_s=0.0)
        measurement = measure_one(backend, job, backend.compile(job.source), plan)
        assert measurement.status is Status.OK, measurement.error
        moved.append(fake.uploaded_bytes - before)
    inputs_bytes = 2 * 4 << 19
    assert moved[0] >= inputs_bytes > moved[1]
