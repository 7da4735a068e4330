"""Calling a tuned kernel: names, shapes, types, outputs. The launcher here is numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from naive_matmul import Naive, naive_record

from autotune.backends.base import Backend
from autotune.tuned_kernel import TunedKernel
from records.errors import InvalidInputError
from records.target import Target
from search_spaces.dialect import OPENCL
from search_spaces.matmul import matmul

WORKLOAD = matmul(m=3, n=4, k=5, epilogue="alpha,bias")


class DeviceArray:
    """Memory elsewhere: it has a shape and a dtype, and no way to the host."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype


class NumpyLauncher:
    def __init__(self) -> None:
        self.arrays: Mapping[str, Any] = {}
        self.queue: Any = None

    def __call__(
        self, arrays: Mapping[str, Any], out: Mapping[str, Any] | None = None, queue: Any = None
    ) -> dict[str, Any]:
        self.arrays, self.queue = dict(arrays), queue
        host = {name: getattr(value, "values", value) for name, value in arrays.items()}
        c = host["alpha"] * (host["a"] @ host["b"]) + host["bias"]
        if not isinstance(arrays["a"], np.ndarray):
            return {"c": DeviceArray(c)}
        target = (out or {}).get("c", np.empty_like(c))
        target[...] = c
        return {"c": target}


class Device:
    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def launcher() -> NumpyLauncher:
    return NumpyLauncher()


@pytest.fixture
def kernel(launcher: NumpyLauncher, target: Target) -> TunedKernel:
    record = naive_record(WORKLOAD, target)
    source = Naive().render(WORKLOAD, record.schedule, OPENCL)
    return TunedKernel(record, source, launcher, cast(Backend, Device()))


@pytest.fixture
def given() -> dict[str, Any]:
    random = np.random.default_rng(0)
    a, b, bias = (random.standard_normal(shape, np.float32) for shape in ((3, 5), (5, 4), (4,)))
    return {"a": a, "b": b, "alpha": 2.0, "bias": bias}


