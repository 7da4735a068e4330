"""Number formats, scales, groups and quantised B: reference, tolerance, inputs, work."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune import problems
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.matmul import matmul
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.steps import STEPS

Values = npt.NDArray[np.float64]

FEATURES: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16", "epilogue": "bias,residual,gelu"},
    "tf32": {"dtype": "tf32", "layout": "tt", "epilogue": "bias"},
    "e4m3": {"dtype": "float8_e4m3", "layout": "nt", "epilogue": "bias"},
    "e5m2": {"dtype": "float8_e5m2", "layout": "tn"},
    "e4m3 tensor": {"dtype": "float8_e4m3", "scale": "tensor", "out_dtype": "float16"},
    "e4m3 rows": {"dtype": "float8_e4m3", "scale": "row_column", "epilogue": "bias,silu"},
    "e4m3 to e5m2": {
        "dtype": "float8_e4m3",
        "scale": "row_column",
        "out_dtype": "float8_e5m2",
        "epilogue": "beta",
    },
    "int8": {"dtype": "int8", "layout": "nt"},
    "int8 rows": {"dtype": "int8", "scale": "row_column", "out_dtype": "bfloat16"},
    "int8 plain to float16": {"dtype": "int8", "out_dtype": "float16"},
    "row and column scale": {"dtype": "float16", "epilogue": "row_scale,bias,column_scale"},
    "float32 out": {"dtype": "bfloat16", "out_dtype": "float32", "epilogue": "residual"},
    "int8 weights": {"dtype": "float16", "b_dtype": "int8"},
    "int8 weights in groups": {"dtype": "bfloat16", "b_dtype": "int8", "group_size": 4},
    "int4 weights": {"dtype": "bfloat16", "b_dtype": "int4", "layout": "nt", "group_size": 4},
    "int4 weights with zeros": {
        "dtype": "float16",
        "b_dtype": "int4",
        "layout": "tt",
        "group_size": 2,
        "zero_point": True,
        "epilogue": "bias",
    },
}
SPREADS: list[dict[str, Any]] = [{}, {"batch": 3}, {"groups": (2, 0, 3)}, {"groups": (0, 5)}]


def small(feature: str, spread: dict[str, Any]) -> Workload:
    rows: dict[str, Any] = {} if "groups" in spread else {"m": 5}
    return matmul(**rows, n=6, k=8, **FEATURES[feature], **spread)


def elements(given: Parameters, dtype: str, array: npt.NDArray[Any]) -> Values:
    return dtypes.decode("float32" if dtype == "tf32" else dtype, array).astype(np.float64)


def naive(workload: Workload, inputs: dict[str, npt.NDArray[Any]]) -> Values:
    """Row by row in float64, from the documentation of `matmul`."""
    given = Parameters.of(workload)
    a = elements(given, given.dtype, inputs["a"])
    b = elements(given, given.b_dtype, inputs["b"])
    a = (a.swapaxes(-1, -2) if given.layout[0] == "t" else a).reshape(-1, given.k)
    b = (b.swapaxes(-1, -2) if given.layout[1] == "t" else b).reshape(-1, given.k, given.n)
    if given.quantised:
        repeated = {
            name: elements(given, given.dtype, inputs[name])
            .reshape(len(b), -1, given.n)
            .repeat(given.group_size, axis=1)
            for name in ("b_scale", "b_zero")
            if name in inputs
        }
        b = (b - repeated.get("b_zero", 0.0)) * repeated["b_scale"]
    owner = np.repeat(range(len(b)), given.groups or [given.m] * given.batch)
    c = np.array([[a[i] @ b[p][:, j] for j in range(given.n)] for i, p in enumerate(owner)])
    if given.scale != "none":
        a_scale = inputs["a_scale"].reshape(-1, 1).astype(float)
        b_scale = inputs["b_scale"].astype(float)
        by_row = b_scale.reshape(len(b), -1)[owner] if b_scale.ndim else b_scale
        c = c * a_scale * by_row
    c = c.reshape(given.c_shape)
    decoded = {
        name: dtypes.decode(given.operand_dtype, array)
        if name in ("bias", "residual", "c_in")
        else array
        for name, array in inputs.items()
    }
    for step in given.epilogue:
        if step == "row_scale":
            c = c * decoded["row_scale"][:, None]
        elif step == "column_scale":
            c = c * decoded["column_scale"]
        else:
            c = STEPS[step].apply(c, decoded)
    return np.asarray(c)


@pytest.mark.parametrize("spread", SPREADS, ids=str)
@pytest.mark.parametrize("feature", FEATURES)
def test_reference_is_the_definition(feature: str, spread: dict[str, Any]) -> None:
    workload = small(feature, spread)
    inputs = MATMUL.inputs(workload, seed=1)
    got = MATMUL.reference(workload, inputs)["c"]
    np.testing.assert_allclose(got, naive(workload, inputs), rtol=1e-12, atol=1e-13)
    assert got.dtype == np.float64


@pytest.mark.parametrize("spread", SPREADS, ids=str)
@pytest.mark.parametrize("feature", FEATURES)
def test_inputs_are_as_declared(feature: str, spread: dict[str, Any]) -> None:
    workload = small(feature, spread)
    inputs = MATMUL.inputs(workload, seed=1)
    declared = {
        array.name: (array.storage_shape, array.storage)
        for array in MATMUL.arrays(workload)
        if array.role != "output"
    }
    assert {name: (x.shape, x.dtype) for name, x in inputs.items()} == declared
    assert all(np.any(x != np.flip(x)) for x in inputs.values() if x.size > 2)


def stored(workload: Workload, values: Values) -> dict[str, npt.NDArray[Any]]:
    """An output whose only error is its own format's."""
    (array,) = (each for each in MATMUL.arrays(workload) if each.role == "output")
    return {"c": dtypes.encode(array.dtype, values)}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_rounded_result_is_right_and_one_wrong_element_is_not(feature: str) -> None:
    options = FEATURES[feature]
    workload = matmul(m=33, n=20, k=64, **{**options, "group_size": 32} if "b_dtype" in options
                      else options)  # fmt: skip
    problem = problems.problem(workload, seed=0)
    right = stored(workload, problem.reference["c"])
    verdict = problems.check(problem, right)
    assert verdict.error == "" and verdict.max_error_ratio <= 1
    wrong = problem.reference["c"].copy()
    at = np.unravel_index(np.argmax(np.abs(wrong)), wrong.shape)
    wrong[at] *= 0.7
    verdict = problems.check(problem, stored(workload, wrong))
    place = ", ".join(map(str, at))
    assert f"1 of {wrong.size} elements are off, the worst at [{place}]" in verdict.error


