"""What a launcher does with arrays on the device; numpy is covered by the conformance kit."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune.backends.base import Backend, Launcher
from autotune.backends.cuda import backend as cuda_backend
from autotune.backends.cuda.driver import gpu_array
from autotune.testing import backend_kernels as kernels
from autotune.testing.fake_cuda import FakeCuda
from records.errors import DeviceError, InvalidInputError
from search_spaces import dtypes

pytest.importorskip("cuda.bindings.nvrtc")

N = 1000


@pytest.fixture
def backend(fake: FakeCuda) -> Iterator[Backend]:
    opened = cuda_backend.open_device("cuda:0")
    yield opened
    opened.close()


@pytest.fixture
def launcher(backend: Backend) -> Launcher:
    source = kernels.chained("cuda", N)
    return backend.launcher(source, backend.compile(source))


@pytest.fixture
def x() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).uniform(0.5, 2.0, N).astype(np.float32)


@pytest.fixture
def mine(fake: FakeCuda) -> Iterator[None]:
    """The user has a context, as with PyTorch."""
    fake.depth += 1
    yield
    fake.depth -= 1


def on_gpu(array: npt.NDArray[Any]) -> Any:
    made = gpu_array()(array.shape, array.dtype)
    made.set(array)
    return made


def expected(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return 2 * (x + 1) ** 2


class Tensor:
    """As much of a `torch.Tensor` as a launcher looks at."""

    def __init__(self, array: Any, dtype: str = "torch.float32", strides: Any = None) -> None:
        self.array, self.dtype, self.shape = array, dtype, array.shape
        self._strides = strides or tuple(
            int(np.prod(array.shape[axis + 1 :])) for axis in range(len(array.shape))
        )

    def data_ptr(self) -> int:
        return int(self.array.gpudata)

    def element_size(self) -> int:
        return int(self.array.dtype.itemsize)

    def stride(self) -> tuple[int, ...]:
        return tuple(self._strides)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


@pytest.mark.usefixtures("mine")
def test_device_arrays_give_device_arrays_and_nothing_is_copied(
    fake: FakeCuda, launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    given = on_gpu(x)
    y = launcher({"x": given})["y"]
    np.testing.assert_allclose(y.get(), expected(x), rtol=1e-6)
    (plus,) = fake.launches("plus")
    assert plus.parameters[:8] == int(given.gpudata).to_bytes(8, "little")
    assert plus.stream == 0


@pytest.mark.usefixtures("mine")
def test_out_is_written_in_place_and_handed_back(
    launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    out = on_gpu(np.zeros_like(x))
    assert launcher({"x": on_gpu(x)}, out={"y": out})["y"] is out
    np.testing.assert_allclose(out.get(), expected(x), rtol=1e-6)


@pytest.mark.usefixtures("mine")
def test_tensors_are_taken_by_their_own_interface(
    launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    out = Tensor(on_gpu(np.zeros_like(x)))
    assert launcher({"x": Tensor(on_gpu(x))}, out={"y": out})["y"] is out
    np.testing.assert_allclose(out.array.get(), expected(x), rtol=1e-6)


@pytest.mark.usefixtures("mine")
def test_tensors_give_tensors_on_the_stream_that_is_theirs(
    monkeypatch: pytest.MonkeyPatch,
    fake: FakeCuda,
    launcher: Launcher,
    x: npt.NDArray[np.float32],
) -> None:
    torch = ModuleType("torch")

    class TorchTensor(Tensor):
        device = "cuda:0"
        __module__ = "torch"

        def new_empty(self, shape: tuple[int, ...], dtype: str) -> Tensor:
            return TorchTensor(on_gpu(np.zeros(shape, np.float32)), dtype)

    current = SimpleNamespace(cuda_stream=0x77)
    torch.__dict__.update(
        float32="torch.float32", cuda=SimpleNamespace(current_stream=lambda device: current)
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    fake.library.calls.clear()
    y = launcher({"x": TorchTensor(on_gpu(x))})["y"]
    assert isinstance(y, TorchTensor)
    np.testing.assert_allclose(y.array.get(), expected(x), rtol=1e-6)
    recorded = [call[1][1].value for call in fake.library.calls if call[0] == "cuEventRecord"]
    assert recorded[0] == 0x77


@pytest.mark.usefixtures("mine")
def test_dlpack_is_read_without_being_consumed(
    launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    array = on_gpu(x)

    class Exporter:
        """numpy's own capsule over the memory of the fake device."""

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

        def __dlpack__(self, stream: int) -> Any:
            assert stream == 1
            raw = (ctypes.c_float * N).from_address(int(array.gpudata))
            return np.ctypeslib.as_array(raw).__dlpack__()

    y = launcher({"x": Exporter()})["y"]
    np.testing.assert_allclose(y.get(), expected(x), rtol=1e-6)


