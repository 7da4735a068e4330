"""Rivals are right, clean and honest about what they are."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import pytest

from autotune.libraries import clean_environment, libraries, library
from autotune.libraries.host import NumpyMatmul
from autotune.testing.library import LibraryConformance
from records import Target, Workload
from search_spaces.matmul import matmul

CPU = Target.of("opencl", "a CPU", "x86-64", {"kind": "cpu"})
GPU = Target.of("opencl", "a GPU", "gfx90a", {"kind": "gpu"})


class TestNumpyMatmul(LibraryConformance):
    @pytest.fixture
    def library(self) -> NumpyMatmul:
        return NumpyMatmul()

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return [
            matmul(m=1, n=1, k=1),
            matmul(m=16, n=24, k=8, layout="tn", batch=3),
            matmul(m=8, n=24, k=33, dtype="float64", layout="nt", epilogue="alpha,beta"),
            matmul(m=7, n=5, k=64, layout="tt", epilogue="bias,residual,relu"),
            matmul(m=7, n=5, k=64, epilogue="silu"),
            matmul(m=7, n=5, k=64, epilogue="gelu_tanh"),
        ]

    @pytest.fixture
    def target(self) -> Target:
        return CPU


def test_numpy_is_a_rival_on_the_host_only() -> None:
    plain = matmul(m=8, n=8, k=8)
    assert "numpy" in [library.name for library in libraries(plain, CPU)]
    assert libraries(plain, GPU) == []
    assert "float16" in NumpyMatmul().rejects(matmul(m=8, n=8, k=8, dtype="float16"), CPU)


def of_cuda(**limits: object) -> Target:
    return Target.of("cuda", "an NVIDIA GPU", "sm_90a", {"kind": "gpu", **limits})


@pytest.fixture
def with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch and Triton count as installed."""
    found = importlib.util.find_spec
    named = ("torch", "triton")
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: object() if name in named else found(name, *more),
    )


WEIGHTS: dict[str, Any] = {
    "dtype": "bfloat16",
    "b_dtype": "int4",
    "group_size": 32,
    "layout": "nt",
}


@pytest.mark.parametrize(
    ("workload", "rivals"),
    [
        (matmul(m=8, n=8, k=8, dtype="bfloat16", layout="nt"), ["cublas", "cublaslt"]),
        (matmul(m=8, n=8, k=8, dtype="tf32", epilogue="bias,gelu"), ["cublas", "cublaslt"]),
        (matmul(m=8, n=16, k=32, dtype="float8_e4m3", layout="nt"), ["cublaslt"]),
        (matmul(m=8, n=16, k=32, dtype="float8_e4m3", layout="nn"), []),
        (matmul(m=8, n=16, k=24, dtype="float8_e4m3", layout="nt"), []),
        (matmul(m=8, n=16, k=32, dtype="float8_e5m2", layout="nt"), []),
        (matmul(m=32, n=16, k=32, dtype="int8"), ["cublaslt"]),
        (matmul(m=16, n=16, k=32, dtype="int8"), []),
        (matmul(m=8, n=16, k=32, **WEIGHTS | {"dtype": "float16"}), ["cublas", "cublaslt"]),
        (matmul(m=8, n=16, k=128, **WEIGHTS), ["cublas", "cublaslt", "tinygemm"]),
        (matmul(m=8, n=16, k=128, zero_point=True, **WEIGHTS), ["cublas", "cublaslt"]),
        (matmul(m=8, n=16, k=64, **WEIGHTS), ["cublas", "cublaslt"]),
        (matmul(n=16, k=32, dtype="float16", groups=(3, 5)), ["cublas", "cublaslt"]),
        (
            matmul(n=16, k=32, dtype="bfloat16", groups=(3, 5)),
            ["cublas", "cublaslt", "grouped_mm"],
        ),
        (matmul(n=12, k=32, dtype="bfloat16", groups=(3, 5)), ["cublas", "cublaslt"]),
        (matmul(n=16, k=32, dtype="bfloat16", groups=(3, 5), epilogue="bias"), []),
    ],
    ids=str,
)
def test_cublas_is_a_rival_on_nvidia_gpus(
    with_torch: None, workload: Workload, rivals: list[str]
) -> None:
    assert [library.name for library in libraries(workload, of_cuda())] == rivals
    assert libraries(workload, GPU) == []


def test_what_is_not_installed_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None)
    reason = library("cublas").rejects(matmul(m=8, n=8, k=8), of_cuda())
    assert "pip install torch" in reason


def test_triton_is_a_rival_only_where_it_is_named(with_torch: None) -> None:
    plain = matmul(m=8, n=8, k=8, dtype="bfloat16")
    assert library("triton").rejects(plain, of_cuda()) == ""
    assert "triton" not in [library.name for library in libraries(plain, of_cuda())]
    assert "plain" in library("triton").rejects(
        matmul(m=8, n=8, k=8, dtype="bfloat16", epilogue="relu"), of_cuda()
    )


def test_settings_that_slow_a_blas_down_are_put_aside_and_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("UNRELATED", "kept")
    with clean_environment():
        assert "OPENBLAS_CORETYPE" not in os.environ
        assert "OMP_NUM_THREADS" not in os.environ
        assert os.environ["UNRELATED"] == "kept"
    assert os.environ["OPENBLAS_CORETYPE"] == "Prescott"
    assert os.environ["OMP_NUM_THREADS"] == "1"