@pytest.mark.parametrize("feature", FEATURES)
def test_one_missing_step_of_k_is_seen(feature: str) -> None:
    """As if a kernel stopped one element early: the last of k counts for nothing."""
    k = 512
    options = FEATURES[feature]
    options = {**options, "group_size": 64} if "b_dtype" in options else options
    workload = matmul(m=48, n=32, k=k, **options)
    problem = problems.problem(workload, seed=0)
    inputs = dict(problem.inputs)
    a = inputs["a"].copy()
    (a if workload["layout"][0] == "t" else a.T)[-1] = 0
    shorter = MATMUL.reference(workload, {**inputs, "a": a})["c"]
    assert problems.check(problem, stored(workload, shorter)).error


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3", "int8"])
def test_nan_and_poison_are_wrong(dtype: str) -> None:
    problem = problems.problem(matmul(m=4, n=4, k=4, dtype=dtype), seed=0)
    poison = stored(matmul(m=4, n=4, k=4, dtype=dtype), problem.reference["c"])["c"]
    poison.view(np.uint8)[...] = 0xFF
    assert "16 of 16 elements are off" in problems.check(problem, {"c": poison}).error


def tensor_core_float8(a: Values, b: Values) -> Values:
    """32 products at a time, aligned with the sum to the largest and cut off at 13 bits."""
    total = np.zeros((len(a), b.shape[1]))
    for start in range(0, a.shape[1], 32):
        part = slice(start, start + 32)
        addends = np.concatenate([total[:, None], a[:, part, None] * b[None, part]], axis=1)
        exponents = np.frexp(np.abs(addends).max(axis=1, keepdims=True))[1] - 1
        unit = np.ldexp(1.0, exponents - 13)
        total = (np.trunc(addends / unit) * unit).sum(axis=1)
    return total


