"""The CPU template without a device: conformance, reasons, statistics, kept texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_cases import AVX2, AVX512, LAYOUTS, STEPS, WORKLOADS, schedule
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import cpu

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import OPENCL
from search_spaces.matmul import matmul
from search_spaces.matmul.cpu import CPU
from search_spaces.matmul.cpu_blocks import Problem, busy_share
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"
SQUARE = matmul(m=1024, n=1024, k=1024)
ODD = matmul(m=997, n=1009, k=1013, epilogue="bias,gelu")


class Cpu(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return CPU

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (*WORKLOADS, SQUARE, ODD)


class TestCpuWithAvx512(Cpu):
    @pytest.fixture
    def target(self) -> Target:
        return AVX512


class TestCpuWithAvx2(Cpu):
    @pytest.fixture
    def target(self) -> Target:
        return AVX2


class TestCpuThatTellsLittle(Cpu):
    @pytest.fixture
    def target(self) -> Target:
        limits = {"kind": "cpu", "dtypes": ("float32", "float64")}
        return Target.of("opencl", "Some CPU", "any", limits)


def test_it_is_registered() -> None:
    assert registry.template("matmul", "cpu") is CPU


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (SQUARE, Target.of("opencl", "Some GPU", "any", {"kind": "gpu"}), "made for CPUs"),
        (SQUARE, Target.of("cuda", "Some GPU", "sm_90", {"kind": "gpu"}), "made for CPUs"),
        (matmul(m=8, n=8, k=8, dtype="float64"), cpu(dtypes=("float32",)), "in float64, only in"),
        (matmul(m=8, n=8, k=8, dtype="float16", accumulate="float16"), AVX512, "in float32 only"),
        (matmul(m=8, n=8, k=2**27 + 1), AVX512, "extent of 134217729.*32 bits"),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert CPU.rejects(workload, target) == ""


# Schedules that are known to win on a CPU with AVX-512, 256 KiB of local memory and two cores.
@pytest.mark.parametrize(
    ("workload", "knobs"),
    [
        (SQUARE, {"k_blocks": 2, "unroll": 4, "prefetch_a": True, "prefetch_c": True}),
        (ODD, {"k_blocks": 2, "unroll": 4, "prefetch_a": True, "prefetch_c": True}),
        (matmul(m=512, n=512, k=512), {"tile_m": 12, "tile_vectors": 2, "column_tiles": 4}),
        (matmul(m=2048, n=2048, k=2048), {"k_blocks": 4, "unroll": 4}),
        (matmul(m=1024, n=4096, k=1024), {"k_blocks": 2, "unroll": 4}),
        (
            matmul(m=4, n=4096, k=4096),
            {"tile_m": 4, "column_tiles": 32, "k_blocks": 512, "pack_b": False},
        ),
    ],
    ids=str,
)
def test_good_schedules_are_legal(workload: Workload, knobs: dict[str, Any]) -> None:
    assert CPU.space(workload, AVX512).violations(schedule(**knobs).values) == []


def test_good_schedules_of_avx2_are_legal() -> None:
    for tile in ({"tile_m": 6, "tile_vectors": 2}, {"tile_m": 4, "tile_vectors": 3}):
        chosen = schedule(lanes=8, **tile, column_tiles=4, k_blocks=4, panels_on_stack=True)
        assert CPU.space(SQUARE, AVX2).violations(chosen.values) == []


@pytest.mark.parametrize(
    ("workload", "knobs", "reason"),
    [
        (SQUARE, {"tile_m": 7}, "32 vector registers; the sums of 7 rows of 4 vectors"),
        (SQUARE, {"tile_m": 2}, "2 rows of 4 vectors are fewer than 16 vectors of sums"),
        (matmul(m=64, n=64, k=10), {"k_blocks": 4}, "not legal"),
        (matmul(m=64, n=64, k=256), {"k_blocks": 2}, "not legal"),
        (matmul(m=32, n=64, k=64), {"row_blocks": 5}, "5 blocks of rows would be fewer"),
        (matmul(m=32, n=64, k=64), {"column_tiles": 2}, "2 tiles of 4 vectors are wider than"),
        (SQUARE, {"rows_first": False}, "only one order to take them in"),
        (SQUARE, {"column_tiles": 3, "k_blocks": 2}, "exceed the 262144 bytes of local memory"),
        (SQUARE, {"panels_on_stack": True, "k_blocks": 4}, "up to 262144 bytes belong in local"),
        (SQUARE, {"panels_on_stack": True, "column_tiles": 8}, "more than 524288 bytes fill too"),
        (SQUARE, {"panels_on_stack": True, "pack_b": False}, "nothing to place on the stack"),
        (matmul(m=64, n=64, k=10**4), {"pack_a": True}, "6 packed rows of A exceed the 196608"),
        (matmul(m=64, n=64, k=64, layout="nt"), {"pack_b": False}, "B is stored n x k"),
        (matmul(m=12, n=64, k=64), {}, "too few tiles of 6 to use a packed panel"),
        (matmul(m=96, n=4096, k=4096), {"k_blocks": 128}, "1/128 of k are too shallow"),
        (SQUARE, {"pack_b": False}, "B of 4194304 bytes exceeds the second-level cache"),
        (SQUARE, {"pack_a": True, "column_tiles": 1}, "would serve one tile only"),
        (matmul(m=6, n=512, k=64), {"prefetch_a": True}, "there are no tiles below"),
        (matmul(m=64, n=64, k=64, layout="tn"), {"prefetch_a": True}, "A is stored k x m"),
        (SQUARE, {"column_tiles": 16}, "leave the 2 cores idle for more than 34% of the time"),
        (SQUARE, {"row_blocks": 2}, "2 blocks of rows make more than 8 blocks for 2 cores"),
        (SQUARE, {"tile_m": 8, "tile_vectors": 2, "column_tiles": 1}, "vectors are narrow"),
        (matmul(m=64, n=64, k=2), {"unroll": 4}, "not legal"),
    ],
    ids=str,
)
def test_every_constraint_says_why(workload: Workload, knobs: dict[str, Any], reason: str) -> None:
    space = CPU.space(workload, AVX512)
    broken = schedule(**knobs)
    assert broken not in space
    assert any(reason in violation for violation in space.violations(broken.values))


targets = st.builds(
    lambda vector_bytes, units, shared_kib, l2_kib: cpu(
        vector_bytes=vector_bytes,
        units=units,
        shared_bytes=shared_kib << 10,
        l2_bytes=l2_kib << 10,
    ),
    st.sampled_from([16, 32, 64, 128]),
    st.sampled_from([1, 2, 3, 6, 16, 64, 192]),
    st.sampled_from([32, 256]),
    st.sampled_from([256, 1024, 2048]),
)
extents = st.one_of(st.integers(1, 70), st.integers(1, 5000), st.sampled_from([2**14, 10**5]))
workloads = st.builds(
    lambda m, n, k, batch, layout, dtype: matmul(
        m=m, n=n, k=k, batch=batch, layout=layout, dtype=dtype
    ),
    extents,
    extents,
    extents,
    st.sampled_from([1, 2, 5, 33]),
    st.sampled_from(LAYOUTS),
    st.sampled_from(["float32", "float64", "float16"]),
)


@given(workloads, targets)
@settings(max_examples=60, deadline=None)
def test_no_workload_is_without_schedules_and_no_space_is_huge(
    workload: Workload, target: Target
) -> None:
    space = CPU.space(workload, target)
    assert 0 < space.size < 10**6, space.why_empty()
    for chosen in space.sample(3, np.random.default_rng(0)):
        stats = CPU.stats(workload, chosen, target)
        assert stats.shared_bytes <= target.limit("shared_bytes")
        assert 0 < dict(stats.extra)["busy_share"] <= 1


@pytest.mark.parametrize("m", [1, 16, 17])
def test_every_schedule_of_a_tiny_space_is_another_kernel(m: int) -> None:
    workload = matmul(m=m, n=30, k=3)
    schedules = list(CPU.space(workload, AVX512))
    assert len(schedules) > 1
    kernels = {CPU.render(workload, each, OPENCL) for each in schedules}
    assert len(kernels) == len(schedules)


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """100 x 50 x 600 float16: 2 blocks of 54 rows by 1 of 64 columns, in 2 blocks of 300 steps."""
    workload = matmul(m=100, n=50, k=600, dtype="float16", batch=2, epilogue="bias")
    chosen = schedule(row_blocks=2, tile_vectors=2, k_blocks=2, pack_a=True)
    stats = CPU.stats(workload, chosen, AVX512)
    extra = dict(stats.extra)
    assert (stats.groups, stats.threads, stats.launches) == (2 * 2, 1, 1)
    assert stats.shared_bytes == 64 * 300 * 4
    assert stats.working_set_bytes == 64 * 300 * 4 + 6 * 300 * 4
    assert stats.registers == (6 * 2 + 2 + 1) * 16
    assert stats.flops == 2 * 2 * 100 * 64 * 600
    assert stats.scratch_bytes == 2 * 100 * 50 * 4
    arrays_bytes = 2 * (2 * (100 * 600 + 600 * 50 + 100 * 50) + 50)
    assert stats.dram_bytes == arrays_bytes + 2 * stats.scratch_bytes
    once_bytes = 2 * (100 * 600 + 2 * 600 * 50 + 100 * 50)
    assert stats.l2_bytes == 2 * (once_bytes + 2 * 100 * 50 * 4)
    assert extra["busy_share"] == 1
    assert extra["loads_per_fma"] == 8 / 12
    assert extra["copies_per_fma"] == 1 / 54 + 1 / 50
    assert (extra["tail_rows"], extra["tail_columns"]) == (4 / 100, 18 / 50)
    assert (extra["panel_bytes"], extra["rows_bytes"]) == (32 * 300 * 4, 6 * 300 * 4)


@pytest.mark.parametrize(
    ("k", "knobs", "rows"),
    [(1024, {}, 6), (512, {"tile_m": 12}, 6), (1008, {}, 1), (1024, {"pack_a": True}, 1)],
    ids=str,
)
def test_rows_a_page_apart_compete_for_a_set(k: int, knobs: dict[str, Any], rows: int) -> None:
    workload = matmul(m=1024, n=1024, k=k)
    stats = CPU.stats(workload, schedule(tile_vectors=2, **knobs), AVX512)
    assert dict(stats.extra)["rows_in_a_set"] == rows


@pytest.mark.parametrize(
    ("n", "row_blocks", "block_n", "units", "share"),
    [
        (128, 1, 64, 2, 1.0),
        (128, 1, 128, 2, 0.5),
        (192, 1, 64, 2, 0.75),
        (100, 1, 90, 2, 100 / 180),  # the core with the narrow block waits for the other
        (100, 1, 40, 2, 100 / 120),  # 40 and 40, then 20
        (90, 2, 60, 3, 180 / 180),  # two of 60; meanwhile the third core takes two of 30
    ],
)
def test_share_of_the_time_that_cores_work(
    n: int, row_blocks: int, block_n: int, units: int, share: float
) -> None:
    problem = Problem.of(matmul(m=64, n=n, k=8))
    assert busy_share(problem, row_blocks, block_n, units) == pytest.approx(share)


GOLDEN_CASES = {
    "cpu_float32": (SQUARE, schedule(k_blocks=2, unroll=4, prefetch_a=True, prefetch_c=True)),
    "cpu_float16_partial_sums": (
        matmul(m=96, n=200, k=600, dtype="float16", layout="tt", batch=2, epilogue=STEPS),
        schedule(tile_m=9, tile_vectors=2, column_tiles=3, k_blocks=2, pack_a=True),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    workload, chosen = GOLDEN_CASES[name]
    assert CPU.space(workload, AVX512).violations(chosen.values) == []
    assert_golden(GOLDEN / f"{name}.cl", CPU.render(workload, chosen, OPENCL).text)
