"""cuBLAS through PyTorch: on whatever PyTorch and GPU there are, and without either."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autotune.device_names import resolve
from autotune.libraries import library
from autotune.libraries.base import Library
from autotune.libraries.cublas import computation, tensors_of
from autotune.libraries.special_products import SpecialProduct
from autotune.libraries.torch_device import TorchExecution, to_array
from autotune.problems import check, problem
from autotune.testing import devices
from autotune.testing.library import LibraryConformance
from records import Target, Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.parameters import Parameters

HAS_TORCH = importlib.util.find_spec("torch") is not None
CUDA_DEVICES = devices.names("cuda") if HAS_TORCH else []


# Without PyTorch: what is timed


class FakeEvent:
    def __init__(self, seen: list[str], name: str) -> None:
        self._seen, self._name = seen, name

    def record(self) -> None:
        self._seen.append(self._name)

    def synchronize(self) -> None:
        self._seen.append("wait")

    def elapsed_time(self, end: FakeEvent) -> float:
        return 0.25  # milliseconds


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def fake_torch(seen: list[str]) -> Any:
    names: Iterator[str] = iter(("start", "end"))
    cuda = SimpleNamespace(
        Event=lambda enable_timing: FakeEvent(seen, next(names)),
        get_device_properties=lambda device: SimpleNamespace(),
        _sleep=lambda cycles: seen.append("hold"),
    )
    return SimpleNamespace(cuda=cuda)


def test_only_the_product_stands_between_the_events(seen: list[str], fake_torch: Any) -> None:
    execution = TorchExecution(
        fake_torch,
        "cuda:0",
        lambda: seen.append("product"),
        "float32",
        {},
        lambda: seen.append("settings"),
    )
    assert execution.launch() == pytest.approx(0.25e-3)
    assert seen == ["settings", "hold", "start", "product", "end", "wait"]


# With PyTorch, on the CPU: the right product of every kind


class OnTheCpu:
    """PyTorch, whose products into another type exist on CUDA only."""

    def __init__(self) -> None:
        self._torch: Any = pytest.importorskip("torch")
        self.mm = self._into(self._torch.mm)
        self.bmm = self._into(self._torch.bmm)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def _into(self, multiply: Callable[..., Any]) -> Callable[..., Any]:
        def run(a: Any, b: Any, out: Any = None, out_dtype: Any = None) -> Any:
            if out_dtype is None:
                return multiply(a, b, out=out)
            return multiply(a.to(out_dtype), b.to(out_dtype))

        return run

    def _convert_weight_to_int4pack(self, pairs: Any, inner_k_tiles: int) -> Any:
        """On the CPU weights come one to an element, and are packed for its own instructions."""
        assert pairs.shape[1] * 2 % (16 * inner_k_tiles) == 0
        weights = self._torch.stack((pairs >> 4, pairs & 0xF), dim=-1).flatten(-2)
        return self._torch._convert_weight_to_int4pack_for_cpu(weights.int(), inner_k_tiles)

    def _weight_int4pack_mm(self, a: Any, weights: Any, group_size: int, scales: Any) -> Any:
        multiply = self._torch._weight_int4pack_mm_for_cpu
        return multiply(a, weights, group_size, scales)


EPILOGUES = ("", "bias", "alpha", "alpha,beta", "residual,relu", "row_scale,column_scale,silu")
WORKLOADS = [
    *(
        matmul(m=24, n=32, k=64, dtype=dtype, layout=layout, epilogue=epilogue)
        for dtype in ("float16", "bfloat16", "tf32", "float64")
        for layout in ("nn", "tt")
        for epilogue in EPILOGUES
    ),
    matmul(m=24, n=32, k=64, dtype="bfloat16", batch=3, epilogue="bias,gelu"),
    matmul(m=24, n=32, k=64, dtype="float16", out_dtype="float32", epilogue="gelu_tanh"),
    matmul(m=24, n=32, k=64, dtype="float8_e4m3", layout="nt"),
    matmul(m=24, n=32, k=64, dtype="float8_e4m3", layout="nt", scale="tensor", epilogue="bias"),
    matmul(m=24, n=32, k=64, dtype="float8_e4m3", layout="nt", scale="row_column"),
    matmul(m=24, n=32, k=64, dtype="int8", layout="nt"),
    matmul(m=24, n=32, k=64, dtype="int8", out_dtype="bfloat16", scale="row_column"),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_pytorch_is_asked_for_the_workload(workload: Workload) -> None:
    torch = OnTheCpu()
    given, facts = Parameters.of(workload), problem(workload, seed=0)
    tensors = tensors_of(torch, workload, facts.inputs, "cpu")
    compute, _ = computation(torch, workload, tensors)
    assert check(facts, {"c": to_array(torch, given.out_dtype, compute())}).error == ""


WEIGHTS: list[dict[str, Any]] = [
    {"b_dtype": "int8", "layout": "nn"},
    {"b_dtype": "int8", "layout": "nt"},
    {"b_dtype": "int4", "layout": "nt"},
    {"b_dtype": "int4", "layout": "tt"},
]
MORE: list[dict[str, Any]] = [
    {"dtype": "bfloat16", "group_size": 16, "zero_point": True},
    {"dtype": "float16", "group_size": 64, "epilogue": "bias,gelu"},
]
QUANTISED = [matmul(m=24, n=32, k=64, **weights, **more) for weights in WEIGHTS for more in MORE]
GROUPED = [
    matmul(n=32, k=64, groups=(3, 0, 8, 5), dtype=dtype, layout=layout)
    for dtype in ("bfloat16", "float16", "tf32")
    for layout in ("nn", "nt", "tn")
]
GROUPED_WEIGHTS = matmul(
    n=32, k=64, groups=(3, 0, 8), dtype="bfloat16", b_dtype="int4", group_size=32, layout="nt"
)


@pytest.mark.parametrize("workload", [*QUANTISED, *GROUPED, GROUPED_WEIGHTS], ids=str)
def test_weights_and_groups_are_the_workloads_own(workload: Workload) -> None:
    test_pytorch_is_asked_for_the_workload(workload)


def test_what_is_no_call_on_the_workloads_arrays_is_said() -> None:
    torch, facts = OnTheCpu(), problem(GROUPED_WEIGHTS, seed=0)
    _, how = computation(
        torch, GROUPED_WEIGHTS, tensors_of(torch, GROUPED_WEIGHTS, facts.inputs, "cpu")
    )
    assert how == {"weights": "dequantised beforehand", "groups": "one call each"}


INT4 = [
    matmul(m=m, n=32, k=256, dtype="bfloat16", b_dtype="int4", group_size=group_size, layout="nt")
    for m, group_size in ((1, 32), (24, 128), (5, 256))
]
AT_ONCE = [each for each in GROUPED if each["dtype"] == "bfloat16" and each["layout"] != "tn"]


@pytest.mark.parametrize("workload", [*INT4, *AT_ONCE], ids=str)
def test_pytorchs_own_kernels_are_asked_for_the_workload(workload: Workload) -> None:
    torch, facts = OnTheCpu(), problem(workload, seed=0)
    rival = library("grouped_mm" if workload in AT_ONCE else "tinygemm")
    assert isinstance(rival, SpecialProduct)
    tensors = tensors_of(torch, workload, facts.inputs, "cpu")
    c = rival.computation(torch, workload, tensors)()
    assert check(facts, {"c": to_array(torch, "bfloat16", c)}).error == ""


# With PyTorch and a GPU


class _OnCuda(LibraryConformance):
    @pytest.fixture(params=CUDA_DEVICES or [""])
    def device(self, request: pytest.FixtureRequest) -> str:
        if not request.param:
            pytest.skip("needs PyTorch and a CUDA device")
        return str(request.param)

    @pytest.fixture
    def target(self, device: str) -> Target:
        target = resolve(device).target
        assert target is not None
        return target


class TestCublas(_OnCuda):
    @pytest.fixture
    def library(self) -> Library:
        return library("cublas")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        plain = ("float16", "bfloat16", "tf32", "float64")
        every = [*WORKLOADS, *QUANTISED, *GROUPED]
        return [each for each in every if each["dtype"] in plain]


class TestCublasLt(_OnCuda):
    @pytest.fixture
    def library(self) -> Library:
        return library("cublaslt")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return [*WORKLOADS, *QUANTISED, *GROUPED]


class TestInt4(_OnCuda):
    @pytest.fixture
    def library(self) -> Library:
        return library("tinygemm")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return INT4


class TestGrouped(_OnCuda):
    @pytest.fixture
    def library(self) -> Library:
        return library("grouped_mm")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return AT_ONCE


def test_flushing_leaves_the_result_alone() -> None:
    if not CUDA_DEVICES:
        pytest.skip("needs PyTorch and a CUDA device")
    workload = matmul(m=64, n=64, k=64, dtype="bfloat16", layout="nt")
    execution = library("cublas").prepare(workload, problem(workload, 0).inputs, CUDA_DEVICES[0])
    execution.launch()
    before = execution.outputs()["c"]
    execution.flush(1 << 20)
    assert np.array_equal(execution.outputs()["c"], before)
