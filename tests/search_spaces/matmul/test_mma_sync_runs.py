"""The mma_sync template computes the right thing, emulated on the CPU; and compiles for GPUs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_emulation import EmulationError, emulate
from kernel_checks import error_ratio
from nvrtc import compiled
from tensor_core_cases import GPU, assert_right_in_emulation, sampled
from tensor_core_cases import mma_sync_schedule as schedule

from records.schedule import Schedule
from records.workload import Workload
from search_spaces.dialect import CUDA
from search_spaces.kernel import KernelSource, Launch
from search_spaces.matmul import matmul
from search_spaces.matmul.mma_sync import MMA_SYNC
from search_spaces.matmul.op import MATMUL

TEXTS = Path(__file__).parents[3] / "search_spaces"

# Together: every dtype, layout and width of copies; sizes that divide, that do not, that are one.
WORKLOADS = (
    matmul(m=64, n=64, k=64, dtype="float16", layout="nt"),
    matmul(m=72, n=88, k=104, dtype="bfloat16", epilogue="bias,gelu,residual"),
    matmul(m=17, n=33, k=19, dtype="float16", layout="tn", epilogue="alpha,beta"),
    matmul(m=52, n=20, k=68, dtype="float16", accumulate="float16", layout="tt", batch=2),
    matmul(m=40, n=36, k=44, dtype="tf32", epilogue="silu"),
    matmul(m=33, n=31, k=45, dtype="tf32", layout="tt"),
    matmul(m=48, n=64, k=96, dtype="int8", layout="nt"),
    matmul(m=36, n=50, k=70, dtype="int8", layout="tn", scale="row_column", out_dtype="bfloat16"),
    matmul(m=80, n=48, k=128, dtype="float8_e4m3", layout="nt", scale="tensor"),
    matmul(
        m=80, n=32, k=100, dtype="float8_e5m2", layout="tt", scale="tensor", out_dtype="float8_e5m2"
    ),
    matmul(m=1, n=1, k=1, dtype="float16"),
)


def is_small(chosen: Schedule) -> bool:
    tile = chosen["block_m"] * chosen["block_n"]
    return tile <= 8192 and tile <= 8 * chosen["warp_m"] * chosen["warp_n"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_in_emulation(workload: Workload, tmp_path: Path) -> None:
    for chosen in sampled(MMA_SYNC, workload, 1, keep=is_small):
        assert_right_in_emulation(MMA_SYNC, workload, chosen, tmp_path)


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("staged_store", [False, True])
def test_every_layout_with_a_full_pipeline(layout: str, staged_store: bool, tmp_path: Path) -> None:
    """More tiles than stages, more warps than one in both directions, edges in every direction."""
    workload = matmul(m=72, n=80, k=168, dtype="float16", layout=layout)
    chosen = schedule(stages=4, raster=2, staged_store=staged_store)
    assert MMA_SYNC.space(workload, GPU).violations(chosen.values) == []
    assert_right_in_emulation(MMA_SYNC, workload, chosen, tmp_path)


def test_parts_of_k_are_added_in_a_fixed_order(tmp_path: Path) -> None:
    workload = matmul(m=64, n=64, k=256, dtype="float16", layout="nt")
    source = MMA_SYNC.render(workload, schedule(split_k=4, stages=2), CUDA)
    inputs = MATMUL.inputs(workload, 0)
    results = [emulate(source, inputs, tmp_path, reversed=order)["c"] for order in (False, True)]
    assert error_ratio(workload, inputs, {"c": results[0]}) <= 1
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize(
    ("fragments", "missing"),
    [
        # Before the first fragments; between the tiles; before the tiles give way to the slab.
        (2, "        copy_wait<STAGES - 2>();\n        __syncthreads();\n"),
        (2, "                copy_wait<STAGES - 2>();\n                __syncthreads();\n"),
        (1, "                copy_wait<STAGES - 2>();\n                __syncthreads();\n"),
        (1, "    copy_wait<0>();\n    __syncthreads();\n"),
    ],
)
def test_a_missing_barrier_would_be_seen(fragments: int, missing: str, tmp_path: Path) -> None:
    workload = matmul(m=64, n=64, k=288, dtype="float16", layout="nt")
    source = MMA_SYNC.render(workload, schedule(stages=2, fragments=fragments), CUDA)
    assert source.text.count(missing) == 1
    broken = replace(source, text=source.text.replace(missing, ""))
    inputs = MATMUL.inputs(workload, 0)
    ratios = []
    for dawdle in (False, True):
        outputs = emulate(broken, inputs, tmp_path, reversed=dawdle, late=dawdle)
        ratios.append(error_ratio(workload, inputs, outputs))
    assert max(ratios) > 1


def test_a_write_beyond_the_matrix_would_be_seen(tmp_path: Path) -> None:
    workload = matmul(m=50, n=64, k=64, dtype="float16")
    source = MMA_SYNC.render(workload, schedule(stages=2), CUDA)
    right = "#define GUARD_M (ROW_GROUPS || M % BLOCK_M != 0)"
    assert source.text.count(right) == 1
    broken = replace(source, text=source.text.replace(right, "#define GUARD_M 0"))
    with pytest.raises(EmulationError):
        emulate(broken, MATMUL.inputs(workload, 0), tmp_path)


# ---- Compiled for GPUs

TILE: dict[str, Any] = {"block_m": 128, "block_n": 128, "warp_m": 64, "warp_n": 32}
LARGE: dict[str, Any] = TILE | {"block_n": 256, "warp_n": 64}
HALF = {"dtype": "float16", "epilogue": "bias,gelu"}


@pytest.mark.parametrize(
    ("arch", "given", "knobs"),
    [
        ("sm_80", HALF | {"layout": "nn"}, LARGE | {"stages": 4}),
        ("sm_90a", HALF | {"layout": "nn"}, LARGE | {"stages": 4}),
        ("sm_100a", HALF | {"layout": "nt"}, LARGE | {"block_k": 64}),
        ("sm_80", HALF | {"layout": "tn"}, TILE | {"staged_store": False}),
        ("sm_90a", HALF | {"layout": "tt"}, TILE | {"split_k": 2}),
        ("sm_90a", HALF | {"layout": "nt", "accumulate": "float16"}, LARGE),
        ("sm_80", {"dtype": "bfloat16", "layout": "nn"}, LARGE | {"raster": 8}),
        ("sm_90a", {"dtype": "tf32", "layout": "nn"}, TILE),
        ("sm_80", {"dtype": "int8", "layout": "nt"}, LARGE | {"block_k": 128}),
        ("sm_100a", {"dtype": "int8", "layout": "nn"}, TILE | {"block_k": 64}),
        (
            "sm_89",
            {"dtype": "float8_e4m3", "layout": "nt", "scale": "row_column"},
            TILE | {"block_k": 64},
        ),
        ("sm_90a", {"dtype": "float8_e5m2", "layout": "nt"}, TILE | {"block_k": 64}),
    ],
    ids=str,
)
def test_tiles_live_in_registers(arch: str, given: dict[str, Any], knobs: dict[str, Any]) -> None:
    workload = matmul(m=4096, n=4096, k=4096, **given)
    chosen = schedule(**knobs)
    assert MMA_SYNC.space(workload, GPU).violations(chosen.values) == []
    result = compiled(MMA_SYNC.render(workload, chosen, CUDA), arch)
    assert "warning" not in result.log
    assert result.spilled_bytes["matmul"] == 0 and result.stack_bytes["matmul"] == 0


@pytest.mark.parametrize("workload", WORKLOADS[1:8:3], ids=str)
def test_awkward_sizes_compile_without_a_warning(workload: Workload) -> None:
    for arch, chosen in zip(("sm_80", "sm_100a"), sampled(MMA_SYNC, workload, 2), strict=True):
        source = MMA_SYNC.render(workload, chosen, CUDA)
        result = compiled(source, arch)
        assert "warning" not in result.log
        assert set(result.registers) == {launch.kernel for launch in source.launches}


def test_the_kernel_text_compiles_with_its_defaults() -> None:
    parts = ("schedule.h", "tiles.h", "plain.h")
    names = ["dialects/cuda.h", "dialects/tensor_core.h", "matmul/tiles.h"]
    names += [*(f"matmul/mma_sync_{part}" for part in parts), "matmul/mma_sync.cu"]
    text = "\n".join((TEXTS / name).read_text() for name in names)
    workload = matmul(m=4096, n=4096, k=4096, dtype="float16")
    launch = Launch("matmul", (1024, 1, 1), (128, 1, 1), ("a", "b", "c"))
    source = KernelSource("cuda", text, (launch,), MATMUL.arrays(workload))
    assert "matmul" in compiled(source, "sm_80").registers


def test_every_knob_has_a_default_and_a_comment_in_the_text() -> None:
    text = (TEXTS / "matmul" / "mma_sync_schedule.h").read_text()
    for knob in MMA_SYNC.space(WORKLOADS[0], GPU).knobs:
        name = knob.name.upper()
        assert re.search(rf"#ifndef {name}\n#define {name} \d+ +// \w+", text), name


def test_inputs_of_one_sign_are_summed_too(tmp_path: Path) -> None:
    """Every product of whole numbers is exact, so that nothing may be lost or counted twice."""
    workload = matmul(m=48, n=40, k=72, dtype="float16", layout="tn")
    source = MMA_SYNC.render(workload, schedule(stages=2, block_m=32, block_n=32), CUDA)
    inputs = {"a": np.ones((72, 48), np.float16), "b": np.ones((72, 40), np.float16)}
    assert (emulate(source, inputs, tmp_path)["c"] == 72).all()
