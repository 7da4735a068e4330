"""Rivals are right, clean and honest about what they are."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from autotune.libraries import NumpyMatmul, clean_environment, libraries
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
