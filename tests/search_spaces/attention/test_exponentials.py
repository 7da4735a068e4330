"""exponentials.h: 2^x by polynomial, and tanh, as good as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from cuda_emulation import emulate

from search_spaces.dialect import CUDA
from search_spaces.kernel import Array, KernelSource, Launch

HEADER = Path(__file__).parents[3] / "search_spaces" / "attention" / "exponentials.h"
COUNT = 4096


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exponentials")


def results(function: str, x: npt.NDArray[np.float32], directory: Path) -> npt.NDArray[np.float64]:
    kernel = (
        "KERNEL void apply(const float *RESTRICT x, float *RESTRICT y)\n"
        f"{{\n    const int i = GROUP_ID(0) * 32 + LOCAL_ID(0);\n    y[i] = {function}(x[i]);\n}}\n"
    )
    arrays = (Array("x", (COUNT,), "float32", "input"), Array("y", (COUNT,), "float32", "output"))
    launch = Launch("apply", (COUNT // 32, 1, 1), (32, 1, 1), ("x", "y"))
    text = "\n".join((CUDA.prelude, HEADER.read_text(), kernel))
    source = KernelSource("cuda", text, (launch,), arrays)
    return emulate(source, {"x": x}, directory)["y"].astype(np.float64)


def test_powers_of_two_by_polynomial(directory: Path) -> None:
    x = np.linspace(-125, 8, COUNT, dtype=np.float32)
    exact = np.exp2(x.astype(np.float64))
    assert (np.abs(results("exp2_polynomial", x, directory) / exact - 1) <= 3e-6).all()


def test_what_has_no_weight_is_zero(directory: Path) -> None:
    """A key that is not seen counts for nothing, whichever unit computes it."""
    x = np.full(COUNT, -np.inf, np.float32)
    x[: COUNT // 2] = np.linspace(-1e30, -127, COUNT // 2, dtype=np.float32)
    for function in ("exp2_polynomial", "exp2_special"):
        y = results(function, x, directory)
        assert (y[COUNT // 2 :] == 0).all() and (y[: COUNT // 2] <= 2.0**-126).all()
        assert (y >= 0).all()


def test_a_power_just_below_the_least_is_no_more_than_it(directory: Path) -> None:
    x = np.linspace(-127, -125, COUNT, dtype=np.float32)
    y = results("exp2_polynomial", x, directory)
    assert (y >= 0).all() and (np.abs(y - np.exp2(x.astype(np.float64))) <= 2.0**-126).all()


def test_tanh_has_a_small_absolute_error(directory: Path) -> None:
    x = np.concatenate(
        [np.linspace(-9, 9, COUNT - 4), [-np.inf, -1e30, 1e30, np.inf]], dtype=np.float32
    )
    error = np.abs(results("tanh_special", x, directory) - np.tanh(x.astype(np.float64)))
    assert (error <= 2.0**-22).all()
