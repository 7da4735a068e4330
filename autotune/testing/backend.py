"""What every `Backend` must do. A test module subclasses `BackendConformance`, and says how to
open one:

class TestMyBackend(BackendConformance):
    @pytest.fixture
    def open_backend(self): return lambda: MyBackend(...)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune.backends.base import Backend, Execution
from autotune.testing import backend_kernels as kernels
from records.canonical import canonical_json
from records.errors import CompileError, DeviceError, InvalidInputError
from search_spaces import dtypes
from search_spaces.kernel import KernelSource

N = 997  # prime, so that no size is a multiple of anything


class BackendConformance:
    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        raise NotImplementedError("a fixture that gives a function opening one and the same device")

    @pytest.fixture
    def backend(self, open_backend: Callable[[], Backend]) -> Iterator[Backend]:
        opened = open_backend()
        yield opened
        opened.close()

    @pytest.fixture
    def x(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng(0).uniform(0.5, 2.0, N).astype(np.float32)

    def test_it_says_what_it_is_in_values_that_records_can_hold(self, backend: Backend) -> None:
        assert backend.target.device
        assert "float32" in backend.target.limit("dtypes")
        assert canonical_json(dict(backend.environment)) != "{}"

    def test_a_compile_error_carries_the_compilers_log(self, backend: Backend) -> None:
        with pytest.raises(CompileError, match="no_such_function"):
            backend.compile(kernels.broken(backend.dialect.name))

    def test_scalars_of_every_dtype_arrive_by_value(self, backend: Backend) -> None:
        for dtype in kernels.SCALAR_DTYPES & set(backend.target.limit("dtypes")):
            x = dtypes.encode(dtype, np.linspace(-2, 2, N))
            factor = dtypes.encode(dtype, 1.25)
            inputs = {"x": x, "factor": factor, "shift": np.array(-3, np.int32)}
            source = kernels.scaled(backend.dialect.name, N, dtype)
            with prepared(backend, source, inputs) as execution:
                execution.launch()
                y = execution.outputs()["y"]
            assert y.dtype == x.dtype
            expected = 1.25 * dtypes.decode(dtype, x) - 3
            allowed = 8 * dtypes.unit_roundoff(dtype)
            np.testing.assert_allclose(dtypes.decode(dtype, y), expected, atol=allowed)

    def test_launches_run_in_order_over_shared_scratch(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        with prepared(backend, kernels.chained(backend.dialect.name, N), {"x": x}) as execution:
            for _ in range(3):
                execution.poison()
                execution.launch()
                np.testing.assert_allclose(execution.outputs()["y"], 2 * (x + 1) ** 2, rtol=1e-5)
            assert execution.damage() == ""

    def test_a_launch_takes_some_of_the_time_that_passed(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        with prepared(backend, kernels.chained(backend.dialect.name, N), {"x": x}) as execution:
            start_s = time.perf_counter()
            launch_s = execution.launch()
            assert 0 < launch_s <= time.perf_counter() - start_s

    @pytest.mark.parametrize("name", ["x", "t", "y"])
    @pytest.mark.parametrize("index", [-1, -500, N, N + 500])
    def test_a_write_outside_a_buffer_is_damage_to_that_buffer(
        self, backend: Backend, x: npt.NDArray[np.float32], name: str, index: int
    ) -> None:
        source = kernels.writing_at(backend.dialect.name, N, name, index)
        with prepared(backend, source, {"x": x}) as execution:
            assert execution.damage() == ""
            execution.launch()
            assert name in execution.damage().split(":")[0]
            np.testing.assert_array_equal(execution.outputs()["y"], x)

    @pytest.mark.parametrize("index", [0, N - 1])
    def test_a_write_to_the_ends_of_a_buffer_is_none(
        self, backend: Backend, x: npt.NDArray[np.float32], index: int
    ) -> None:
        source = kernels.writing_at(backend.dialect.name, N, "y", index)
        with prepared(backend, source, {"x": x}) as execution:
            execution.launch()
            assert execution.damage() == ""

    def test_outputs_and_scratch_are_poisoned(self, backend: Backend) -> None:
        with prepared(backend, kernels.revealing(backend.dialect.name, N), {}) as execution:
            assert np.isnan(execution.outputs()["y"]).all()
            execution.launch()
            outputs = execution.outputs()
            assert np.isnan(outputs["y"]).all()
            assert (outputs["untouched"] != 0).all()

    def test_poison_comes_back_and_spares_inputs(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        source = kernels.writing_at(backend.dialect.name, N, "y", 0)
        with prepared(backend, source, {"x": x}) as execution:
            execution.launch()
            execution.poison()
            assert np.isnan(execution.outputs()["y"]).all()
            execution.launch()
            np.testing.assert_array_equal(execution.outputs()["y"][1:], x[1:])

    def test_outputs_are_copies(self, backend: Backend, x: npt.NDArray[np.float32]) -> None:
        with prepared(backend, kernels.chained(backend.dialect.name, N), {"x": x}) as execution:
            execution.launch()
            execution.outputs()["y"][:] = 0
            assert (execution.outputs()["y"] > 0).all()

    def test_a_flush_changes_nothing_but_time(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        with prepared(backend, kernels.chained(backend.dialect.name, N), {"x": x}) as execution:
            execution.launch()
            before = execution.outputs()["y"]
            for flush_bytes in (0, 1 << 20, 1 << 10, 1 << 21):
                execution.flush(flush_bytes)
            np.testing.assert_array_equal(execution.outputs()["y"], before)
            assert execution.damage() == ""

    def test_a_binary_loads_in_another_instance(
        self,
        backend: Backend,
        open_backend: Callable[[], Backend],
        x: npt.NDArray[np.float32],
    ) -> None:
        source = kernels.chained(backend.dialect.name, N)
        binary = backend.compile(source)
        backend.close()
        other = open_backend()
        execution = other.prepare(source, binary, {"x": x})
        execution.launch()
        np.testing.assert_allclose(execution.outputs()["y"], 2 * (x + 1) ** 2, rtol=1e-5)
        execution.close()
        other.close()

    @pytest.mark.parametrize("binary", [b"", b"not a binary"])
    def test_a_foreign_binary_is_refused(
        self, backend: Backend, x: npt.NDArray[np.float32], binary: bytes
    ) -> None:
        with pytest.raises(DeviceError):
            backend.prepare(kernels.chained(backend.dialect.name, N), binary, {"x": x})

    def test_a_group_over_the_limit_is_a_device_error(self, backend: Backend) -> None:
        items = 2 * backend.target.limit("max_group")
        source = kernels.oversized_group(backend.dialect.name, items)
        with (
            pytest.raises(DeviceError, match=str(items)),
            prepared(backend, source, {}) as execution,
        ):
            execution.launch()

    def test_local_memory_over_the_limit_is_a_device_error(self, backend: Backend) -> None:
        source = kernels.oversized_local(
            backend.dialect.name, 4 * backend.target.limit("shared_bytes")
        )
        with pytest.raises(DeviceError), prepared(backend, source, {}) as execution:
            execution.launch()

    def test_a_kernel_that_is_not_there_is_a_device_error(self, backend: Backend) -> None:
        with pytest.raises(DeviceError, match="absent"):
            with prepared(backend, kernels.misnamed(backend.dialect.name), {}) as execution:
                execution.launch()

    def test_it_still_works_after_a_refused_launch(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        self.test_a_group_over_the_limit_is_a_device_error(backend)
        self.test_launches_run_in_order_over_shared_scratch(backend, x)

    def test_details_are_values_that_records_can_hold(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        with prepared(backend, kernels.chained(backend.dialect.name, N), {"x": x}) as execution:
            canonical_json(dict(execution.details))

    def test_closing_twice_is_closing(self, backend: Backend, x: npt.NDArray[np.float32]) -> None:
        source = kernels.chained(backend.dialect.name, N)
        execution = backend.prepare(source, backend.compile(source), {"x": x})
        execution.close()
        execution.close()
        backend.close()
        backend.close()

    def test_a_launcher_takes_numpy_and_gives_new_numpy(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        source = kernels.chained(backend.dialect.name, N)
        launcher = backend.launcher(source, backend.compile(source))
        first = launcher({"x": x})["y"]
        second = launcher({"x": x + 1})["y"]
        np.testing.assert_allclose(first, 2 * (x + 1) ** 2, rtol=1e-5)
        np.testing.assert_allclose(second, 2 * (x + 2) ** 2, rtol=1e-5)

    def test_a_launcher_takes_scalars_and_writes_into_out(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        source = kernels.scaled(backend.dialect.name, N)
        launcher = backend.launcher(source, backend.compile(source))
        y = np.zeros(N, np.float32)
        result = launcher({"x": x, "factor": 2.5, "shift": np.int32(4)}, out={"y": y})
        assert result["y"] is y
        np.testing.assert_allclose(y, 2.5 * x + 4, rtol=1e-6)

    @pytest.mark.parametrize("start", range(4))
    def test_a_launcher_takes_arrays_at_any_address(
        self, backend: Backend, x: npt.NDArray[np.float32], start: int
    ) -> None:
        source = kernels.chained(backend.dialect.name, N)
        launcher = backend.launcher(source, backend.compile(source))
        memory = np.empty(N + 4, np.float32)
        memory[start : start + N] = x
        shifted = memory[start : start + N]
        shifted.flags.writeable = start % 2 == 0
        out = np.empty(N + 4, np.float32)[start : start + N]
        launcher({"x": shifted}, out={"y": out})
        np.testing.assert_allclose(out, 2 * (x + 1) ** 2, rtol=1e-5)
        np.testing.assert_array_equal(shifted, x)

    def test_a_launcher_refuses_what_the_kernel_does_not_take(
        self, backend: Backend, x: npt.NDArray[np.float32]
    ) -> None:
        source = kernels.chained(backend.dialect.name, N)
        launcher = backend.launcher(source, backend.compile(source))
        wrong: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
            ("x", {}, {}),
            ("z", {"x": x, "z": x}, {}),
            ("z", {"x": x}, {"z": x}),
            (str(N), {"x": x[1:]}, {}),
            ("float32", {"x": x.astype(np.float64)}, {}),
            ("contiguous", {"x": np.repeat(x, 2)[::2]}, {}),
            ("list", {"x": list(x)}, {}),
            ("overlaps", {"x": x}, {"y": x}),
        ]
        for message, arrays, out in wrong:
            with pytest.raises(InvalidInputError, match=message):
                launcher(arrays, out=out)


@contextmanager
def prepared(
    backend: Backend, source: KernelSource, inputs: Mapping[str, npt.NDArray[Any]]
) -> Iterator[Execution]:
    """A kernel compiled and prepared, closed at the end."""
    execution = backend.prepare(source, backend.compile(source), inputs)
    try:
        yield execution
    finally:
        execution.close()
