"""The mma_sync template without a device: conformance, reasons, statistics, kept texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from targets import gpu
from tensor_core_cases import GPU
from tensor_core_cases import mma_sync_schedule as schedule

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import CUDA
from search_spaces.matmul import matmul
from search_spaces.matmul.mma_sync import MMA_SYNC
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"
SQUARE = matmul(m=1024, n=1024, k=1024, dtype="float16")
WORKLOADS = (
    SQUARE,
    matmul(m=17, n=33, k=19, dtype="bfloat16", layout="tn", epilogue="alpha,bias,gelu"),
    matmul(m=300, n=200, k=100, dtype="tf32", layout="nt", batch=3),
    matmul(m=64, n=50, k=70, dtype="int8", layout="tt"),
    matmul(m=64, n=64, k=4096, dtype="float8_e4m3", layout="nt", scale="tensor"),
    matmul(m=128, n=4096, k=4096, dtype="bfloat16", layout="nt", b_dtype="int4", group_size=128),
    matmul(m=37, n=41, k=168, dtype="float16", b_dtype="int8", group_size=24, zero_point=True),
    matmul(n=256, k=512, groups=(1, 0, 300, 64), dtype="bfloat16", layout="nt", epilogue="bias"),
)


class TestMmaSync(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return MMA_SYNC

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return WORKLOADS

    @pytest.fixture
    def target(self) -> Target:
        return GPU


def test_it_is_registered() -> None:
    assert registry.template("matmul", "mma_sync") is MMA_SYNC


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (SQUARE, gpu("sm_75"), "not CUDA from sm_80 on"),
        (SQUARE, Target.of("opencl", "Some GPU", "any", {}), "not CUDA from sm_80 on"),
        (WORKLOADS[4], gpu("sm_86"), "not CUDA from sm_89 on, whose tensor cores multiply float8"),
        (matmul(m=8, n=8, k=8), GPU, "not float32; tf32 multiplies float32 rounded"),
        (matmul(m=8, n=8, k=8, dtype="float64"), GPU, "not float64$"),
        (
            matmul(m=8, n=8, k=24, dtype="float16", b_dtype="int8", group_size=12),
            GPU,
            "group of 12 is no multiple of that; choose",
        ),
        (matmul(m=1, n=1, k=1, batch=2**16, dtype="float16"), GPU, "batch of 65536 exceeds"),
        (matmul(m=2**31 - 1, n=1, k=1, dtype="float16"), GPU, "exceeds 32-bit coordinates"),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert MMA_SYNC.rejects(workload, target) == ""


@pytest.mark.parametrize(
    ("workload", "target", "knobs", "reason"),
    [
        (SQUARE, GPU, {"block_m": 16}, "a block of 16 is cut into whole warps, not of 32"),
        (SQUARE, GPU, {"block_m": 256, "block_n": 256, "warp_m": 16, "warp_n": 16}, "32 warps"),
        (
            matmul(m=2**20, n=2**19, k=1, dtype="int8"),
            GPU,
            {"block_m": 16, "block_n": 16, "warp_m": 16, "warp_n": 16},
            "a grid has at most",
        ),
        (matmul(m=64, n=64, k=64, dtype="float16"), GPU, {"raster": 2}, "fewer than 2 tiles of 64"),
        (
            SQUARE,
            GPU,
            {"block_n": 256, "block_k": 128, "stages": 8},
            "bytes of shared memory for 1 block(s); 8",
        ),
        (SQUARE, gpu(shared_bytes=8 << 10), {"block_k": 16}, "16 rows of C of each warp"),
        (SQUARE, GPU, {"block_m": 128, "warp_m": 128, "warp_n": 64}, "at most 255 registers"),
        (SQUARE, gpu(registers=8192), {}, "a unit has 8192 registers"),
        (
            matmul(m=256, n=256, k=4096, dtype="float16", accumulate="float16"),
            GPU,
            {"block_m": 128, "block_n": 128, "warp_m": 128, "warp_n": 128, "block_k": 128},
            "more than 512 products",
        ),
        (WORKLOADS[5], GPU, {"warp_m": 64, "warp_n": 64, "block_k": 256}, "more than 256 products"),
        (
            SQUARE,
            GPU,
            {"block_k": 16},
            "for 16 steps of k, all of a tile of 16: there is no second",
        ),
        (WORKLOADS[5], GPU, {}, "for 32 steps of k, all of a tile of 32: there is no second"),
        (matmul(m=64, n=64, k=32, dtype="float16"), GPU, {}, "than 3 stages keep under way"),
        (matmul(m=64, n=64, k=160, dtype="float16"), GPU, {"split_k": 4}, "without work"),
        (SQUARE, gpu(max_buffer_bytes=2**22), {"split_k": 2}, "exceed 4194304 bytes"),
    ],
)
def test_every_constraint_says_why(
    workload: Workload, target: Target, knobs: dict[str, Any], reason: str
) -> None:
    broken = schedule(**knobs)
    violations = MMA_SYNC.space(workload, target).violations(broken.values)
    assert any(reason in violation for violation in violations), violations


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """100 x 50 x 200 in tiles of 64 x 64 x 32: 2 x 1 tiles of C, 7 along k in 2 parts."""
    workload = matmul(m=100, n=50, k=200, dtype="float16", epilogue="bias")
    chosen = schedule(split_k=2)
    assert chosen in MMA_SYNC.space(workload, GPU)
    stats = MMA_SYNC.stats(workload, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (2 * 2, 4 * 32, 2)
    assert stats.shared_bytes == 3 * (64 + 64) * 32 * 2  # more than 4 slabs of 16 x 40 floats
    assert stats.scratch_bytes == 2 * 100 * 50 * 4
    assert stats.flops == 2 * 2 * 7 * 64 * 64 * 32 + 2 * 100 * 50
    arrays_bytes = 2 * (100 * 200 + 200 * 50 + 50 + 100 * 50)
    assert stats.dram_bytes == arrays_bytes + 2 * stats.scratch_bytes
    assert stats.l2_bytes == 2 * (2 * 7 * 128 * 32 + 5000) + 2 * stats.scratch_bytes
    # 2 x 4 fragments of 4 sums, two sets of 2 x 4 and 2 x 4 registers, and 44 others
    assert stats.registers == 32 + 2 * 16 + 44
    assert stats.vector_lanes == 2  # rows of B are 100 bytes
    extra = dict(stats.extra)
    assert extra["steps_per_part"] == 4
    # 108 registers of 128 threads: 4 blocks to a unit, each with two tiles under way
    assert extra["resident_warps"] == 4 * 4
    assert extra["flight_bytes"] == 4 * 2 * 8192


def test_statistics_of_a_quantised_b_worked_out_by_hand() -> None:
    """128 x 4096 x 4096 in tiles of 64 x 64 x 64: 2 x 64 tiles of C, 64 along k."""
    chosen = schedule(block_k=64)
    assert chosen in MMA_SYNC.space(WORKLOADS[5], GPU)
    stats = MMA_SYNC.stats(WORKLOADS[5], chosen, GPU)
    tile_bytes = 64 * 64 * 2 + 64 * 64 // 2 + 64 * 2  # of A, of B, and a scale for each column
    assert stats.shared_bytes == 3 * tile_bytes
    assert stats.l2_bytes == 2 * 64 * 64 * tile_bytes + 128 * 4096 * 2
    arrays_bytes = 2 * 128 * 4096 * 2 + 4096 * 4096 // 2 + 4096 * 32 * 2
    assert stats.dram_bytes == arrays_bytes
    # 2 x 4 fragments of 4 sums; two sets of 2 x 8 of A, a word and a scale of 4 of B, and 8; 44
    assert stats.registers == 32 + 2 * (16 + 4 * 2 + 8) + 44
    assert stats.vector_lanes == 8  # of A; 32 of B


@pytest.mark.parametrize(
    ("group_size", "block_k", "groups"),
    [(168, 64, 1), (168, 256, 1), (8, 32, 4), (24, 32, 3), (56, 64, 3), (24, 128, 7)],
)
def test_scales_of_every_group_that_a_tile_may_reach(
    group_size: int, block_k: int, groups: int
) -> None:
    workload = matmul(m=64, n=64, k=168, dtype="float16", b_dtype="int8", group_size=group_size)
    chosen = schedule(block_k=block_k, stages=2, fragments=1)
    tile_bytes = 64 * block_k * 3
    scales_bytes = groups * 64 * 2  # 128 of each group
    assert MMA_SYNC.stats(workload, chosen, GPU).shared_bytes == 2 * (tile_bytes + scales_bytes)
    for start in range(0, 168, block_k):
        reached = {k // group_size for k in range(start, min(start + block_k, 168))}
        assert len(reached) <= groups


def test_tensor_cores_adding_in_float16_need_half_the_registers_for_sums() -> None:
    single, half = (
        MMA_SYNC.stats(
            matmul(m=256, n=256, k=256, dtype="float16", accumulate=dtype), schedule(), GPU
        ).registers
        for dtype in ("float32", "float16")
    )
    assert single - half == 16


GOLDEN_CASES = {
    "mma_sync_float16": (SQUARE, schedule(block_m=128, block_n=128, warp_m=64, raster=8)),
    "mma_sync_int8_split_k": (
        matmul(m=64, n=50, k=128, dtype="int8", layout="nt", scale="tensor", out_dtype="bfloat16"),
        schedule(split_k=2, stages=2, fragments=1, staged_store=False),
    ),
    "mma_sync_groups": (WORKLOADS[7], schedule(raster=2)),
    "mma_sync_int4": (WORKLOADS[5], schedule(block_m=128, block_k=64, warp_m=64, stages=4)),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    workload, chosen = GOLDEN_CASES[name]
    assert MMA_SYNC.space(workload, GPU).violations(chosen.values) == []
    assert_golden(GOLDEN / f"{name}.cu", MMA_SYNC.render(workload, chosen, CUDA).text)
