"""The portable template without a device: conformance, reasons, statistics, kept texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from portable_cases import ANY_GPU, GPU, WORKLOADS, schedule

from autotune.testing.template import TemplateConformance
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import DIALECTS
from search_spaces.matmul import matmul
from search_spaces.matmul.portable import PORTABLE
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"
SQUARE = matmul(m=1024, n=1024, k=1024)


class Portable(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return PORTABLE

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (WORKLOADS[1], WORKLOADS[-1], SQUARE)


class TestPortableOnCuda(Portable):
    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return WORKLOADS

    @pytest.fixture
    def target(self) -> Target:
        return GPU


class TestPortableOnOpenCL(Portable):
    @pytest.fixture
    def target(self) -> Target:
        return ANY_GPU


class TestPortableOnACpu(Portable):
    @pytest.fixture
    def target(self) -> Target:
        limits = {
            "kind": "cpu",
            "units": 8,
            "max_group": 8192,
            "shared_bytes": 256 << 10,
            "warp": 1,
            "dtypes": ("float32", "float64", "float16"),
        }
        return Target.of("opencl", "Some CPU", "x86-64-avx2", limits)


def test_it_is_registered() -> None:
    assert registry.template("matmul", "portable") is PORTABLE


def narrow(**limits: Any) -> Target:
    return Target.of(GPU.backend, GPU.device, GPU.arch, {**dict(GPU.limits), **limits})


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (matmul(m=8, n=8, k=8, dtype="float64"), narrow(dtypes=("float32",)), "in float64"),
        (
            matmul(m=8, n=8, k=8, dtype="float16", accumulate="float16"),
            narrow(dtypes=("float32",)),
            "in float16, only in float32",
        ),
        (matmul(m=2**16, n=2**16, k=8), GPU, r"4294967296 elements.*32-bit"),
        (matmul(m=1, n=1, k=1, batch=2**16), GPU, "batch of 65536 exceeds"),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert PORTABLE.rejects(workload, target) == ""


def test_float16_in_memory_needs_no_float16_arithmetic() -> None:
    assert (
        PORTABLE.rejects(matmul(m=8, n=8, k=8, dtype="float16"), narrow(dtypes=("float32",))) == ""
    )


@pytest.mark.parametrize(
    ("workload", "target", "knobs", "reason"),
    [
        (SQUARE, GPU, {"block_m": 256, "block_n": 256, "thread_m": 2}, "at most 1024 work-items"),
        (SQUARE, GPU, {"thread_m": 16, "thread_n": 8}, "work-items run 32 in lockstep"),
        (SQUARE, GPU, {"block_n": 256, "block_k": 64, "stages": 2}, "49152 bytes of local memory"),
        (SQUARE, GPU, {"pad": 2, "vector_tile": 4, "thread_m": 4}, "misalign local reads of 4"),
        (matmul(m=64, n=64, k=64, layout="tn"), GPU, {"pad": 1}, "no tile is transposed"),
        (SQUARE, GPU, {"thread_m": 16, "thread_n": 16}, "at most 255 registers"),
        (SQUARE, narrow(registers=4096), {}, "a unit has 4096 registers"),
        (SQUARE, GPU, {"thread_m": 16, "thread_n": 8, "unroll": 8}, "loop body of 8 times 16x8"),
        (
            matmul(m=64, n=64, k=64, dtype="float64"),
            GPU,
            {"vector_a": 4},
            "one memory access moves at most 16 bytes; 4 elements of 8 bytes",
        ),
        (matmul(m=64, n=64, k=66), GPU, {"vector_a": 4}, "rows of A in memory are 66 elements"),
        (matmul(m=64, n=66, k=64), GPU, {"vector_b": 4}, "rows of B in memory are 66 elements"),
        (SQUARE, GPU, {"block_n": 256, "thread_m": 1, "vector_a": 4}, "equally many whole vectors"),
        (SQUARE, GPU, {"vector_tile": 4}, "it owns only 2"),
        (matmul(m=64, n=64, k=80), GPU, {"split_k": 4}, "leave a part without work"),
        (matmul(m=64, n=64, k=16), GPU, {"stages": 2}, "no next one for stages to overlap"),
        (matmul(m=64, n=64, k=16), GPU, {"prefetch": True}, "no next one for prefetch"),
        (SQUARE, narrow(max_buffer_bytes=2**22), {"split_k": 2}, "exceed 4194304 bytes"),
        (matmul(m=64, n=64, k=64), GPU, {"raster": 4}, "fewer than 4 tiles of 32"),
    ],
)
def test_every_constraint_says_why(
    workload: Workload, target: Target, knobs: dict[str, Any], reason: str
) -> None:
    space = PORTABLE.space(workload, target)
    broken = schedule(**knobs)
    assert broken not in space
    assert any(reason in violation for violation in space.violations(broken.values))


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """100 x 50 x 40 in tiles of 32 x 32 x 16: 4 x 2 tiles of C, 3 along k in 2 parts."""
    workload = matmul(m=100, n=50, k=40, dtype="float64", epilogue="bias")
    chosen = schedule(split_k=2, pad=1, vector_a=2, prefetch=True)
    assert chosen in PORTABLE.space(workload, GPU)
    stats = PORTABLE.stats(workload, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (4 * 2 * 2, 16 * 8, 2)
    assert stats.shared_bytes == 16 * ((32 + 1) + 32) * 8
    assert stats.scratch_bytes == 2 * 100 * 50 * 8
    assert stats.flops == 2 * (4 * 32) * (2 * 32) * (3 * 16) + 2 * 100 * 50
    arrays_bytes = 8 * (100 * 40 + 40 * 50 + 50 + 100 * 50)
    assert stats.dram_bytes == arrays_bytes + 2 * stats.scratch_bytes
    assert stats.l2_bytes == 8 * (8 * 3 * 64 * 16 + 5000) + 2 * stats.scratch_bytes
    # 8 sums, 6 operands, 4 + 4 pieces of two words each, 2 + 4 addresses of two, and 28 others
    assert stats.registers == 2 * 8 + 2 * 6 + 2 * 8 + 2 * 6 + 28
    assert dict(stats.extra)["steps_per_part"] == 2


def test_rasterisation_saves_traffic_where_the_cache_is_small() -> None:
    small = narrow(cache_bytes=1 << 20, units=8)
    one, eight = (PORTABLE.stats(SQUARE, schedule(raster=rows), small) for rows in (1, 8))
    assert eight.dram_bytes < one.dram_bytes


def test_padding_removes_bank_conflicts() -> None:
    bare, padded = (PORTABLE.stats(SQUARE, schedule(pad=pad), GPU) for pad in (0, 1))
    assert dict(bare.extra)["conflicts"] == 16  # 16 steps of k, each at a multiple of 32 words
    assert dict(padded.extra)["conflicts"] < 4


GOLDEN_CASES = {
    "portable_float32": (matmul(m=100, n=60, k=40), schedule(prefetch=True, stages=2)),
    "portable_float16_split_k": (
        matmul(m=64, n=64, k=64, batch=2, dtype="float16", layout="tt", epilogue="alpha,bias,gelu"),
        schedule(vector_a=4, vector_b=2, split_k=2),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
@pytest.mark.parametrize(("dialect", "suffix"), [("opencl", "cl"), ("cuda", "cu")])
def test_kept_texts(
    assert_golden: Callable[[Path, str], None], name: str, dialect: str, suffix: str
) -> None:
    workload, chosen = GOLDEN_CASES[name]
    source = PORTABLE.render(workload, chosen, DIALECTS[dialect])
    assert_golden(GOLDEN / f"{name}.{suffix}", source.text)


def test_golden_schedules_are_legal() -> None:
    for workload, chosen in GOLDEN_CASES.values():
        assert isinstance(chosen, Schedule)
        assert PORTABLE.space(workload, GPU).violations(chosen.values) == []
