"""What a launcher does with PyOpenCL's own arrays; numpy is covered by the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune.backends.base import Backend, Launcher
from autotune.backends.opencl.backend import open_device
from autotune.backends.opencl.driver import cl, cl_array, find_device
from autotune.testing import backend_kernels as kernels
from autotune.testing import devices
from records.errors import DeviceError, InvalidInputError

N = 1000


@pytest.fixture(params=devices.names("opencl"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(name: str) -> Iterator[Backend]:
    opened = open_device(name)
    yield opened
    opened.close()


@pytest.fixture
def queue(name: str) -> Iterator[Any]:
    """A user's own queue, in a context of its own, which not every driver's queue keeps alive."""
    _, platform, device = name.split(":")
    context = cl.Context([find_device(int(platform), int(device))])
    yield cl.CommandQueue(context)
    del context


@pytest.fixture
def launcher(backend: Backend) -> Launcher:
    source = kernels.chained("opencl", N)
    return backend.launcher(source, backend.compile(source))


@pytest.fixture
def x() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).uniform(0.5, 2.0, N).astype(np.float32)


def expected(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return 2 * (x + 1) ** 2


def test_device_arrays_give_device_arrays_on_their_queue(
    launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    y = launcher({"x": cl_array.to_device(queue, x)})["y"]
    assert isinstance(y, cl_array.Array) and y.queue == queue
    np.testing.assert_allclose(y.get(), expected(x), rtol=1e-5)


def test_out_is_written_in_place(
    launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    out = cl_array.zeros(queue, N, np.float32)
    result = launcher({"x": cl_array.to_device(queue, x)}, out={"y": out})
    assert result["y"] is out
    np.testing.assert_allclose(out.get(), expected(x), rtol=1e-5)


def test_a_stated_queue_is_used_though_out_of_order(
    launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    out_of_order = cl.command_queue_properties.OUT_OF_ORDER_EXEC_MODE_ENABLE
    other = cl.CommandQueue(queue.context, properties=out_of_order)
    y = launcher({"x": cl_array.to_device(queue, x)}, queue=other)["y"]
    assert y.queue == other
    np.testing.assert_allclose(y.get(), expected(x), rtol=1e-5)
    for _ in range(20):
        np.testing.assert_allclose(launcher({"x": x}, queue=other)["y"], expected(x), rtol=1e-5)


def test_bare_buffers_need_no_queue_of_their_own_context(
    backend: Backend, launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    buffer = cl.Buffer(queue.context, flags, hostbuf=x)
    y = launcher({"x": buffer}, queue=queue)["y"]
    np.testing.assert_allclose(y.get(), expected(x), rtol=1e-5)
    with pytest.raises(InvalidInputError, match="another OpenCL context"):
        launcher({"x": buffer})


def test_a_part_of_an_array_is_taken_where_it_lies(
    launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    step = queue.device.mem_base_addr_align // 32  # floats
    whole = cl_array.to_device(queue, np.concatenate([np.zeros(step, np.float32), x]))
    np.testing.assert_allclose(launcher({"x": whole[step:]})["y"].get(), expected(x), rtol=1e-5)


def test_a_part_that_begins_nowhere_round_is_refused(
    launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    if queue.device.mem_base_addr_align <= 32:
        pytest.skip("this device takes a buffer at any element")
    whole = cl_array.to_device(queue, np.concatenate([x[:1], x]))
    with pytest.raises(InvalidInputError, match="copy it first"):
        launcher({"x": whole[1:]})


def test_one_launcher_serves_numpy_and_two_contexts_in_turn(
    launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    context = cl.Context([queue.device])
    other = cl.CommandQueue(context)
    for shift in range(3):
        for given in (x + shift, *(cl_array.to_device(q, x + shift) for q in (queue, other))):
            y = launcher({"x": given})["y"]
            y = y if isinstance(y, np.ndarray) else y.get()
            np.testing.assert_allclose(y, expected(x + shift), rtol=1e-5)


def test_host_and_device_do_not_mix(
    launcher: Launcher, queue: Any, x: npt.NDArray[np.float32]
) -> None:
    with pytest.raises(InvalidInputError, match="on the host but"):
        launcher({"x": x}, out={"y": cl_array.zeros(queue, N, np.float32)})


def test_an_output_that_cannot_be_written_is_refused(
    launcher: Launcher, x: npt.NDArray[np.float32]
) -> None:
    y = np.empty_like(x)
    y.flags.writeable = False
    with pytest.raises(InvalidInputError, match="read-only"):
        launcher({"x": x}, out={"y": y})


def test_a_buffer_of_the_wrong_size_is_refused(launcher: Launcher, queue: Any) -> None:
    buffer = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, 4 * N - 4)
    with pytest.raises(InvalidInputError, match=f"{4 * N} bytes"):
        launcher({"x": buffer}, queue=queue)


def test_scalars_that_are_none_are_refused(backend: Backend, x: npt.NDArray[np.float32]) -> None:
    source = kernels.scaled("opencl", N)
    scaled = backend.launcher(source, backend.compile(source))
    wrong: list[dict[str, Any]] = [
        *({"factor": factor, "shift": 1} for factor in ("two", [1.0, 2.0], None, 1j)),
        *({"factor": 1, "shift": shift} for shift in (1.5, 1 << 40, float("nan"))),
    ]
    for scalars in wrong:
        with pytest.raises(InvalidInputError, match="scalar"):
            scaled({"x": x, **scalars})


def test_a_binary_of_another_driver_is_refused_when_made(backend: Backend) -> None:
    source = kernels.chained("opencl", N)
    binary = bytearray(backend.compile(source))
    binary[20] ^= 1  # within the identity of the driver
    with pytest.raises(DeviceError, match="compile the source again"):
        backend.launcher(source, bytes(binary))


def test_a_binary_that_the_driver_does_not_take_back_is_compiled_again(
    backend: Backend, x: npt.NDArray[np.float32]
) -> None:
    source = kernels.chained("opencl", N)
    header = backend.compile(source)[: len(b"autotune-opencl-1\n") + 16]
    for body in (b"", b"rubbish"):
        launcher = backend.launcher(source, header + body)
        np.testing.assert_allclose(launcher({"x": x})["y"], expected(x), rtol=1e-5)
