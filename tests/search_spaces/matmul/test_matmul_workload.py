"""The constructor refuses nonsense in words, and gives one canonical form for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from records.errors import InvalidInputError
from records.target import Target
from records.workload import Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.parameters import Parameters
from search_spaces.registry import op, template, validated

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
        ({"epilogue": "row_scale,row_scale"}, "'row_scale' may stand once"),
        ({"out_dtype": "float16"}, "out_dtype for float32 must be float32, got 'float16'"),
        ({"dtype": "int8", "accumulate": "float32"}, "accumulate for int8 must be int32"),
        ({"dtype": "int8", "epilogue": "bias"}, "int32 holds the plain sums.*out_dtype bfloat16"),
        ({"dtype": "int8", "scale": "tensor"}, "int32 holds the plain sums.*out_dtype bfloat16"),
        ({"dtype": "int8", "k": 131072}, "k of int8 is at most 131071.*overflow.*cut k"),
        ({"scale": "row"}, "scale must be none or tensor or row_column, got 'row'"),
        ({"scale": "tensor"}, "scale 'tensor' is for float8_e4m3.*got float32.*row_scale"),
        ({"b_dtype": "int2"}, "b_dtype must be int8 or int4"),
        ({"b_dtype": "int8"}, "b_dtype int8 needs A in float16 or bfloat16.*got float32"),
        ({"dtype": "float16", "b_dtype": "int4"}, "B must be stored n × k.*choose layout nt"),
        (
            {"dtype": "float16", "b_dtype": "int4", "layout": "nt", "group_size": 3},
            "k and group_size must be even, got k=6 and group_size=3; pad k",
        ),
        (
            {"dtype": "float16", "b_dtype": "int8", "group_size": 4},
            "group_size must divide k=6, got 4; choose a divisor, or pad k",
        ),
        ({"group_size": 2}, "group_size is that of a quantised B.*without b_dtype"),
        ({"zero_point": True}, "zero_point is that of a quantised B"),
        ({"zero_point": 1}, "zero_point must be true or false, got 1"),
        ({"groups": [1, 2]}, "m must be the sum of the groups, 3, got 4; leave it out"),
        ({"groups": [4], "batch": 2}, "batch must be 1, got 2; repeat the groups"),
        ({"groups": [5, -1]}, "every group must be a whole number from 0 to"),
        ({"groups": "3,4"}, "groups must be numbers of rows"),
        ({"groups": [1] * 5000}, "at most 4096 groups, got 5000"),
        ({"groups": [0, 0], "m": None}, "m must be a whole number from 1 to"),
    ],
)
def test_words_that_are_unknown(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        matmul(**{**SIZES, **wrong})


def test_keys_of_stored_records_stay_as_they_are() -> None:
    """Parameters that came later stand in a key only where they are not the default."""
    plain = (
        '{"op":"matmul","params":{"accumulate":"float32","batch":1,"dtype":"float32",'
        '"epilogue":[],"k":6,"layout":"nn","m":4,"n":5}}'
    )
    half = (
        '{"op":"matmul","params":{"accumulate":"float16","batch":2,"dtype":"float16",'
        '"epilogue":["bias","gelu"],"k":6,"layout":"tn","m":4,"n":5}}'
    )
    assert matmul(**SIZES).key == plain
    defaults: dict[str, Any] = {
        "out_dtype": "float32",
        "b_dtype": "float32",
        "scale": "none",
        "groups": (),
    }
    assert matmul(**SIZES, **defaults, zero_point=False, group_size=None).key == plain
    options: dict[str, Any] = {
        "dtype": "float16",
        "accumulate": "float16",
        "layout": "tn",
        "batch": 2,
    }
    assert matmul(**SIZES, **options, epilogue="bias,gelu").key == half


LATER: list[dict[str, Any]] = [
    {"dtype": "bfloat16", "out_dtype": "float32"},
    {"dtype": "float8_e4m3", "scale": "row_column"},
    {"m": None, "groups": [3, 0, 1]},
    {"dtype": "float16", "b_dtype": "int4", "layout": "nt", "group_size": 2, "zero_point": True},
]


@pytest.mark.parametrize("options", LATER, ids=str)
def test_what_is_not_the_default_stands_in_the_key_and_comes_back(options: dict[str, Any]) -> None:
    workload = matmul(**{**SIZES, **options})
    assert set(workload.values) - set(matmul(**SIZES).values) == set(options) - set(SIZES) - {
        "dtype",
        "layout",
    }
    assert validated(workload.to_json()) == workload
    assert Parameters(**Parameters.of(workload).__dict__).canonical() == workload.values


def test_defaults_of_the_later_formats() -> None:
    def given(**options: Any) -> Parameters:
        return Parameters.of(matmul(**SIZES, **options))

    outputs = {
        dtype: (given(dtype=dtype).out_dtype, given(dtype=dtype).accumulate)
        for dtype in ("bfloat16", "tf32", "float8_e4m3", "float8_e5m2", "int8")
    }
    assert outputs == {
        "bfloat16": ("bfloat16", "float32"),
        "tf32": ("float32", "float32"),
        "float8_e4m3": ("bfloat16", "float32"),
        "float8_e5m2": ("bfloat16", "float32"),
        "int8": ("int32", "int32"),
    }
    assert given(dtype="float16", b_dtype="int8").group_size == 6
    assert Parameters.of(matmul(groups=[2, 3], n=5, k=6)).m == 5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "bfloat16"}, "not bfloat16"),
        ({"dtype": "float16", "b_dtype": "int8"}, "not quantised to int8"),
        ({"dtype": "float16", "out_dtype": "float32"}, "C in the type of A, float16, not in float"),
        ({"groups": [1, 3]}, "not 2 groups"),
    ],
)
def test_templates_of_plain_products_say_what_they_cannot_do(
    options: dict[str, Any], reason: str
) -> None:
    workload = matmul(**{**SIZES, **options})
    for name, target in (
        ("portable", Target.of("cuda", "any", "sm_90a", {"kind": "gpu"})),
        ("cpu", Target.of("opencl", "any", "any", {"kind": "cpu"})),
    ):
        assert reason in template("matmul", name).rejects(workload, target)


def test_parameters_that_are_unknown_or_missing() -> None:
    with pytest.raises(InvalidInputError, match=r"'columns'.*it takes m, n, k, batch"):
        op("matmul").workload(**SIZES, columns=3)
    with pytest.raises(InvalidInputError, match="'k'"):
        op("matmul").workload(m=1, n=2)
