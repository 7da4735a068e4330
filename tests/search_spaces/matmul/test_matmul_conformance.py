"""Matmul does what every op must."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from autotune.testing.op import OpConformance
from records import Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.op import MATMUL
from search_spaces.op import Op

EPILOGUE = "alpha,beta,bias,gelu,residual"


class TestMatmul(OpConformance):
    @pytest.fixture
    def op(self) -> Op:
        return MATMUL

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return [
            matmul(m=1, n=1, k=1),
            matmul(m=7, n=13, k=64, layout="tn", batch=3),
            matmul(m=16, n=8, k=31, dtype="float64", epilogue=EPILOGUE),
            matmul(m=8, n=16, k=31, dtype="float16", layout="nt", epilogue="relu"),
            matmul(m=5, n=6, k=9, dtype="float16", accumulate="float16", layout="tt"),
            matmul(m=6, n=10, k=12, dtype="bfloat16", epilogue="bias,relu"),
            matmul(m=6, n=10, k=16, dtype="float8_e4m3"),
            matmul(m=6, n=10, k=16, dtype="int8"),
        ]
