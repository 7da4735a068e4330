"""Formats that numpy does not know, from inputs to the check, and in calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from autotune import call_arguments
from autotune.backends import guards
from autotune.backends.base import Backend
from autotune.backends.simulated import SimulatedBackend
from autotune.device_names import open_backend
from autotune.problems import check, problem
from autotune.testing import devices
from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.dialect import OPENCL
from search_spaces.kernel import Array, KernelSource, Launch
from search_spaces.matmul import matmul
from search_spaces.matmul.op import MATMUL

FORMATS: list[dict[str, Any]] = [
    {"dtype": "bfloat16"},
    {"dtype": "tf32"},
    {"dtype": "float8_e4m3", "scale": "tensor", "out_dtype": "float8_e5m2"},
    {"dtype": "int8"},
    {"dtype": "bfloat16", "b_dtype": "int4", "layout": "nt", "zero_point": True},
]


def source(workload: Workload, text: str = "#define TILE 8\n") -> KernelSource:
    arrays = MATMUL.arrays(workload)
    names = tuple(array.name for array in arrays)
    return KernelSource("opencl", text, (Launch("multiply", (1, 1, 1), (1, 1, 1), names),), arrays)


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_the_simulated_device_knows_every_format(options: dict[str, Any]) -> None:
    workload = matmul(m=6, n=10, k=16, **options)
    given = problem(workload, seed=0)
    for failure, error in (("", ""), ("#define SIMULATE_FAILURE wrong_result\n", "1 of 60")):
        backend = SimulatedBackend()
        kernel = source(workload, f"#define TILE 8\n{failure}")
        execution = backend.prepare(kernel, backend.compile(kernel), given.inputs)
        assert "60 of 60 elements" in check(given, execution.outputs()).error  # poison
        execution.launch()
        verdict = check(given, execution.outputs())
        assert error in verdict.error and bool(error) == bool(verdict.error)


@pytest.fixture(scope="module", params=devices.names("opencl"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


# One work-item an element. B is 4-bit integers, n × k; A, the scales and C are bfloat16.
WEIGHTS = """
float number(ushort bits) { return as_float((uint)bits << 16); }
ushort nearest(float x)
{
    const uint bits = as_uint(x);
    return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
__kernel void multiply(__global const ushort *a, __global const uchar *b,
                       __global const ushort *b_scale, __global const ushort *b_zero,
                       __global ushort *c)
{
    const int row = get_global_id(0), column = get_global_id(1);
    float sum = 0.0f;
    for (int i = 0; i < K; ++i) {
        const int nibble = (b[(column * K + i) / 2] >> (4 * (i % 2))) & 15;
        const int at = i / GROUP_SIZE * N + column;
        const float weight = ((nibble ^ 8) - 8 - number(b_zero[at])) * number(b_scale[at]);
        sum += number(a[row * K + i]) * weight;
    }
    c[row * N + column] = nearest(sum);
}
"""
WEIGHTED = matmul(
    m=6, n=10, k=32, dtype="bfloat16", b_dtype="int4", layout="nt", group_size=8, zero_point=True
)


def weights_source() -> KernelSource:
    arrays = MATMUL.arrays(WEIGHTED)
    names = tuple(array.name for array in arrays)
    launch = Launch("multiply", (6, 10, 1), (1, 1, 1), names)
    text = "#define N 10\n#define K 32\n#define GROUP_SIZE 8\n" + WEIGHTS
    return KernelSource(OPENCL.name, text, (launch,), arrays)


def test_a_device_multiplies_weights_of_four_bits(backend: Backend) -> None:
    given, kernel = problem(WEIGHTED, seed=0), weights_source()
    binary = backend.compile(kernel)
    execution = backend.prepare(kernel, binary, given.inputs)
    assert "60 of 60 elements" in check(given, execution.outputs()).error
    execution.launch()
    assert (check(given, execution.outputs()).error, execution.damage()) == ("", "")
    execution.close()
    called = backend.launcher(kernel, binary)(given.inputs)
    assert called["c"].dtype == np.uint16
    assert check(given, called).error == ""


def test_guard_bands_spoil_sums_of_every_format() -> None:
    for seed in range(3):
        band = guards.pattern(seed)
        assert np.isnan(dtypes.decode("bfloat16", band.view(np.uint16))).all()
        for name in ("float8_e4m3", "float8_e5m2"):
            values = dtypes.decode(name, band)
            assert np.all(np.isnan(values) | (np.abs(values) > 143))


A = Array("a", (2, 3), "bfloat16", "input")
B = Array("b", (2, 4), "int4", "input")
C = Array("c", (2, 3), "bfloat16", "output")


def bits(*shape: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.full(shape, 0x3F80, np.uint16)


def test_bits_and_packed_arrays_are_taken() -> None:
    packed = np.zeros((2, 2), np.uint8)
    call = call_arguments.checked([A, B], [C], {"a": bits(2, 3), "b": packed}, {})
    assert call.arrays["b"] is packed


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("a", np.zeros((2, 3), np.float32), "need bfloat16 (as uint16) 2×3, got float32 2×3; con"),
        ("a", np.zeros((2, 3), np.float16), "got float16 2×3; convert it to bfloat16 (as uint16)"),
        ("b", np.zeros((2, 4), np.int8), "b: need int4 (as uint8) 2×2, got int8 2×4"),
    ],
)
def test_other_arrays_are_refused_in_words(name: str, wrong: Any, message: str) -> None:
    arrays = {"a": bits(2, 3), "b": np.zeros((2, 2), np.uint8), name: wrong}
    with pytest.raises(InvalidInputError) as refused:
        call_arguments.checked([A, B], [C], arrays, {})
    assert message in str(refused.value)


@pytest.mark.parametrize("contiguous", [True, False])
def test_arrays_of_ml_dtypes_go_in_and_come_back_as_they_are(contiguous: bool) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    a = np.ones((2, 3), ml_dtypes.bfloat16)
    out = np.zeros((2, 3) if contiguous else (3, 2), ml_dtypes.bfloat16)
    out = out if contiguous else out.T
    call = call_arguments.checked([A], [C], {"a": a}, {"c": out})
    assert call.arrays["a"].dtype == np.uint16 and np.shares_memory(call.arrays["a"], a)
    made = call.out["c"] if contiguous else bits(2, 3)
    assert made.dtype == np.uint16
    made[...] = dtypes.encode("bfloat16", np.full((2, 3), 1.5))
    delivered = call.delivered({"c": made})["c"]
    assert delivered is out
    assert out.astype(float).tolist() == [[1.5] * 3] * 2
