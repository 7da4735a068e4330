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
            matmul(m=6, n=10, k=16, dtype="tf32", layout="tt", epilogue="row_scale,column_scale"),
            matmul(m=6, n=10, k=16, dtype="int8", out_dtype="bfloat16", scale="row_column"),
            matmul(m=6, n=10, k=16, dtype="float8_e5m2", out_dtype="float16", scale="tensor"),
            matmul(groups=[2, 0, 5], n=10, k=16, dtype="bfloat16"),
            matmul(m=6, n=10, k=16, dtype="float16", b_dtype="int8", zero_point=True),
            matmul(groups=[4, 1], n=6, k=8, dtype="float16", b_dtype="int4", layout="nt"),
        ]
