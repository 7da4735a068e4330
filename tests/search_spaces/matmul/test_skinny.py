"""The skinny template without a device: conformance, reasons, statistics, kept texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from targets import gpu
from tensor_core_cases import GPU
from tensor_core_cases import skinny_schedule as schedule

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import CUDA
from search_spaces.matmul import matmul
from search_spaces.matmul.skinny import SKINNY
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"
DECODE = matmul(m=1, n=4096, k=4096, dtype="float16", layout="nt")
WORKLOADS = (
    DECODE,
    matmul(m=16, n=4096, k=4096, dtype="bfloat16", layout="nn"),
    matmul(m=3, n=70, k=99, layout="tn", epilogue="bias,silu", batch=2),
    matmul(m=8, n=100, k=333, dtype="int8", layout="nt"),
    matmul(m=2, n=1, k=1, dtype="float8_e5m2"),
    matmul(
        m=1,
        n=4096,
        k=4096,
        dtype="bfloat16",
        layout="nt",
        b_dtype="int4",
        group_size=128,
        zero_point=True,
    ),
    matmul(n=2048, k=1024, groups=(1, 0, 12, 16), dtype="bfloat16", layout="nt", epilogue="silu"),
)


class TestSkinny(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return SKINNY

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return WORKLOADS

    @pytest.fixture
    def target(self) -> Target:
        return GPU


def test_it_is_registered() -> None:
    assert registry.template("matmul", "skinny") is SKINNY


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (matmul(m=17, n=8, k=8), GPU, "at most 16, not 17"),
        (DECODE, gpu("sm_75"), "not CUDA from sm_80 on"),
        (WORKLOADS[4], gpu("sm_80"), "not CUDA from sm_89 on, which it needs for float8_e5m2"),
        (DECODE, Target.of("opencl", "Some GPU", "any", {}), "not CUDA"),
        (matmul(m=8, n=8, k=8, dtype="float64"), GPU, "not float64$"),
        (matmul(n=8, k=8, groups=(3, 20)), GPU, "at most 16, not 20"),
        (matmul(m=16, n=64, k=64, dtype="int8"), GPU, "16 rows by the 16 columns.*registers"),
        (matmul(m=1, n=1, k=1, batch=2**16), GPU, "batch of 65536 exceeds"),
        (
            matmul(m=1, n=8, k=24, dtype="float16", layout="nt", b_dtype="int4", group_size=12),
            GPU,
            "group of 12 is no multiple",
        ),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert SKINNY.rejects(workload, target) == ""


def test_every_number_of_rows_is_served_in_16_bits() -> None:
    for rows in range(1, 17):
        for layout in ("nn", "nt", "tn", "tt"):
            workload = matmul(m=rows, n=512, k=512, dtype="bfloat16", layout=layout)
            assert SKINNY.rejects(workload, GPU) == ""
            assert SKINNY.space(workload, GPU).size > 100


@pytest.mark.parametrize(
    ("workload", "target", "knobs", "reason"),
    [
        (DECODE, GPU, {"warps_n": 8, "warps_k": 8}, "at most 32 warps in a block; 8x8"),
        (DECODE, GPU, {"groups": 8, "unroll": 8, "warps_k": 16}, "bytes of shared memory"),
        (WORKLOADS[1], GPU, {"groups": 4}, "at most 255 registers"),
        (DECODE, gpu(registers=4096), {}, "a unit has 4096 registers"),
        (WORKLOADS[1], GPU, {"groups": 1, "unroll": 8}, "more than 4096 multiply-adds"),
        (matmul(m=1, n=4, k=4096), GPU, {"warps_n": 4}, "lie beyond column 4"),
        (matmul(m=1, n=64, k=128, layout="nt"), GPU, {}, "half or more lie beyond k of 128"),
        (matmul(m=1, n=64, k=1280, layout="nt"), GPU, {"split_k": 4}, "without work"),
        (matmul(m=1, n=64, k=256, layout="nt"), GPU, {"stages": 3}, "than 3 stages keep under way"),
        (DECODE, gpu(max_buffer_bytes=2**14), {"split_k": 2}, "exceed 16384 bytes"),
    ],
)
def test_every_constraint_says_why(
    workload: Workload, target: Target, knobs: dict[str, Any], reason: str
) -> None:
    broken = schedule(**knobs)
    violations = SKINNY.space(workload, target).violations(broken.values)
    assert any(reason in violation for violation in violations), violations


def test_tensor_cores_are_offered_where_they_multiply_the_dtype() -> None:
    def choices(dtype: str) -> tuple[object, ...]:
        space = SKINNY.space(matmul(m=4, n=512, k=512, dtype=dtype), GPU)
        return next(knob.values for knob in space.knobs if knob.name == "use_mma")

    assert choices("bfloat16") == (False, True)
    assert choices("float32") == (False,)


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """Blocks of 2 x 2 columns; 1024 columns; k in 4 rounds of 2 x 256 steps, 2 in each part."""
    workload = matmul(m=3, n=1024, k=2000, dtype="float16", layout="nt")
    chosen = schedule(split_k=2, stages=3)
    assert chosen in SKINNY.space(workload, GPU)
    stats = SKINNY.stats(workload, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (256 * 2, 4 * 32, 2)
    assert stats.shared_bytes == 3 * 128 * 2 * 16  # more than the sums of 2 parts, 3 x 4 floats
    assert stats.scratch_bytes == 2 * 3 * 1024 * 4
    assert stats.flops == 2 * 3 * 1024 * 2048 + 2 * 3 * 1024
    arrays_bytes = 2 * (3 * 2000 + 2000 * 1024 + 3 * 1024)
    assert stats.dram_bytes == arrays_bytes + 2 * stats.scratch_bytes
    assert stats.l2_bytes == stats.dram_bytes + 512 * 2 * 3 * 2000
    extra = dict(stats.extra)
    assert extra["warp_flight_bytes"] == 2 * 32 * 2 * 16
    assert extra["rounds"] == 2
    assert extra["a_share"] == 3 / 2
    # 2 sums x 3 rows, 2 vectors of B and 3 of A, 2 addresses, 4 + 8 elements, and 44 others
    assert stats.registers == 6 + 2 * 6 + 3 * 4 + 12 + 44


def test_statistics_of_groups_of_rows() -> None:
    """3 groups that have rows, of 2048 columns in blocks of 2 x 2 x 16, each padded to 16 rows."""
    stats = SKINNY.stats(WORKLOADS[6], schedule(use_mma=True, split_k=2), GPU)
    assert stats.groups == 3 * 32 * 2
    assert stats.flops == 3 * 2 * 16 * 2048 * 1024 + 2 * 29 * 2048
    assert stats.scratch_bytes == 2 * 29 * 2048 * 4
    arrays_bytes = 2 * (29 * 1024 + 3 * 1024 * 2048 + 29 * 2048)
    assert stats.dram_bytes == arrays_bytes + 2 * stats.scratch_bytes
    assert stats.l2_bytes == stats.dram_bytes + 32 * 2 * 29 * 1024 * 2
    source = SKINNY.render(WORKLOADS[6], schedule(use_mma=True), CUDA)
    assert source.launches[0].groups == (32, 1, 3)


GOLDEN_CASES = {
    "skinny_groups": (WORKLOADS[6], schedule(use_mma=True, stages=4)),
    "skinny_float16": (DECODE, schedule(stages=4)),
    "skinny_int4": (
        matmul(m=4, n=512, k=4096, dtype="float16", layout="nt", b_dtype="int4", group_size=128),
        schedule(use_mma=True, stages=4),
    ),
    "skinny_bfloat16_mma_split_k": (
        matmul(m=16, n=512, k=1024, dtype="bfloat16", layout="nn", epilogue="bias"),
        schedule(use_mma=True, groups=1, split_k=2),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    workload, chosen = GOLDEN_CASES[name]
    assert SKINNY.space(workload, GPU).violations(chosen.values) == []
    assert_golden(GOLDEN / f"{name}.cu", SKINNY.render(workload, chosen, CUDA).text)