@pytest.mark.usefixtures("mine")
def test_what_does_not_fit_is_refused_with_its_reason(
    launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    whole = on_gpu(np.concatenate([x, x]))

    def shifted(bytes_: int, **interface: Any) -> Any:
        told = {**whole.__cuda_array_interface__, "shape": (N,), **interface}
        told["data"] = (told["data"][0] + bytes_, False)
        return SimpleNamespace(__cuda_array_interface__=told)

    elsewhere = Tensor(whole)
    elsewhere.__class__ = type("Elsewhere", (Tensor,), {"__dlpack_device__": lambda self: (2, 1)})
    good = shifted(0)
    wrong: list[tuple[str, Any, Any]] = [
        (f"{N}", on_gpu(x[1:]), None),
        ("float64", on_gpu(x.astype(np.float64)), None),
        ("contiguous", shifted(0, strides=(8,)), None),
        ("contiguous", Tensor(on_gpu(x), strides=(2,)), None),
        ("multiple of 16", shifted(4), None),
        ("cuda:0", elsewhere, None),
        ("list", [1.0] * N, None),
        ("overlaps", good, shifted(16)),
        ("on the host but", x, good),
    ]
    for message, given, out in wrong:
        with pytest.raises(InvalidInputError, match=message):
            launcher({"x": given}, out={"y": out} if out is not None else None)


@pytest.mark.usefixtures("mine")
def test_work_goes_to_the_stream_that_is_given(
    fake: FakeCuda, launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    mine = sys.modules["pycuda.driver"].Stream()
    given = on_gpu(x)
    launcher({"x": given}, queue=None)
    launcher({"x": given}, queue=SimpleNamespace(cuda_stream=0))  # PyTorch's default
    launcher({"x": given}, queue=mine)
    assert [call.stream for call in fake.launches("plus")] == [0, 0, mine.handle]
    with pytest.raises(InvalidInputError, match="stream of PyCUDA"):
        launcher({"x": given}, queue="a stream")


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    "queue",
    [
        0x77,
        SimpleNamespace(cuda_stream=0x77),
        SimpleNamespace(ptr=0x77),
        SimpleNamespace(__cuda_stream__=lambda: (0, 0x77)),
    ],
)
def test_a_foreign_stream_is_joined_before_and_after(
    fake: FakeCuda, backend: Backend, x: npt.NDArray[np.float32], queue: Any
) -> None:
    source = kernels.scaled("cuda", N)
    launcher = backend.launcher(source, backend.compile(source))
    given = on_gpu(x)
    fake.library.calls.clear()
    y = launcher({"x": given, "factor": 2.0, "shift": 1}, queue=queue)["y"]
    np.testing.assert_allclose(y.get(), 2 * x + 1, rtol=1e-6)
    ours = fake.launches("scaled")[0].stream
    assert ours not in (0, 0x77)
    told = [
        (name, arguments[1].value if name == "cuEventRecord" else arguments[0].value)
        for name, arguments in fake.library.calls
        if name in ("cuEventRecord", "cuStreamWaitEvent")
    ]
    assert told == [
        ("cuEventRecord", 0x77),
        ("cuStreamWaitEvent", ours),
        ("cuEventRecord", ours),
        ("cuStreamWaitEvent", 0x77),
    ]


@pytest.mark.usefixtures("mine")
def test_calls_that_share_scratch_wait_for_each_other(
    fake: FakeCuda, launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    given = on_gpu(x)
    launcher({"x": given})
    fake.library.calls.clear()
    launcher({"x": given}, queue=0x77)
    assert fake.library.names()[:6].count("cuStreamWaitEvent") == 2  # the queue, and the call


def test_a_binary_that_is_cut_short_is_refused_when_made(backend: Backend) -> None:
    source = kernels.chained("cuda", N)
    binary = backend.compile(source)
    with pytest.raises(DeviceError, match="compile the source again"):
        backend.launcher(source, binary[:-100])


def test_after_closing_a_call_is_refused(
    fake: FakeCuda, backend: Backend, launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    launcher({"x": x})
    backend.close()
    with pytest.raises(DeviceError, match="was closed: open it again"):
        launcher({"x": x})
    assert fake.contexts == 0


def test_a_context_is_given_back_only_by_the_thread_that_has_it(
    fake: FakeCuda, backend: Backend, launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    launcher({"x": x})
    thread = threading.Thread(target=backend.close)
    thread.start()
    thread.join()
    assert not fake.allocations
    assert "cuCtxPopCurrent_v2" not in fake.library.names()


def test_arguments_that_the_kernel_does_not_have_are_refused(
    fake: FakeCuda, backend: Backend, x: npt.NDArray[np.float32]
) -> None:
    source = kernels.scaled("cuda", N)
    launcher = backend.launcher(source, backend.compile(source))
    takes = [(0, 8), (8, 4), (12, 4)]

    def tell(function: Any, index: Any, offset: Any, size: Any) -> int:
        if index.value >= len(takes):
            return 1
        offset._obj.value, size._obj.value = takes[index.value]
        return 0

    fake.library.missing.clear()
    fake.library.__dict__["cuFuncGetParamInfo"] = tell
    with pytest.raises(DeviceError, match=r"takes 3 parameters of 8, 4, 4 bytes.* 8, 4, 4, 8"):
        launcher({"x": x, "factor": 1.0, "shift": 1})


def test_numbers_become_scalars_of_types_that_numpy_does_not_know(
    backend: Backend, x: npt.NDArray[np.float32]
) -> None:
    source = kernels.scaled("cuda", N, "bfloat16")
    launcher = backend.launcher(source, backend.compile(source))
    given = dtypes.encode("bfloat16", x)
    y = launcher({"x": given, "factor": 2.5, "shift": 1})["y"]
    wanted = 2.5 * dtypes.decode("bfloat16", given) + 1
    np.testing.assert_allclose(dtypes.decode("bfloat16", y), wanted, rtol=2.0**-7)
