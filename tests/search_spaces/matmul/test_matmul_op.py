"""Arrays, inputs, reference and the error bound: what decides whether a kernel is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.workload import Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.steps import STEPS

EVERY_STEP = "alpha,beta,bias,gelu,residual,silu,relu,gelu_tanh"


def naive(workload: Workload, inputs: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Element by element in Python, from the definition."""
    a_letter, b_letter = workload["layout"]
    m, n, k, batch = (workload[name] for name in ("m", "n", "k", "batch"))
    c = np.empty((batch, m, n))
    given = {name: value.astype(float) for name, value in inputs.items()}
    a, b = given["a"].reshape(batch, -1), given["b"].reshape(batch, -1)
    activations: dict[str, Callable[[float], float]] = {
        "relu": lambda x: max(x, 0.0),
        "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
        "gelu_tanh": lambda x: (
            x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        ),
        "silu": lambda x: x / (1 + math.exp(-x)),
    }
    for z, i, j in np.ndindex(batch, m, n):
        x = sum(
            a[z, p * m + i if a_letter == "t" else i * k + p]
            * b[z, j * k + p if b_letter == "t" else p * n + j]
            for p in range(k)
        )
        at = (z, i, j)[3 - inputs["c_in"].ndim :] if "c_in" in inputs else ()
        for step in workload["epilogue"]:
            if step == "alpha":
                x *= given["alpha"]
            elif step == "beta":
                x += given["beta"] * given["c_in"][at]
            elif step == "bias":
                x += given["bias"][j]
            elif step == "residual":
                x += given["residual"][at]
            else:
                x = activations[step](x)
        c[z, i, j] = x
    return c.reshape(((batch,) if batch > 1 else ()) + (m, n))


@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.integers(1, 3),
    st.sampled_from(["nn", "nt", "tn", "tt"]),
    st.permutations(EVERY_STEP.split(",")),
)
@settings(max_examples=40, deadline=None)
def test_reference_is_the_definition(
    sizes: tuple[int, int, int], batch: int, layout: str, steps: list[str]
) -> None:
    m, n, k = sizes
    workload = matmul(m=m, n=n, k=k, batch=batch, layout=layout, dtype="float64", epilogue=steps)
    inputs = MATMUL.inputs(workload, seed=3)
    got = MATMUL.reference(workload, inputs)["c"]
    np.testing.assert_allclose(got, naive(workload, inputs), rtol=1e-12, atol=1e-13)


def test_reference_of_panels_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = matmul(m=37, n=29, k=11, layout="tn")
    inputs = MATMUL.inputs(workload, seed=0)
    whole = MATMUL.reference(workload, inputs)["c"]
    monkeypatch.setattr("search_spaces.matmul.operands._PANEL_ELEMENTS", 50)
    np.testing.assert_allclose(MATMUL.reference(workload, inputs)["c"], whole, rtol=1e-13)


def test_arrays_come_in_the_order_of_the_steps() -> None:
    workload = matmul(m=2, n=3, k=4, layout="tt", dtype="float16", epilogue="bias,relu,beta,alpha")
    arrays = MATMUL.arrays(workload)
    assert [array.name for array in arrays] == ["a", "b", "bias", "beta", "c_in", "alpha", "c"]
    assert [array.shape for array in arrays] == [(4, 2), (3, 4), (3,), (), (2, 3), (), (2, 3)]
    assert [array.dtype for array in arrays if array.role == "scalar"] == ["float32"] * 2
    assert {array.dtype for array in arrays if array.role != "scalar"} == {"float16"}


def test_a_batch_shares_the_bias_only() -> None:
    arrays = MATMUL.arrays(matmul(m=2, n=3, k=4, batch=5, epilogue="bias,residual"))
    assert [array.shape for array in arrays] == [(5, 2, 4), (5, 4, 3), (3,), (5, 2, 3), (5, 2, 3)]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_inputs_are_as_declared_never_zero_and_decided_by_the_seed(dtype: str) -> None:
    workload = matmul(m=300, n=300, k=300, dtype=dtype, epilogue="alpha,bias,beta,residual")
    inputs = MATMUL.inputs(workload, seed=1)
    declared = {a.name: (a.shape, a.dtype) for a in MATMUL.arrays(workload) if a.role != "output"}
    assert {name: (x.shape, str(x.dtype)) for name, x in inputs.items()} == declared
    assert all(np.all(x != 0) for x in inputs.values())
    assert all(np.array_equal(x, MATMUL.inputs(workload, 1)[name]) for name, x in inputs.items())
    assert not any(
        np.array_equal(x, MATMUL.inputs(workload, 2)[name]) for name, x in inputs.items()
    )
    assert not np.array_equal(inputs["a"], inputs["b"])


