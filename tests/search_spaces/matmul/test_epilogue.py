"""Epilogues as text: the scalar and the vector form compute what the steps say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.workload import Workload
from search_spaces.dialect import CUDA, OPENCL
from search_spaces.kernel import Array, KernelSource, Launch
from search_spaces.matmul import matmul
from search_spaces.matmul.epilogue import epilogue_code
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.steps import STEPS

ROWS, COLUMNS = 6, 48  # a multiple of all lanes
CHAINS = [
    *STEPS,
    "alpha,beta,bias,residual,relu,gelu,gelu_tanh,silu",
    "silu,residual,gelu,bias,relu,beta,alpha",
    "relu,relu,silu,silu",
]

# Sums from memory instead of a multiplication; the last column of a row goes by the scalar form.
KERNEL = """
KERNEL void apply(GLOBAL const {value} *x, GLOBAL {value} *y EPILOGUE_PARAMETERS)
{{
    const int row = GROUP_ID(0);
    for (int column = 0; column < {columns}; column += {lanes}) {{
        const int at = row * {columns} + column;
        if ({lanes} > 1 && column + {lanes} < {columns}) {{
            vstore{lanes}(EPILOGUE_VEC(vload{lanes}(0, x + at), row, column), 0, y + at);
        }} else {{
            for (int lane = 0; lane < {lanes}; lane++)
                y[at + lane] = EPILOGUE(x[at + lane], row, column + lane);
        }}
    }}
}}
"""


@pytest.fixture(scope="module", params=devices.names("opencl"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


def applying(workload: Workload, lanes: int) -> KernelSource:
    code = epilogue_code(workload, OPENCL, lanes)
    kernel = KERNEL.format(value=OPENCL.scalar(code.dtype), columns=COLUMNS, lanes=lanes)
    arrays = [array for array in MATMUL.arrays(workload) if array.name not in ("a", "b", "c")]
    shape = (2 * ROWS, COLUMNS)
    return KernelSource(
        "opencl",
        "\n".join([OPENCL.prelude, code.text, kernel]),
        (Launch("apply", (2 * ROWS, 1, 1), (1, 1, 1), ("x", "y", *code.arguments)),),
        (
            Array("x", shape, code.dtype, "input"),
            Array("y", shape, code.dtype, "output"),
            *arrays,
        ),
    )


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize(("dtype", "lanes"), [("float32", 8), ("float64", 4), ("float16", 16)])
def test_text_computes_the_steps(backend: Backend, chain: str, dtype: str, lanes: int) -> None:
    """Rows are counted through a batch of two."""
    if dtype not in backend.target.limit("dtypes"):
        pytest.skip(f"no {dtype} here")
    workload = matmul(m=ROWS, n=COLUMNS, k=1, batch=2, dtype=dtype, epilogue=chain)
    source = applying(workload, lanes)
    inputs = {n: v for n, v in MATMUL.inputs(workload, 0).items() if n not in ("a", "b")}
    x = np.linspace(-12, 12, 2 * ROWS * COLUMNS).reshape(2 * ROWS, COLUMNS)
    x = x.astype(source.arrays[0].dtype)
    execution = backend.prepare(source, backend.compile(source), {"x": x, **inputs})
    execution.poison()
    execution.launch()
    got = execution.outputs()["y"].reshape(2, ROWS, COLUMNS)
    execution.close()
    expected = x.astype(np.float64).reshape(2, ROWS, COLUMNS)
    for step in workload["epilogue"]:
        expected = STEPS[step].apply(expected, inputs)
    np.testing.assert_allclose(got, expected, atol=100 * np.finfo(x.dtype).eps, rtol=1e-5)


def test_nan_survives_every_step(backend: Backend) -> None:
    """An activation that turns NaN into a number would hide a mistake upstream."""
    for chain in STEPS:
        workload = matmul(m=ROWS, n=COLUMNS, k=1, batch=2, epilogue=chain)
        source = applying(workload, 8)
        inputs = {n: v for n, v in MATMUL.inputs(workload, 0).items() if n not in ("a", "b")}
        x = np.full((2 * ROWS, COLUMNS), np.nan, np.float32)
        execution = backend.prepare(source, backend.compile(source), {"x": x, **inputs})
        execution.launch()
        assert np.isnan(execution.outputs()["y"]).all(), chain
        execution.close()


def test_arguments_follow_the_order_of_the_steps() -> None:
    workload = matmul(m=4, n=4, k=4, epilogue="bias,relu,beta,alpha")
    code = epilogue_code(workload, CUDA)
    assert code.arguments == ("bias", "beta", "c_in", "alpha")
    declared = code.text.splitlines()[0]
    positions = [declared.index(f" {name}") for name in ("beta", "alpha")]
    assert declared.index("*RESTRICT bias") < positions[0] < positions[1]


def test_equal_workloads_give_equal_text_and_a_vector_form_only_where_asked() -> None:
    workload = matmul(m=4, n=4, k=4, epilogue="bias,gelu")
    assert epilogue_code(workload, OPENCL, 4) == epilogue_code(workload, OPENCL, 4)
    assert "EPILOGUE_VEC" in epilogue_code(workload, OPENCL, 4).text
    assert "_VEC" not in epilogue_code(workload, OPENCL).text
    assert epilogue_code(matmul(m=4, n=4, k=4), OPENCL).arguments == ()