def expected(given: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    return np.float32(given["alpha"]) * (given["a"] @ given["b"]) + given["bias"]


def test_by_position_and_by_name(kernel: TunedKernel, given: dict[str, Any]) -> None:
    assert [parameter.name for parameter in kernel.parameters] == ["a", "b", "alpha", "bias"]
    for result in (
        kernel(*given.values()),
        kernel(**given),
        kernel(given["a"], given["b"], bias=given["bias"], alpha=np.float64(2)),
        kernel(given["a"], given["b"], np.array(2), given["bias"]),
    ):
        np.testing.assert_array_equal(result, expected(given))


def test_scalars_arrive_in_the_type_of_the_workload(
    kernel: TunedKernel, launcher: NumpyLauncher, given: dict[str, Any]
) -> None:
    kernel(**(given | {"alpha": 3}))
    assert type(launcher.arrays["alpha"]) is np.float32


def test_attributes_tell_what_was_loaded(kernel: TunedKernel) -> None:
    assert kernel.workload == WORKLOAD and kernel.schedule == kernel.record.schedule
    assert kernel.expected_time_s == 1e-3
    assert "__kernel" in kernel.source.text
    assert "a, b, alpha, bias" in repr(kernel)


def test_arrays_need_not_be_contiguous(
    kernel: TunedKernel, launcher: NumpyLauncher, given: dict[str, Any]
) -> None:
    given["a"] = np.asfortranarray(given["a"])
    given["b"] = np.repeat(given["b"], 2, axis=1)[:, ::2]
    given["bias"] = np.frombuffer(b"x" + given["bias"].tobytes(), np.uint8)[1:].view(np.float32)
    np.testing.assert_array_equal(kernel(**given), expected(given))
    for name in ("a", "b", "bias"):
        flags = launcher.arrays[name].flags
        assert flags.c_contiguous and flags.aligned


def test_dlpack_on_the_host_is_taken(kernel: TunedKernel, given: dict[str, Any]) -> None:
    class Tensor:
        def __init__(self, array: npt.NDArray[Any]) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    result = kernel(**(given | {"a": Tensor(given["a"]), "b": Tensor(given["b"])}))
    np.testing.assert_array_equal(result, expected(given))


def test_dlpack_that_numpy_cannot_read_is_refused(
    kernel: TunedKernel, given: dict[str, Any]
) -> None:
    class Tensor:
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it requires a gradient")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    with pytest.raises(InvalidInputError, match="a: .* requires a gradient"):
        kernel(**(given | {"a": Tensor()}))


def test_infinity_is_a_number(
    kernel: TunedKernel, launcher: NumpyLauncher, given: dict[str, Any]
) -> None:
    kernel(**(given | {"alpha": float("inf")}))
    assert launcher.arrays["alpha"] == np.inf


def test_device_arrays_stay_on_the_device(
    kernel: TunedKernel, launcher: NumpyLauncher, given: dict[str, Any]
) -> None:
    on_device = {
        name: DeviceArray(value) if isinstance(value, np.ndarray) else value
        for name, value in given.items()
    }
    queue = object()
    result = kernel(**on_device, queue=queue)
    assert isinstance(result, DeviceArray) and launcher.queue is queue
    np.testing.assert_array_equal(result.values, expected(given))
    with pytest.raises(InvalidInputError, match="one side"):
        kernel(**(on_device | {"b": given["b"]}))


def test_out_is_filled_and_returned(kernel: TunedKernel, given: dict[str, Any]) -> None:
    for out in (
        np.empty((3, 4), np.float32),
        np.empty((4, 3), np.float32).T,
        np.empty((3, 8), np.float32)[:, ::2],
    ):
        assert kernel(**given, out=out) is out
        np.testing.assert_array_equal(out, expected(given))
    named = np.empty((3, 4), np.float32)
    assert kernel(**given, out={"c": named}) is named
    np.testing.assert_array_equal(named, expected(given))


def test_out_may_overlap_an_input(kernel: TunedKernel, given: dict[str, Any]) -> None:
    memory = np.zeros(20, np.float32)
    given["a"] = memory[:15].reshape(3, 5)
    given["a"][...] = np.random.default_rng(1).standard_normal((3, 5))
    wanted = expected(given)
    out = memory[:12].reshape(3, 4)
    np.testing.assert_array_equal(kernel(**given, out=out), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": np.zeros((5, 3), np.float32)}, "a: need float32 3×5, got float32 5×3"),
        ({"a": np.zeros((3, 5))}, "a: need float32 3×5, got float64 3×5; convert"),
        ({"a": np.zeros((3, 5), ">f4")}, "a: need float32 3×5, got >f4"),
        ({"b": [[1.0]]}, "b: need an array of float32 5×4, got list"),
        ({"b": None}, "b: need an array"),
        ({"bias": 1.0}, "bias: need an array of float32 4, got float"),
        ({"alpha": np.zeros(3)}, "alpha is a scalar"),
        ({"alpha": "2"}, "alpha is a scalar"),
        ({"alpha": 2j}, "alpha is a scalar"),
        ({"alpha": 1e300}, "beyond the range of float32"),
        ({"gamma": 1}, "takes .a, b, alpha, bias., got gamma too"),
        ({"out": np.zeros((4, 4), np.float32)}, "c: need float32 3×4"),
        ({"out": {"d": 1}}, "out may name c, got d"),
    ],
)
def test_what_does_not_fit_is_refused(
    kernel: TunedKernel, given: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        kernel(**(given | change))


def test_names_must_be_complete_and_single(kernel: TunedKernel, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="alpha, bias missing"):
        kernel(given["a"], given["b"])
    with pytest.raises(InvalidInputError, match="a by position and by name"):
        kernel(given["a"], **given)
    with pytest.raises(InvalidInputError, match="5 positional"):
        kernel(*given.values(), 1)


def test_a_read_only_output_is_refused(kernel: TunedKernel, given: dict[str, Any]) -> None:
    out = np.zeros((3, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises(InvalidInputError, match="read-only"):
        kernel(**given, out=out)


def test_closing(kernel: TunedKernel, given: dict[str, Any]) -> None:
    with kernel:
        kernel(**given)
    kernel.close()
    assert cast(Device, kernel.backend).closed == 1
    with pytest.raises(InvalidInputError, match="closed"):
        kernel(**given)
