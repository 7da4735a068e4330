"""The mma_sync template with a quantised B: right in emulation, in registers on GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cuda_emulation import emulate
from kernel_checks import error_ratio
from nvrtc import compiled
from tensor_core_cases import GPU, assert_right_in_emulation, sampled
from tensor_core_cases import mma_sync_schedule as schedule

from records.schedule import Schedule
from records.workload import Workload
from search_spaces.dialect import CUDA
from search_spaces.matmul import matmul
from search_spaces.matmul.mma_sync import MMA_SYNC
from search_spaces.matmul.op import MATMUL

INT4: dict[str, Any] = {"layout": "nt", "b_dtype": "int4"}
INT8: dict[str, Any] = {"layout": "nt", "b_dtype": "int8"}
ACROSS: dict[str, Any] = {"layout": "nn", "b_dtype": "int8"}

# Groups of k that tiles divide, are divided by, or reach across; every layout and width of copies.
WORKLOADS = (
    matmul(m=64, n=64, k=128, dtype="float16", **INT4),
    matmul(m=1, n=1, k=2, dtype="bfloat16", **INT4),
    matmul(m=17, n=19, k=35, dtype="float16", **INT8),
    matmul(m=40, n=72, k=512, dtype="bfloat16", **INT4, group_size=128, zero_point=True),
    matmul(m=33, n=21, k=240, dtype="float16", **INT4, group_size=8, epilogue="bias"),
    matmul(m=35, n=20, k=240, dtype="float16", **INT4 | {"layout": "tt"}, group_size=24),
    matmul(m=23, n=21, k=118, dtype="bfloat16", batch=2, **INT4, zero_point=True),
    matmul(m=40, n=72, k=512, dtype="bfloat16", **INT8, group_size=64, zero_point=True),
    matmul(m=35, n=33, k=192, dtype="float16", **INT8 | {"layout": "tt"}, group_size=48),
    matmul(m=64, n=64, k=192, dtype="float16", **ACROSS, group_size=96),
    matmul(m=39, n=50, k=119, dtype="bfloat16", **ACROSS | {"layout": "tn"}, zero_point=True),
    matmul(m=70, n=136, k=176, dtype="float16", accumulate="float16", **ACROSS, group_size=16),
)


def is_small(chosen: Schedule) -> bool:
    tile: int = chosen["block_m"] * chosen["block_n"]
    return tile <= 8192 and tile <= 8 * chosen["warp_m"] * chosen["warp_n"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_in_emulation(workload: Workload, tmp_path: Path) -> None:
    for chosen in sampled(MMA_SYNC, workload, 1, seed=1, keep=is_small):
        assert_right_in_emulation(MMA_SYNC, workload, chosen, tmp_path)


@pytest.mark.parametrize("given", [INT4, INT4 | {"layout": "tt"}, INT8, ACROSS], ids=str)
def test_a_full_pipeline(given: dict[str, Any], tmp_path: Path) -> None:
    """More tiles than stages, warps in both directions, groups ending within tiles, parts of k."""
    workload = matmul(m=72, n=80, k=672, dtype="bfloat16", **given, group_size=112, zero_point=True)
    chosen = schedule(block_k=64, stages=4, split_k=2, raster=2)
    assert MMA_SYNC.space(workload, GPU).violations(chosen.values) == []
    assert_right_in_emulation(MMA_SYNC, workload, chosen, tmp_path)


def test_the_scale_of_a_neighbouring_group_would_be_seen(tmp_path: Path) -> None:
    workload = matmul(m=32, n=32, k=384, dtype="float16", **INT4, group_size=48)
    source = MMA_SYNC.render(workload, schedule(block_m=32, block_n=32, block_k=64), CUDA)
    right = "(tile_k % GROUP_SIZE_K + k) / GROUP_SIZE_K"
    assert source.text.count(right) == 1
    broken = replace(source, text=source.text.replace(right, "k / GROUP_SIZE_K"))
    inputs = MATMUL.inputs(workload, 0)
    assert error_ratio(workload, inputs, emulate(source, inputs, tmp_path)) <= 1
    assert error_ratio(workload, inputs, emulate(broken, inputs, tmp_path)) > 1


# ---- Compiled for GPUs

TALL: dict[str, Any] = {"block_m": 128, "warp_m": 64, "block_k": 64, "stages": 4}
WIDE: dict[str, Any] = {"block_n": 128, "warp_n": 64, "block_k": 64}
GROUPED: dict[str, Any] = {"group_size": 128, "zero_point": True}


@pytest.mark.parametrize(
    ("arch", "given", "knobs"),
    [
        ("sm_80", {"dtype": "bfloat16", **INT4, "group_size": 128}, TALL),
        ("sm_90a", {"dtype": "bfloat16", **INT4, "group_size": 128}, TALL | {"split_k": 2}),
        ("sm_90a", {"dtype": "float16", **INT4, **GROUPED}, WIDE),
        ("sm_100a", {"dtype": "bfloat16", **INT4, **GROUPED, "layout": "tt"}, WIDE),
        ("sm_90a", {"dtype": "bfloat16", **INT8, **GROUPED}, TALL),
        ("sm_80", {"dtype": "float16", **ACROSS, **GROUPED}, TALL),
        ("sm_100a", {"dtype": "float16", **INT8, "group_size": 32}, TALL | {"fragments": 1}),
    ],
    ids=str,
)
def test_operands_live_in_registers(
    arch: str, given: dict[str, Any], knobs: dict[str, Any]
) -> None:
    workload = matmul(m=128, n=8192, k=8192, **given)
    chosen = schedule(**knobs)
    assert MMA_SYNC.space(workload, GPU).violations(chosen.values) == []
    result = compiled(MMA_SYNC.render(workload, chosen, CUDA), arch)
    assert "warning" not in result.log
    assert result.spilled_bytes["matmul"] == 0 and result.stack_bytes["matmul"] == 0


@pytest.mark.parametrize("workload", WORKLOADS[4:11:3], ids=str)
def test_awkward_sizes_compile_without_a_warning(workload: Workload) -> None:
    (chosen,) = sampled(MMA_SYNC, workload, 1)
    assert "warning" not in compiled(MMA_SYNC.render(workload, chosen, CUDA), "sm_90a").log
