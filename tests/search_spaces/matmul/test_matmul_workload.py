"""The constructor refuses nonsense in words, and gives one canonical form for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.matmul import matmul
from search_spaces.registry import op, validated

SIZES: dict[str, Any] = {"m": 4, "n": 5, "k": 6}


def test_defaults_are_filled_in() -> None:
    workload = matmul(m=4, n=5, k=6)
    assert workload.values == {
        **SIZES,
        "batch": 1,
        "dtype": "float32",
        "accumulate": "float32",
        "layout": "nn",
        "epilogue": (),
    }


@pytest.mark.parametrize(
    ("dtype", "accumulate"),
    [("float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_sums_are_at_least_float32_unless_asked(dtype: str, accumulate: str) -> None:
    assert matmul(**SIZES, dtype=dtype)["accumulate"] == accumulate
    assert matmul(**SIZES, dtype="float16", accumulate="float16")["accumulate"] == "float16"


def test_equal_workloads_are_equal_however_they_were_written() -> None:
    plain = matmul(**SIZES, epilogue=("bias", "gelu"))
    assert matmul(**SIZES, epilogue=" bias, gelu ") == plain
    assert matmul(m=np.int64(4), n=np.int32(5), k=6, epilogue=["bias", "gelu"]).key == plain.key
    assert matmul(**SIZES, epilogue="") == matmul(**SIZES)


def test_json_round_trip() -> None:
    workload = matmul(**SIZES, batch=3, layout="tt", epilogue="alpha,beta,relu,relu")
    assert validated(workload.to_json()) == workload
    assert Workload.from_json(workload.to_json()) == workload


@pytest.mark.parametrize("name", ["m", "n", "k", "batch"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "4", True, None, 2**31])
def test_sizes_that_cannot_be(name: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} must be a whole number from 1 to"):
        matmul(**{**SIZES, name: value})


def test_sizes_that_no_device_holds() -> None:
    with pytest.raises(InvalidInputError, match=r"elements.*limit is 2\^40.*smaller"):
        matmul(m=2**21, n=2**21, k=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "bfloat17"}, "dtype must be float16 or bfloat16 or .* or int8, got 'bfloat17'"),
        ({"accumulate": "float16"}, "accumulate for float32 must be float32, got 'float16'"),
        ({"dtype": "float64", "accumulate": "float32"}, "accumulate for float64 must be float64"),
        ({"layout": "nx"}, "layout must be nn or nt or tn or tt"),
        ({"layout": ["n", "n"]}, "layout must be"),
        ({"epilogue": "bias,swish"}, "an epilogue step must be .*silu, got 'swish'"),
        ({"epilogue": "bias,,relu"}, "an epilogue step must be .*got ''"),
        ({"epilogue": ["bias", "relu", "bias"]}, "'bias' may stand once"),
        ({"epilogue": 3}, "epilogue must be step names"),
        ({"epilogue": [["bias"]]}, "an epilogue step must be"),
    ],
)
def test_words_that_are_unknown(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        matmul(**SIZES, **wrong)


def test_parameters_that_are_unknown_or_missing() -> None:
    with pytest.raises(InvalidInputError, match=r"'columns'.*it takes m, n, k, batch"):
        op("matmul").workload(**SIZES, columns=3)
    with pytest.raises(InvalidInputError, match="'k'"):
        op("matmul").workload(m=1, n=2)