@pytest.mark.parametrize("scale", ["none", "row_column"])
@pytest.mark.parametrize("k", [16, 512, 4096])
def test_float8_sums_as_tensor_cores_make_them_are_right(k: int, scale: str) -> None:
    workload = matmul(m=48, n=40, k=k, dtype="float8_e4m3", out_dtype="float32", scale=scale)
    problem = problems.problem(workload, seed=0)
    a, b = (dtypes.decode("float8_e4m3", problem.inputs[name]) for name in ("a", "b"))
    c = tensor_core_float8(a, b)
    if scale != "none":
        c = c * problem.inputs["a_scale"][:, None] * problem.inputs["b_scale"]
    assert problems.check(problem, {"c": c.astype(np.float32)}).error == ""


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("k", [1, 64, 2048])
def test_tf32_may_be_rounded_or_cut_off(k: int, cut: bool) -> None:
    """Also where inputs have more bits than ours."""
    workload = matmul(m=40, n=48, k=k, dtype="tf32")
    random = np.random.default_rng(0)
    inputs = {
        "a": random.standard_normal((40, k)).astype(np.float32),
        "b": random.standard_normal((k, 48)).astype(np.float32),
    }
    short = {
        name: (x.view(np.uint32) & 0xFFFFE000).view(np.float32) if cut else dtypes.encode("tf32", x)
        for name, x in inputs.items()
    }
    reference = MATMUL.reference(workload, inputs)
    allowed = MATMUL.tolerance(workload, inputs, reference)["c"]
    c = short["a"].astype(float) @ short["b"].astype(float)
    assert np.all(np.abs(c - reference["c"]) <= allowed)


def test_tf32_inputs_need_no_allowance() -> None:
    """They have ten bits, so that a product in float32 is as good as one in tf32."""
    tf32, float32 = (matmul(m=8, n=8, k=64, dtype=dtype) for dtype in ("tf32", "float32"))
    inputs = MATMUL.inputs(tf32, seed=0)
    np.testing.assert_array_equal(dtypes.encode("tf32", inputs["a"]), inputs["a"])
    reference = MATMUL.reference(tf32, inputs)
    assert np.array_equal(
        MATMUL.tolerance(tf32, inputs, reference)["c"],
        MATMUL.tolerance(float32, inputs, reference)["c"],
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("k", [8, 256, 2048])
def test_weights_dequantised_into_the_dtype_are_right(dtype: str, k: int) -> None:
    """A kernel rounds each (b - zero) · scale before it multiplies."""
    workload = matmul(
        m=40, n=48, k=k, dtype=dtype, b_dtype="int4", layout="nt", group_size=8, zero_point=True
    )
    problem = problems.problem(workload, seed=0)
    given = problem.inputs
    scale, zero = (
        dtypes.decode(dtype, given[name]).repeat(8, axis=0) for name in ("b_scale", "b_zero")
    )
    b = dtypes.decode("int4", given["b"]).T
    rounded = dtypes.decode(dtype, dtypes.encode(dtype, (b - zero) * scale))
    c = dtypes.decode(dtype, given["a"]) @ rounded
    assert problems.check(problem, stored(workload, c)).error == ""


def test_plain_sums_of_int8_are_exact_at_the_ends_of_the_range() -> None:
    workload = matmul(m=2, n=2, k=131071, dtype="int8")
    inputs = {"a": np.full((2, 131071), -128, np.int8), "b": np.full((131071, 2), -128, np.int8)}
    reference = MATMUL.reference(workload, inputs)
    assert reference["c"].tolist() == [[131071 * 128**2] * 2] * 2
    problem = problems.Problem(
        inputs, reference, MATMUL.tolerance(workload, inputs, reference), {"c": "int32"}
    )
    exact = reference["c"].astype(np.int32)
    assert problems.check(problem, {"c": exact}) == problems.Verdict("", 0.0)
    assert problems.check(problem, {"c": exact - 1}).error


@pytest.mark.parametrize("k", [16, 1024])
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "bfloat16"},
        {"dtype": "tf32"},
        {"dtype": "float8_e4m3"},
        {"dtype": "float8_e4m3", "scale": "row_column"},
        {"dtype": "float8_e5m2", "scale": "tensor"},
        {"dtype": "int8", "scale": "row_column", "out_dtype": "bfloat16"},
        {"dtype": "float16", "b_dtype": "int8", "zero_point": True},
        {"dtype": "bfloat16", "b_dtype": "int4", "layout": "nt", "group_size": 16},
    ],
    ids=str,
)
def test_sums_reach_the_curved_part_of_activations(options: dict[str, Any], k: int) -> None:
    workload = matmul(m=64, n=64, k=k, **options)
    c = MATMUL.reference(workload, MATMUL.inputs(workload, 0))["c"]
    assert 0.3 < c.std() < 3


