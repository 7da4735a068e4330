"""The emulation of CUDA on the CPU computes what a GPU would, and sees what it must not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cuda_emulation import EmulationError, emulate

from search_spaces.kernel import Array, KernelSource, Launch, Scratch

COUNT = 64


def source(body: str, *, before: str = "", shared_bytes: int = 1024) -> KernelSource:
    """Two blocks of 64 threads; x and y of 64 floats, a factor, and scratch."""
    text = f"""{before}
    extern "C" __global__ void kernel(const float *x, const float factor, float *scratch, float *y)
    {{
        extern __shared__ __align__(16) float shared[];
        const int i = threadIdx.x;
        {body}
    }}
    """
    arrays = (
        Array("x", (COUNT,), "float32", "input"),
        Array("factor", (), "float32", "scalar"),
        Array("y", (COUNT,), "float32", "output"),
    )
    launch = Launch(
        "kernel", (2, 1, 1), (COUNT, 1, 1), ("x", "factor", "scratch", "y"), shared_bytes
    )
    return KernelSource("cuda", text, (launch,), arrays, (Scratch("scratch", 4 * COUNT),))


X = np.arange(COUNT, dtype=np.float32)
GIVEN = {"x": X, "factor": np.float32(2.0).reshape(())}


def test_barriers_shuffles_and_scalars(tmp_path: Path) -> None:
    body = """
        shared[i] = x[i];
        __syncthreads();
        const float other = shared[63 - i];
        y[i] = factor * (other + __shfl_xor_sync(0xFFFFFFFF, other, 1));
    """
    for reverse in (False, True):
        y = emulate(source(body), GIVEN, tmp_path, reversed=reverse)["y"]
        mirrored = X[::-1]
        swapped = mirrored.reshape(-1, 2)[:, ::-1].reshape(-1)
        np.testing.assert_array_equal(y, 2 * (mirrored + swapped))


def test_a_missing_barrier_is_seen_in_one_of_both_orders(tmp_path: Path) -> None:
    body = "shared[i] = x[i]; y[i] = shared[63 - i];"
    mirrored = X[::-1]
    results = [
        emulate(source(body), GIVEN, tmp_path, reversed=order)["y"] for order in (False, True)
    ]
    assert not all(np.array_equal(result, mirrored) for result in results)


COPY = """
    const unsigned to = __cvta_generic_to_shared(shared + i);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 : : "r"(to), "l"(x + i), "r"(i < 9 ? 4 : 0) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
"""


def test_copies_arrive_when_they_are_waited_for(tmp_path: Path) -> None:
    waiting = (
        COPY + 'asm volatile("cp.async.wait_group %0;" :: "n"(0) : "memory"); y[i] = shared[i];'
    )
    hasty = COPY + "y[i] = shared[i];"
    expected = np.where(np.arange(COUNT) < 9, X, 0)
    for late in (False, True):
        y = emulate(source(waiting), GIVEN, tmp_path, late=late)["y"]
        np.testing.assert_array_equal(y, expected)
    assert np.isnan(emulate(source(hasty), GIVEN, tmp_path, late=True)["y"]).all()


@pytest.mark.parametrize(
    ("instruction", "value", "expected"),
    [
        ("cvt.rn.f16.f32", 1 + 2.0**-11 + 2.0**-20, 0x3C01),
        ("cvt.rn.f16.f32", 1 + 2.0**-11, 0x3C00),  # ties to even
        ("cvt.rn.bf16.f32", 1 + 2.0**-8, 0x3F80),
        ("cvt.rn.bf16.f32", 1 + 3 * 2.0**-8, 0x3F82),
    ],
)
def test_conversions_round_to_nearest_even(
    instruction: str, value: float, expected: int, tmp_path: Path
) -> None:
    body = f"""
        unsigned short bits;
        asm("{instruction} %0, %1;" : "=h"(bits) : "f"({value!r}f));
        y[i] = bits;
    """
    assert (emulate(source(body), GIVEN, tmp_path)["y"] == expected).all()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y[i + 1] = 0;", "an access beyond|a write outside of array y"),
        ("y[i - 1] = 0;", "a write outside of array y"),
        ("y[i] = x[i + 32];", "an access beyond an array"),
        ("if (i < 63) __syncthreads();", "threads wait for each other"),
        ("if (i < 63) __syncwarp();", "threads wait for each other"),
        ("if (i < 32) __syncthreads(); else __syncthreads();", "different places"),
        ("shared[256 + i] = 1;", "beyond the shared memory of the launch"),
        ("*(float4 *)(shared + i) = *(const float4 *)x;", "misaligned"),
        ('asm("red.add.f32 %0, %1;" :: "l"(y), "f"(0.0f));', "not emulated: red.add.f32"),
    ],
)
def test_what_no_kernel_may_do_is_told(body: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match=reason):
        emulate(source(body), GIVEN, tmp_path)


def test_text_that_does_not_compile_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match="nonsense"):
        emulate(source("nonsense;"), GIVEN, tmp_path)
