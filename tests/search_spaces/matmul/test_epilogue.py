"""Epilogues as text: the scalar and the vector form compute what the steps say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from nvrtc import compiled

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.workload import Workload
from search_spaces.dialect import CUDA, OPENCL, Dialect
from search_spaces.kernel import Array, KernelSource, Launch
from search_spaces.matmul import matmul
from search_spaces.matmul.epilogue import epilogue_code, store_code
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.steps import STEPS
from search_spaces.op import Arrays

Values = npt.NDArray[Any]
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


def applied(backend: Backend, workload: Workload, lanes: int) -> tuple[Values, Values, Arrays]:
    """Numbers, what the epilogue makes of them, and its operands."""
    source = applying(workload, lanes)
    inputs = {n: v for n, v in MATMUL.inputs(workload, 0).items() if n not in ("a", "b")}
    x = np.linspace(-12, 12, 2 * ROWS * COLUMNS).reshape(2 * ROWS, COLUMNS)
    x = x.astype(source.arrays[0].dtype)
    execution = backend.prepare(source, backend.compile(source), {"x": x, **inputs})
    execution.poison()
    execution.launch()
    got = execution.outputs()["y"]
    execution.close()
    return x, got, inputs


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize(("dtype", "lanes"), [("float32", 8), ("float64", 4), ("float16", 16)])
def test_text_computes_the_steps(backend: Backend, chain: str, dtype: str, lanes: int) -> None:
    """Rows are counted through a batch of two."""
    if dtype not in backend.target.limit("dtypes"):
        pytest.skip(f"no {dtype} here")
    workload = matmul(m=ROWS, n=COLUMNS, k=1, batch=2, dtype=dtype, epilogue=chain)
    x, got, inputs = applied(backend, workload, lanes)
    expected = x.astype(np.float64).reshape(2, ROWS, COLUMNS)
    for step in workload["epilogue"]:
        expected = STEPS[step].apply(expected, inputs)
    got = got.reshape(expected.shape)
    np.testing.assert_allclose(got, expected, atol=100 * np.finfo(x.dtype).eps, rtol=1e-5)


@pytest.mark.parametrize(
    "rows",
    [{"m": 2 * ROWS}, {"m": ROWS, "batch": 2}, {"groups": (3, 0, 2 * ROWS - 4, 1)}],
    ids=str,
)
@pytest.mark.parametrize("scale", ["tensor", "row_column"])
def test_text_scales_the_sums(backend: Backend, scale: str, rows: dict[str, Any]) -> None:
    """The reference's own sums, of which A and B of ones leave the scales alone."""
    workload = matmul(
        **rows, n=COLUMNS, k=1, dtype="int8", out_dtype="float32", scale=scale, epilogue="relu"
    )
    x, got, inputs = applied(backend, workload, 8)
    ones = {name: np.ones_like(MATMUL.inputs(workload, 0)[name]) for name in ("a", "b")}
    scales = MATMUL.reference(workload, {**inputs, **ones})["c"]
    expected = np.maximum(x * scales.reshape(x.shape), 0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


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


CUDA_KERNEL = """
KERNEL void apply(GLOBAL const {value} *x, GLOBAL C_TYPE *y EPILOGUE_PARAMETERS)
{{
    const int at = GROUP_ID(0) * 32 + LOCAL_ID(0);
    y[at] = VALUE_TO_C(EPILOGUE(x[at], at / {columns}, at % {columns}));
#ifdef VALUES_TO_C2
    y[at] = (C_TYPE)VALUES_TO_C2(EPILOGUE(x[at], at / {columns}, 0), 0.0f);
#endif
}}
"""
STORED: list[tuple[str, dict[str, Any]]] = [
    ("sm_80", {"dtype": "float16", "epilogue": "bias"}),
    ("sm_80", {"dtype": "bfloat16", "batch": 3, "epilogue": "beta,bias,row_scale,column_scale"}),
    ("sm_80", {"dtype": "bfloat16", "out_dtype": "float32", "epilogue": "residual,gelu"}),
    ("sm_80", {"dtype": "tf32", "epilogue": "bias,silu"}),
    ("sm_80", {"dtype": "int8"}),
    ("sm_80", {"dtype": "int8", "out_dtype": "bfloat16", "scale": "row_column"}),
    ("sm_80", {"dtype": "float16", "b_dtype": "int8", "zero_point": True, "epilogue": "bias"}),
    ("sm_90a", {"dtype": "float8_e4m3", "scale": "tensor", "epilogue": "bias,gelu"}),
    ("sm_90a", {"dtype": "float8_e4m3", "out_dtype": "float8_e4m3", "epilogue": "residual"}),
    ("sm_90a", {"dtype": "float8_e5m2", "out_dtype": "float8_e5m2", "scale": "row_column"}),
]


@pytest.mark.parametrize(("arch", "options"), STORED, ids=str)
@pytest.mark.parametrize("grouped", [False, True])
def test_every_format_compiles_in_cuda(arch: str, options: dict[str, Any], grouped: bool) -> None:
    if grouped and "batch" in options:
        options = {name: value for name, value in options.items() if name != "batch"}
    rows: dict[str, Any] = {"groups": (3, 0, 5)} if grouped else {"m": 8}
    workload = matmul(**rows, n=COLUMNS, k=2, **options)
    code = epilogue_code(workload, CUDA)
    kernel = CUDA_KERNEL.format(value=CUDA.stored(code.dtype), columns=COLUMNS)
    parts = [CUDA.prelude, store_code(workload, CUDA), code.text, kernel]
    source = KernelSource("cuda", "\n".join(parts), (), ())
    assert "apply" in compiled(source, arch).registers


@pytest.mark.parametrize("dialect", [OPENCL, CUDA], ids=lambda dialect: dialect.name)
def test_operands_kept_as_bits_bring_their_conversions(dialect: Dialect) -> None:
    code = epilogue_code(matmul(m=4, n=4, k=4, dtype="bfloat16", epilogue="bias"), dialect)
    assert code.text.startswith(dialect.formats) and "bfloat16_to_float(" in dialect.formats


def test_a_kernel_may_say_which_group_a_row_belongs_to() -> None:
    workload = matmul(groups=(3, 0, 5), n=4, k=4, dtype="float8_e4m3", scale="row_column")
    text = epilogue_code(workload, CUDA).text
    assert "#ifndef EPILOGUE_GROUP\n" in text
    assert "return (row >= 3) + (row >= 3);" in text
    assert epilogue_code(workload, CUDA).arguments == ("a_scale", "b_scale")


def test_scales_of_weights_belong_to_the_products() -> None:
    workload = matmul(m=4, n=4, k=4, dtype="float16", b_dtype="int8", epilogue="bias")
    assert epilogue_code(workload, CUDA).arguments == ("bias",)