def test_integers_take_every_value() -> None:
    quantised: dict[str, Any] = {"dtype": "float16", "b_dtype": "int4", "layout": "nt"}
    for options in ({"dtype": "int8"}, quantised):
        workload = matmul(m=64, n=64, k=64, **options)
        codes = MATMUL.inputs(workload, 0)["b"]
        assert len(np.unique(codes)) == 256


def test_arrays_of_scales_and_weights() -> None:
    grouped = matmul(
        groups=[3, 0, 4], n=6, k=8, dtype="bfloat16", b_dtype="int4", layout="nt", group_size=4,
        zero_point=True, epilogue="row_scale",
    )  # fmt: skip
    shapes = {array.name: (array.shape, array.dtype) for array in MATMUL.arrays(grouped)}
    assert shapes == {
        "a": ((7, 8), "bfloat16"),
        "b": ((3, 6, 8), "int4"),
        "b_scale": ((3, 2, 6), "bfloat16"),
        "b_zero": ((3, 2, 6), "bfloat16"),
        "row_scale": ((7,), "float32"),
        "c": ((7, 6), "bfloat16"),
    }
    scaled = matmul(m=3, n=4, k=8, batch=2, dtype="int8", scale="row_column", out_dtype="float16")
    shapes = {array.name: (array.shape, array.dtype) for array in MATMUL.arrays(scaled)}
    assert shapes["a_scale"] == ((2, 3), "float32") and shapes["b_scale"] == ((2, 4), "float32")
    tensor = MATMUL.arrays(matmul(m=3, n=4, k=8, dtype="float8_e4m3", scale="tensor"))
    assert [array.role for array in tensor[2:4]] == ["scalar", "scalar"]
    assert tensor[-1].dtype == "bfloat16"


def test_work_and_traffic_of_groups_and_weights() -> None:
    grouped = matmul(
        groups=[3, 0, 4], n=6, k=8, dtype="float16", b_dtype="int4", layout="nt", group_size=4
    )
    assert MATMUL.flops(grouped) == 2 * 7 * 6 * 8
    # A, the two matrices B that are read, their scales, C
    assert MATMUL.bytes(grouped) == 2 * 7 * 8 + 2 * (6 * 8 // 2) + 2 * (2 * 6 * 2) + 2 * 7 * 6
    assert MATMUL.bytes(matmul(m=2, n=3, k=4, dtype="int8")) == 8 + 12 + 4 * 6
    assert MATMUL.bytes(matmul(m=2, n=3, k=4, dtype="tf32")) == 4 * (8 + 12 + 6)
