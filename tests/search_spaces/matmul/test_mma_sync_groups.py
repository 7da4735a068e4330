"""The mma_sync template on groups of rows: right in emulation, compiled for GPUs, its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cuda_emulation import emulate
from kernel_checks import error_ratio
from nvrtc import compiled
from targets import gpu
from tensor_core_cases import GPU, assert_right_in_emulation, sampled
from tensor_core_cases import mma_sync_schedule as schedule

from records.schedule import Schedule
from records.workload import Workload
from search_spaces.dialect import CUDA
from search_spaces.matmul import matmul
from search_spaces.matmul.mma_sync import MMA_SYNC
from search_spaces.matmul.op import MATMUL

INT4: dict[str, Any] = {"layout": "nt", "b_dtype": "int4", "group_size": 64, "zero_point": True}
SCALED: dict[str, Any] = {"scale": "row_column", "out_dtype": "bfloat16"}

# Empty groups at either end and within, groups of one row, that fill tiles, and one alone; A across
# k where groups begin at multiples of a copy, and where they do not.
WORKLOADS = (
    matmul(n=72, k=96, groups=(3, 0, 70, 16), dtype="float16", layout="nt", epilogue="bias"),
    matmul(n=72, k=96, groups=(3, 70, 16), dtype="float16", layout="tn", epilogue="row_scale"),
    matmul(n=72, k=96, groups=(8, 16, 0, 64, 40), dtype="bfloat16", layout="tt"),
    matmul(n=40, k=100, groups=(0, 33, 1, 0), dtype="tf32", epilogue="residual"),
    matmul(n=40, k=128, groups=(20, 33, 1, 17, 0), dtype="int8", layout="nt", **SCALED),
    matmul(n=40, k=128, groups=(64,), dtype="float8_e4m3", layout="tt", **SCALED),
    matmul(n=72, k=256, groups=(5, 64, 0, 70), dtype="bfloat16", **INT4),
    matmul(n=72, k=256, groups=(5, 64, 70), dtype="float16", layout="tn", b_dtype="int8"),
)


def is_small(chosen: Schedule) -> bool:
    tile: int = chosen["block_m"] * chosen["block_n"]
    return tile <= 8192 and tile <= 8 * chosen["warp_m"] * chosen["warp_n"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_in_emulation(workload: Workload, tmp_path: Path) -> None:
    for chosen in sampled(MMA_SYNC, workload, 1, seed=1, keep=is_small):
        assert_right_in_emulation(MMA_SYNC, workload, chosen, tmp_path)


@pytest.mark.parametrize("split_k", [1, 2])
def test_scales_of_a_column_are_those_of_the_group(split_k: int, tmp_path: Path) -> None:
    """In the product's own kernel, and in the one that adds parts of k."""
    chosen = schedule(block_m=32, block_k=64, stages=2, split_k=split_k)
    assert MMA_SYNC.space(WORKLOADS[4], GPU).violations(chosen.values) == []
    assert_right_in_emulation(MMA_SYNC, WORKLOADS[4], chosen, tmp_path)


def test_a_row_of_the_next_group_would_be_seen(tmp_path: Path) -> None:
    source = MMA_SYNC.render(WORKLOADS[0], schedule(block_m=32, stages=2), CUDA)
    right = "row_end = group.end_row"
    assert source.text.count(right) == 1
    broken = replace(source, text=source.text.replace(right, "row_end = M"))
    inputs = MATMUL.inputs(WORKLOADS[0], 0)
    ratios = [
        error_ratio(WORKLOADS[0], inputs, emulate(broken, inputs, tmp_path, reversed=order))
        for order in (False, True)
    ]
    assert max(ratios) > 1


def test_tiles_are_laid_over_groups_one_by_one() -> None:
    """5, 64, 0 and 70 rows in tiles of 64: 1 + 1 + 0 + 2; 72 columns: 2."""
    chosen = schedule(block_k=64, stages=3)
    source = MMA_SYNC.render(WORKLOADS[6], chosen, CUDA)
    assert source.launches[0].groups == (4 * 2, 1, 1)
    assert "#define ROW_GROUP_ENDS {5, 69, 69, 139}" in source.text
    assert "#define ROW_GROUP_TILES {1, 2, 2, 4}" in source.text
    stats = MMA_SYNC.stats(WORKLOADS[6], chosen, GPU)
    assert stats.groups == 8
    assert stats.flops == 2 * 8 * 64 * 64 * 256
    b_bytes = 3 * (72 * 256 // 2 + 2 * 72 * 4 * 2)  # a group has no rows, and its B is not read
    assert stats.dram_bytes == 139 * (256 + 72) * 2 + b_bytes


def test_bands_of_each_group_read_its_weights_again() -> None:
    """Where they do not stay in cache: 40 tiles of rows in bands of 3, as far as units reach."""
    given: dict[str, Any] = {"n": 4096, "k": 4096, "dtype": "bfloat16"}
    workload = matmul(groups=(64 * 40, 0, 64), **given)
    target = gpu(cache_bytes=1 << 20)
    stats = MMA_SYNC.stats(workload, schedule(raster=1), target)
    again = stats.dram_bytes - MATMUL.bytes(workload)
    assert again == 13 * 4096 * 4096 * 2


def test_copies_of_a_across_k_are_as_wide_as_every_group_begins_at() -> None:
    def copies(*groups: int) -> str:
        workload = matmul(n=64, k=64, groups=groups, dtype="float16", layout="tn")
        text = MMA_SYNC.render(workload, schedule(), CUDA).text
        return text[text.index("#define A_COPY") :].splitlines()[0]

    assert copies(8, 16, 8) == "#define A_COPY 16"
    assert copies(4, 20, 8) == "#define A_COPY 8"
    assert copies(3, 29) == "#define A_COPY 0"


# ---- Compiled for GPUs


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
@pytest.mark.parametrize("given", [{"dtype": "bfloat16"}, {"dtype": "bfloat16", **INT4}], ids=str)
def test_tiles_live_in_registers(arch: str, given: dict[str, Any]) -> None:
    workload = matmul(n=4096, k=2048, groups=(17, 128, 0, 300) * 16, **given)
    chosen = schedule(block_m=128, warp_m=64, block_k=64, stages=4)
    assert MMA_SYNC.space(workload, GPU).violations(chosen.values) == []
    result = compiled(MMA_SYNC.render(workload, chosen, CUDA), arch)
    assert "warning" not in result.log
    assert result.spilled_bytes["matmul"] == 0 and result.stack_bytes["matmul"] == 0


@pytest.mark.parametrize("split_k", [1, 2])
def test_scaled_groups_compile_without_a_warning(split_k: int) -> None:
    chosen = schedule(block_m=32, block_k=64, stages=2, split_k=split_k)
    source = MMA_SYNC.render(WORKLOADS[4], chosen, CUDA)
    assert "warning" not in compiled(source, "sm_90a").log
