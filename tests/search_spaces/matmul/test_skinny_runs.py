"""The skinny template computes the right thing, emulated on the CPU; and compiles for GPUs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cuda_emulation import emulate
from kernel_checks import error_ratio
from nvrtc import compiled
from tensor_core_cases import GPU, assert_right_in_emulation, sampled
from tensor_core_cases import skinny_schedule as schedule

from records.workload import Workload
from search_spaces.dialect import CUDA
from search_spaces.kernel import KernelSource, Launch
from search_spaces.matmul import matmul
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.skinny import SKINNY

TEXTS = Path(__file__).parents[3] / "search_spaces"

# Together: every dtype, layout and width of loads; sizes that divide, that do not, that are one.
WORKLOADS = (
    matmul(m=1, n=264, k=300, epilogue="bias,gelu,residual"),
    matmul(m=3, n=33, k=119, dtype="float16", layout="tn", epilogue="alpha,beta"),
    matmul(m=9, n=52, k=203, dtype="bfloat16", layout="tt", batch=2),
    matmul(m=2, n=50, k=134, dtype="tf32", layout="nt"),
    matmul(m=4, n=64, k=1000, dtype="int8", layout="nt"),
    matmul(m=3, n=50, k=70, dtype="int8", layout="tn", scale="row_column", out_dtype="bfloat16"),
    matmul(m=2, n=48, k=528, dtype="float8_e4m3", layout="nt", scale="tensor"),
    matmul(m=6, n=36, k=100, dtype="float8_e5m2", layout="tn", out_dtype="float8_e5m2"),
    matmul(m=1, n=1, k=1, dtype="float16"),
)


INT4: dict[str, Any] = {"layout": "nt", "b_dtype": "int4"}
INT8: dict[str, Any] = {"layout": "nt", "b_dtype": "int8"}
ACROSS: dict[str, Any] = {"layout": "tn", "b_dtype": "int8"}
# Groups of k that a load does not reach the end of, cuts, or holds several of; uneven edges.
QUANTISED = (
    matmul(m=1, n=40, k=512, dtype="float16", **INT4, group_size=128, zero_point=True),
    matmul(m=16, n=72, k=1024, dtype="bfloat16", **INT4, group_size=64, zero_point=True),
    matmul(m=3, n=21, k=240, dtype="float16", **INT4, group_size=8, epilogue="bias"),
    matmul(m=5, n=33, k=192, dtype="float16", **INT8, group_size=32),
    matmul(m=9, n=33, k=192, dtype="bfloat16", **INT8, group_size=48, zero_point=True),
    matmul(m=3, n=21, k=118, dtype="bfloat16", batch=2, **INT4, zero_point=True),
    matmul(m=5, n=136, k=192, dtype="float16", b_dtype="int8", group_size=32),
    matmul(m=16, n=131, k=320, dtype="bfloat16", **ACROSS, group_size=40, zero_point=True),
)


GROUPED = (
    matmul(n=40, k=300, groups=(3, 0, 7, 1), layout="nt", epilogue="bias"),
    matmul(n=72, k=296, groups=(3, 0, 16), dtype="float16", layout="tn", epilogue="row_scale"),
    matmul(n=72, k=296, groups=(0, 9, 16, 5), dtype="bfloat16", epilogue="residual"),
    matmul(
        n=40,
        k=528,
        groups=(0, 3, 1, 0),
        dtype="int8",
        layout="nt",
        scale="row_column",
        out_dtype="bfloat16",
    ),
    matmul(n=72, k=256, groups=(5, 0, 12), dtype="bfloat16", **INT4, zero_point=True),
)


@pytest.mark.parametrize("workload", WORKLOADS + QUANTISED + GROUPED, ids=str)
def test_right_in_emulation(workload: Workload, tmp_path: Path) -> None:
    for chosen in sampled(SKINNY, workload, 1):
        assert_right_in_emulation(SKINNY, workload, chosen, tmp_path)


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize(("rows", "use_mma"), [(1, False), (16, True)])
def test_every_layout_with_a_full_pipeline(
    layout: str, rows: int, use_mma: bool, tmp_path: Path
) -> None:
    """More rounds than stages, several warps and groups in both directions, edges everywhere."""
    workload = matmul(m=rows, n=264, k=1048, dtype="float16", layout=layout, epilogue="bias")
    small = {"groups": 1, "warps_n": 1} if layout[1] == "n" and not use_mma else {}
    steps = {"unroll": 1 if layout[1] == "t" and not use_mma else 2}
    chosen = schedule(use_mma=use_mma, stages=3, **small, **steps)
    assert SKINNY.space(workload, GPU).violations(chosen.values) == []
    assert_right_in_emulation(SKINNY, workload, chosen, tmp_path)


def test_parts_of_k_are_scaled_by_group(tmp_path: Path) -> None:
    chosen = schedule(groups=1, warps_n=1, warps_k=1, split_k=2)
    assert SKINNY.space(GROUPED[3], GPU).violations(chosen.values) == []
    assert_right_in_emulation(SKINNY, GROUPED[3], chosen, tmp_path)


def test_parts_of_k_are_added_in_a_fixed_order(tmp_path: Path) -> None:
    workload = matmul(m=2, n=64, k=4096, dtype="float16", layout="nt")
    source = SKINNY.render(workload, schedule(split_k=4), CUDA)
    inputs = MATMUL.inputs(workload, 0)
    results = [emulate(source, inputs, tmp_path, reversed=order)["c"] for order in (False, True)]
    assert error_ratio(workload, inputs, {"c": results[0]}) <= 1
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize(
    "missing",
    [
        "        copy_wait<STAGES - 1>();\n",  # a round that is multiplied before it has come
        "    __syncthreads();                     // the copies",  # sums where copies still lie
        "    __syncthreads();\n    for (int i = LOCAL_ID(0)",  # sums that are not there yet
    ],
)
def test_a_missing_barrier_would_be_seen(missing: str, tmp_path: Path) -> None:
    workload = matmul(m=4, n=64, k=1024, layout="nt")
    source = SKINNY.render(workload, schedule(warps_k=4), CUDA)
    assert source.text.count(missing) == 1
    kept = missing.replace("__syncthreads();", "").replace("copy_wait<STAGES - 1>();", "")
    broken = replace(source, text=source.text.replace(missing, kept))
    inputs = MATMUL.inputs(workload, 0)
    ratios = []
    for dawdle in (False, True):
        outputs = emulate(broken, inputs, tmp_path, reversed=dawdle, late=dawdle)
        ratios.append(error_ratio(workload, inputs, outputs))
    assert max(ratios) > 1


# ---- Compiled for GPUs

MMA: dict[str, Any] = {"use_mma": True, "unroll": 2, "stages": 4}


@pytest.mark.parametrize(
    ("arch", "rows", "given", "knobs"),
    [
        ("sm_80", 1, {"dtype": "float16", "layout": "nt"}, {"groups": 4, "unroll": 2}),
        ("sm_90a", 1, {"dtype": "float16", "layout": "nt"}, {"groups": 4, "unroll": 2}),
        ("sm_100a", 1, {"dtype": "bfloat16", "layout": "nn"}, {"groups": 1, "resident": 2}),
        ("sm_90a", 4, {"dtype": "float32", "layout": "nt"}, {"resident": 4}),
        ("sm_80", 8, {"dtype": "int8", "layout": "nt"}, {"groups": 2}),
        ("sm_90a", 16, {"dtype": "bfloat16", "layout": "nt"}, MMA),
        ("sm_100a", 16, {"dtype": "bfloat16", "layout": "nt"}, MMA | {"resident": 3}),
        ("sm_90a", 16, {"dtype": "float16", "layout": "nn"}, MMA | {"groups": 1}),
        ("sm_80", 1, {"dtype": "float16", **INT4, "group_size": 128}, MMA),
        ("sm_90a", 1, {"dtype": "float16", **INT4, "group_size": 128}, MMA | {"resident": 3}),
        ("sm_90a", 16, {"dtype": "bfloat16", **INT8, "group_size": 64, "zero_point": True}, MMA),
        ("sm_90a", 16, {"dtype": "bfloat16", **ACROSS, "zero_point": True}, MMA | {"groups": 1}),
        ("sm_80", 8, {"dtype": "float16", **ACROSS, "group_size": 64}, MMA | {"stages": 2}),
    ],
    ids=str,
)
def test_sums_live_in_registers(
    arch: str, rows: int, given: dict[str, Any], knobs: dict[str, Any]
) -> None:
    workload = matmul(m=rows, n=8192, k=8192, **given)
    chosen = schedule(**knobs)
    assert SKINNY.space(workload, GPU).violations(chosen.values) == []
    source = SKINNY.render(workload, chosen, CUDA)
    result = compiled(source, arch)
    assert "warning" not in result.log
    assert result.spilled_bytes["matmul"] == 0 and result.stack_bytes["matmul"] == 0
    threads = source.launches[0].group_size[0] * chosen["resident"]
    assert result.registers["matmul"] * threads <= 65536


@pytest.mark.parametrize("workload", (*WORKLOADS[1::2], *QUANTISED[::2], *GROUPED[2:]), ids=str)
def test_awkward_sizes_compile_without_a_warning(workload: Workload) -> None:
    (chosen,) = sampled(SKINNY, workload, 1)
    source = SKINNY.render(workload, chosen, CUDA)
    result = compiled(source, "sm_89")
    assert "warning" not in result.log
    assert set(result.registers) == {launch.kernel for launch in source.launches}


def test_the_kernel_text_compiles_with_its_defaults() -> None:
    names = ("dialects/cuda.h", "dialects/tensor_core.h", "matmul/tiles.h", "matmul/skinny.cu")
    text = "\n".join((TEXTS / name).read_text() for name in names)
    workload = matmul(m=1, n=4096, k=4096, dtype="float16", layout="nt")
    launch = Launch("matmul", (512, 1, 1), (256, 1, 1), ("a", "b", "c"))
    source = KernelSource("cuda", text, (launch,), MATMUL.arrays(workload))
    assert "matmul" in compiled(source, "sm_80").registers


def test_every_knob_has_a_default_and_a_comment_in_the_text() -> None:
    text = (TEXTS / "matmul" / "skinny.cu").read_text()
    for knob in SKINNY.space(WORKLOADS[0], GPU).knobs:
        name = knob.name.upper()
        assert re.search(rf"#ifndef {name}\n#define {name} \d+ +// \w+", text), name