@pytest.mark.parametrize("k", [1, 100, 10_000])
def test_sums_have_about_unit_variance_for_every_length(k: int) -> None:
    workload = matmul(m=60, n=60, k=k)
    c = MATMUL.reference(workload, MATMUL.inputs(workload, 0))["c"]
    assert 0.8 < c.std() < 1.25


def test_work_and_traffic() -> None:
    workload = matmul(m=2, n=3, k=4, batch=5, dtype="float16", epilogue="bias,alpha")
    assert MATMUL.flops(workload) == 2 * 2 * 3 * 4 * 5
    assert MATMUL.bytes(workload) == 2 * (5 * (2 * 4 + 4 * 3 + 2 * 3) + 3) + 4


def ratio(workload: Workload, inputs: Any, c: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    reference = MATMUL.reference(workload, inputs)
    allowed = MATMUL.tolerance(workload, inputs, reference)["c"]
    assert allowed.shape == c.shape and np.all(allowed > 0)
    return np.asarray(np.abs(c.astype(float) - reference["c"]) / allowed)


def running_sum(a: npt.NDArray[Any], b: npt.NDArray[Any], order: Any) -> npt.NDArray[Any]:
    """a b with every product and every addition rounded to the dtype, in that order of k."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for p in order:
        total = total + a[:, p, None] * b[None, p]
    return total


@pytest.mark.parametrize("k", [1, 2, 16, 300, 4096])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sums_in_any_order_are_right(dtype: str, k: int) -> None:
    workload = matmul(m=64, n=48, k=k, dtype=dtype, accumulate=dtype)
    inputs = MATMUL.inputs(workload, seed=k)
    a, b = inputs["a"], inputs["b"]
    halves = running_sum(a, b, range(0, k, 2)) + running_sum(a, b, range(1, k, 2))
    shuffled = np.random.default_rng(0).permutation(k)
    for c in (running_sum(a, b, range(k)), running_sum(a, b, shuffled), halves):
        assert ratio(workload, inputs, c).max() <= 1


@pytest.mark.parametrize("missing", [0, 2047, 4095])
def test_one_missing_step_of_4096_is_seen_in_nearly_every_element(missing: int) -> None:
    workload = matmul(m=64, n=48, k=4096)
    inputs = MATMUL.inputs(workload, seed=0)
    a, b = (inputs[name].astype(np.float64) for name in ("a", "b"))
    c = a @ b - np.outer(a[:, missing], b[missing])
    assert np.mean(ratio(workload, inputs, c) > 1) > 0.9


def test_a_wrong_activation_is_seen() -> None:
    exact, approximate = (
        matmul(m=64, n=64, k=4096, epilogue=step) for step in ("gelu", "gelu_tanh")
    )
    inputs = MATMUL.inputs(exact, seed=0)
    assert ratio(exact, inputs, MATMUL.reference(approximate, inputs)["c"]).max() > 1


def test_float16_sums_are_told_from_nothing_at_all() -> None:
    workload = matmul(m=64, n=64, k=4096, dtype="float16", accumulate="float16")
    inputs = MATMUL.inputs(workload, seed=0)
    assert ratio(workload, inputs, np.zeros((64, 64))).max() > 1


def test_nan_is_never_right() -> None:
    workload = matmul(m=2, n=2, k=2)
    inputs = MATMUL.inputs(workload, seed=0)
    assert not np.any(ratio(workload, inputs, np.full((2, 2), np.nan)) <= 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_epilogue_rounded_at_every_step_is_right(dtype: str) -> None:
    """Steps in the epilogue's own precision, the result rounded to the stored one."""
    workload = matmul(m=64, n=48, k=128, dtype=dtype, epilogue=EVERY_STEP)
    inputs = MATMUL.inputs(workload, seed=0)
    working = "float64" if dtype == "float64" else "float32"
    x = (inputs["a"].astype(working) @ inputs["b"].astype(working)).astype(working)
    for step in workload["epilogue"]:
        x = STEPS[step].apply(x.astype(np.float64), inputs).astype(working)
    assert ratio(workload, inputs, x.astype(dtype)).max() <= 1


@pytest.mark.parametrize("step", ["relu", "gelu", "gelu_tanh", "silu"])
def test_no_activation_is_steeper_than_its_slope(step: str) -> None:
    x = np.linspace(-9, 9, 200_001)
    steepest = np.abs(np.diff(STEPS[step].apply(x, {})) / np.diff(x)).max()
    assert 0.97 * STEPS[step].slope({}) < steepest <= STEPS[step].slope({})
