"""What only a real GPU can show; its kernels are compiled everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from autotune import backends
from autotune.backends.base import Backend
from autotune.backends.cuda.compiler import compile_for
from autotune.backends.cuda.target import capability_of
from autotune.local_runner import LocalRunner
from autotune.measure import measure_one
from autotune.testing import addition, devices
from autotune.testing import backend_kernels as kernels
from autotune.testing.backend import prepared
from autotune.timing import TimingPlan
from records.errors import DeviceError
from records.measurement import Status
from search_spaces.kernel import Array, KernelSource, Launch, Scratch
from search_spaces.tensor_map import TensorMap

N = 997

_TILE_COPY = """
extern "C" __global__ void tile_copy(const void *from, const void *to)
{
    __shared__ __align__(1024) char tile[1024];
    __shared__ __align__(8) unsigned long long barrier;
    const unsigned at = __cvta_generic_to_shared(tile), full = __cvta_generic_to_shared(&barrier);
    const int x = blockIdx.x * 32, y = blockIdx.y * 8;
    if (threadIdx.x != 0)
        return;
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(full) : "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" :: "r"(full) : "memory");
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4}], [%2];"
        :: "r"(at), "l"(from), "r"(full), "r"(x), "r"(y) : "memory");
    asm volatile(
        "{.reg .pred done; wait: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], 0;"
        " @!done bra wait;}" :: "r"(full) : "memory");
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];"
        :: "l"(to), "r"(at), "r"(x), "r"(y) : "memory");
    asm volatile("cp.async.bulk.commit_group;\\ncp.async.bulk.wait_group 0;" ::: "memory");
}
"""

_REVERSED = """
extern "C" __global__ void reversed(const float *x, float *y)
{
    extern __shared__ float values[];
    for (int i = threadIdx.x; i < COUNT; i += blockDim.x)
        values[COUNT - 1 - i] = x[i % N];
    __syncthreads();
    for (int i = threadIdx.x; i < N; i += blockDim.x)
        y[i] = values[COUNT - 1 - i];
}
"""


def tile_copy(swizzle_bytes: int) -> KernelSource:
    """Copies 50 by 44 floats through scratch in boxes of 8 by 32, by the TMA alone."""

    def tensor(name: str, array: str) -> TensorMap:
        return TensorMap(name, array, "float32", (50, 44), (8, 32), swizzle_bytes=swizzle_bytes)

    def launch(*maps: str) -> Launch:
        return Launch("tile_copy", (2, 7, 1), (32, 1, 1), maps)

    return KernelSource(
        "cuda",
        _TILE_COPY,
        (launch("map_x", "map_t"), launch("map_t", "map_y")),
        (Array("x", (50, 44), "float32", "input"), Array("y", (50, 44), "float32", "output")),
        (Scratch("t", 50 * 44 * 4),),
        tensor_maps=(tensor("map_x", "x"), tensor("map_t", "t"), tensor("map_y", "y")),
    )


def reversed_in(shared_bytes: int) -> KernelSource:
    text = f"#define COUNT {shared_bytes // 4}\n#define N {N}\n{_REVERSED}"
    launch = Launch("reversed", (1, 1, 1), (256, 1, 1), ("x", "y"), shared_bytes)
    arrays = (Array("x", (N,), "float32", "input"), Array("y", (N,), "float32", "output"))
    return KernelSource("cuda", text, (launch,), arrays)


@pytest.fixture(params=devices.names("cuda"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(name: str) -> Iterator[Backend]:
    opened = backends.load("cuda").open(name)
    yield opened
    opened.close()


@pytest.fixture
def x() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.5, 2.0, N).astype(np.float32)


@pytest.mark.parametrize("source", [tile_copy(128), reversed_in(200 << 10)])
def test_the_kernels_compile(source: KernelSource) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    assert compile_for(source, "sm_90a")


@pytest.mark.parametrize("swizzle_bytes", [0, 128])
def test_the_tma_takes_descriptors_of_inputs_outputs_and_scratch(
    backend: Backend, swizzle_bytes: int
) -> None:
    if capability_of(backend.target.arch) < (9, 0):
        pytest.skip("no TMA before compute capability 9.0")
    x = np.random.default_rng(0).uniform(1, 2, (50, 44)).astype(np.float32)
    source = tile_copy(swizzle_bytes)
    with prepared(backend, source, {"x": x}) as execution:
        for _ in range(3):
            execution.poison()
            execution.launch()
            np.testing.assert_array_equal(execution.outputs()["y"], x)
        assert execution.damage() == ""
    launcher = backend.launcher(source, backend.compile(source))
    np.testing.assert_array_equal(launcher({"x": x})["y"], x)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_block_may_have_all_the_shared_memory_that_the_target_tells(
    backend: Backend, x: npt.NDArray[np.float32], share: float
) -> None:
    shared_bytes = int(backend.target.limit("shared_bytes") * share) // 4 * 4
    with prepared(backend, reversed_in(shared_bytes), {"x": x}) as execution:
        execution.launch()
        np.testing.assert_array_equal(execution.outputs()["y"], x)
        assert execution.details["shared_bytes"] == shared_bytes


def test_large_arrays_come_and_go_right_in_every_trial(backend: Backend) -> None:
    """Inputs stay on the device, results come back through locked memory."""
    for number in range(3):
        job = addition.job(number=number, n=1 << 22, dialect="cuda")
        binary = backend.compile(job.source)
        measurement = measure_one(backend, job, binary, TimingPlan(budget_s=0.0))
        assert measurement.status is Status.OK, measurement.error


def test_short_kernels_are_replayed_from_graphs_and_stay_right(
    backend: Backend, x: npt.NDArray[np.float32]
) -> None:
    with prepared(backend, kernels.scaled("cuda", N), _scaling(x)) as execution:
        times_s = [execution.launch() for _ in range(5)]
        assert all(time_s > 0 for time_s in times_s)
        repeats = execution.details["graph_launches"]
        assert isinstance(repeats, int) and repeats > 1
        np.testing.assert_allclose(execution.outputs()["y"], 2 * x + 1, rtol=1e-6)
        execution.flush(1 << 24)
        execution.poison()
        execution.launch()
        np.testing.assert_allclose(execution.outputs()["y"], 2 * x + 1, rtol=1e-6)


def test_details_tell_registers_and_occupancy(backend: Backend, x: npt.NDArray[np.float32]) -> None:
    with prepared(backend, kernels.scaled("cuda", N), _scaling(x)) as execution:
        details = execution.details
    registers, occupancy = details["registers"], details["occupancy"]
    assert isinstance(registers, int) and 0 < registers <= 255
    assert details["local_bytes"] == 0
    assert isinstance(occupancy, float) and 0 < occupancy <= 1


def test_a_launch_with_too_few_arguments_is_refused(
    backend: Backend, x: npt.NDArray[np.float32]
) -> None:
    if tuple(map(int, str(backend.environment["cuda"]).split("."))) < (12, 4):
        pytest.skip("this driver does not tell what parameters a kernel takes")
    source = kernels.scaled("cuda", N)
    short = replace(source.launches[0], arguments=("x", "factor", "y"))
    with pytest.raises(DeviceError, match="takes 4 parameters"):
        backend.prepare(replace(source, launches=(short,)), backend.compile(source), _scaling(x))


def test_a_fault_costs_a_worker_and_not_the_session(name: str) -> None:
    with LocalRunner(name, compile_workers=1) as runner:
        good = addition.job(dialect="cuda")
        bad = addition.job("((float *)8)[i] = 1.0f;", dialect="cuda")
        plan = TimingPlan(budget_s=0.05)
        results = [result for _, result in runner.measure([good], plan)]
        results += [result for _, result in runner.measure([bad], plan)]
        results += [result for _, result in runner.measure([good], plan)]
    assert [result.status for result in results] == [Status.OK, Status.LAUNCH_ERROR, Status.OK]
    assert "context is lost" in results[1].error


def test_tensors_of_pytorch_on_a_stream_of_its_own(name: str, x: npt.NDArray[np.float32]) -> None:
    torch = pytest.importorskip("torch")
    given = torch.from_numpy(x).to(name)  # PyTorch makes the context first
    opened = backends.load("cuda").open(name)
    source = kernels.chained("cuda", N)
    launcher = opened.launcher(source, opened.compile(source))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for step in range(20):
            y = launcher({"x": given + step}, queue=stream if step % 2 else None)["y"]
            expected = 2 * (x + step + 1) ** 2
            np.testing.assert_allclose(y.cpu().numpy(), expected, rtol=1e-5)
    out = torch.empty_like(given)
    assert launcher({"x": given}, out={"y": out})["y"] is out
    np.testing.assert_allclose(out.cpu().numpy(), 2 * (x + 1) ** 2, rtol=1e-5)
    opened.close()
    assert float((given + 1).sum()) > 0, "PyTorch's context outlives ours"


def _scaling(x: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.generic]]:
    return {"x": x, "factor": np.array(2, np.float32), "shift": np.array(1, np.int32)}
