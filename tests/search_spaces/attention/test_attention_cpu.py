"""The attention templates for CPUs without a device: conformance, reasons, statistics, texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attention_cpu_cases import (
    AVX2,
    AVX512,
    DECODING,
    EVERY,
    FEW,
    LONG,
    ODD,
    SSE,
    decode_schedule,
    schedule,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import cpu

from autotune.testing.template import TemplateConformance
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.attention import attention
from search_spaces.attention.cpu import CPU_ATTENTION
from search_spaces.attention.cpu_blocks import Blocks
from search_spaces.attention.cpu_decode import CPU_DECODE_ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.dialect import OPENCL
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"
PLAIN = attention(heads=8, q_len=1024, head_dim=64)


class Cpu(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return CPU_ATTENTION

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        served = [each for each in EVERY.values() if not CPU_ATTENTION.rejects(each, AVX512)]
        return (*served, LONG)


class TestCpuWithAvx512(Cpu):
    @pytest.fixture
    def target(self) -> Target:
        return AVX512


class TestCpuWithAvx2(Cpu):
    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (*ODD, LONG)

    @pytest.fixture
    def target(self) -> Target:
        return AVX2


class TestCpuThatTellsLittle(Cpu):
    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (ODD[0], LONG)

    @pytest.fixture
    def target(self) -> Target:
        return Target.of("opencl", "Some CPU", "any", {"kind": "cpu", "dtypes": ("float32",)})


class CpuDecode(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return CPU_DECODE_ATTENTION

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (*FEW, DECODING)


class TestCpuDecodeWithAvx512(CpuDecode):
    @pytest.fixture
    def target(self) -> Target:
        return AVX512


class TestCpuDecodeWithSse(CpuDecode):
    @pytest.fixture
    def target(self) -> Target:
        return SSE


def test_they_are_registered() -> None:
    assert registry.template("attention", "cpu") is CPU_ATTENTION
    assert registry.template("attention", "cpu_decode") is CPU_DECODE_ATTENTION


@pytest.mark.parametrize(
    ("template", "workload", "target", "reason"),
    [
        (CPU_ATTENTION, LONG, Target.of("opencl", "A GPU", "any", {"kind": "gpu"}), "for CPUs"),
        (CPU_ATTENTION, LONG, cpu(dtypes=("float64",)), "in float32, only in float64"),
        (
            CPU_ATTENTION,
            attention(heads=2**15, kv_heads=1, q_len=2**14, kv_len=1, head_dim=1),
            AVX512,
            "more rows than it counts in 32 bits; cut them",
        ),
        (CPU_ATTENTION, DECODING, AVX512, "4 rows would use 4 of 16 lanes: made for these is cpu_"),
        (CPU_DECODE_ATTENTION, LONG, AVX512, "up to 32 rows that share a head of K and V, not 102"),
        (CPU_DECODE_ATTENTION, EVERY["pages"], AVX512, "rows of at least a vector, 16 elements"),
        (CPU_DECODE_ATTENTION, DECODING, cpu(kind="gpu"), "made for CPUs"),
    ],
)
def test_what_they_cannot_do_is_rejected_in_words(
    template: Template, workload: Workload, target: Target, reason: str
) -> None:
    assert reason in template.rejects(workload, target)


# Schedules that are known to win on a CPU with AVX-512 and two cores.
@pytest.mark.parametrize(
    ("workload", "knobs"),
    [
        (PLAIN, {}),
        (LONG, {"tile_vectors": 1, "tile_keys": 16, "tile_dims": 16}),
        (attention(heads=8, q_len=2048, head_dim=128), {"tile_vectors": 3}),
        (
            attention(heads=8, q_len=1024, head_dim=64, dtype="bfloat16"),
            {"panels": 8, "copy_k": True, "copy_v": True},
        ),
        (  # few blocks
            attention(heads=16, kv_heads=1, q_len=4, kv_len=8192, head_dim=128),
            {"splits": 4},
        ),
    ],
    ids=str,
)
def test_good_schedules_are_legal(workload: Workload, knobs: dict[str, Any]) -> None:
    assert CPU_ATTENTION.space(workload, AVX512).violations(schedule(**knobs).values) == []


def test_good_schedules_of_few_rows_are_legal() -> None:
    space = CPU_DECODE_ATTENTION.space(DECODING, AVX512)
    for knobs in ({}, {"tile_keys": 4, "block_keys": 32}, {"tile_rows": 2, "tile_vectors": 8}):
        assert space.violations(decode_schedule(**knobs).values) == []


@pytest.mark.parametrize(
    ("workload", "knobs", "reason"),
    [
        (PLAIN, {"tile_keys": 16}, "32 vector registers; 16 keys by 2 vectors"),
        (PLAIN, {"tile_dims": 16}, "32 vector registers; 16 elements of V by 2 vectors"),
        (PLAIN, {"tile_vectors": 1, "tile_keys": 6}, "6 keys by 1 vectors of sums wait for each"),
        (PLAIN, {"tile_vectors": 1, "tile_dims": 6}, "6 elements of V by 1 vectors of sums wait"),
        (ODD[0], {"panels": 3, "copy_v": True}, "3 panels of 2 vectors are more than the 37 rows"),
        (PLAIN, {"panels": 2}, "share copies only, and there are none"),
        (PLAIN, {"copy_k": True}, "1 panels of 2 vectors, fewer than 64 rows: they cost more"),
        (PLAIN, {"block_keys": 512}, "weights of 512 keys exceed the first-level cache of 32768"),
        (
            attention(heads=8, q_len=1024, head_dim=512),
            {"panels": 8, "copy_v": True},
            "of 8 panels and 96 keys exceed the 786432 bytes that the stack",
        ),
        (attention(heads=1, q_len=64, head_dim=64), {"tile_vectors": 4}, "cores without work"),
        (PLAIN, {"splits": 2}, "2 parts of the keys make more than 4 blocks for each of 2 cores"),
        (EVERY["pages"], {"copy_k": False}, "not legal"),
        (EVERY["plain"], {"heads_first": True}, "not legal"),
        (
            attention(heads=8, q_len=64, head_dim=64),
            {"heads_first": True, "tile_vectors": 4},
            "1 panels of 4 vectors are all the 64 rows",
        ),
    ],
    ids=str,
)
def test_every_constraint_says_why(workload: Workload, knobs: dict[str, Any], reason: str) -> None:
    violations = CPU_ATTENTION.space(workload, AVX512).violations(schedule(**knobs).values)
    assert any(reason in violation for violation in violations)


@pytest.mark.parametrize(
    ("workload", "knobs", "reason"),
    [
        (DECODING, {"tile_rows": 4, "tile_vectors": 7}, "rows by 7 vectors of V, these and an el"),
        (FEW[1], {"tile_rows": 8, "tile_keys": 4}, "sums of 8 rows by 4 keys"),
        (FEW[1], {"tile_rows": 8, "tile_vectors": 2}, "tiles of 8 rows compute more than a quart"),
        (DECODING, {"tile_rows": 1}, "tiles of 1 use a vector once"),
        (DECODING, {"tile_vectors": 1}, "tiles of 1 use a vector once"),
        (
            attention(heads=32, kv_heads=1, q_len=1, kv_len=4096, head_dim=128),
            {"block_keys": 256},
            "weights of 256 keys exceed the first-level cache of 32768 bytes",
        ),
        (DECODING, {"splits": 2}, "2 parts of 64 heads of K and V are more than 4 for each of 2"),
    ],
    ids=str,
)
def test_every_constraint_for_few_rows_says_why(
    workload: Workload, knobs: dict[str, Any], reason: str
) -> None:
    space = CPU_DECODE_ATTENTION.space(workload, AVX512)
    violations = space.violations(decode_schedule(**knobs).values)
    assert any(reason in violation for violation in violations)


targets = st.builds(
    lambda vector_bytes, units, l1_kib, l2_kib: cpu(
        vector_bytes=vector_bytes, units=units, l1_bytes=l1_kib << 10, l2_bytes=l2_kib << 10
    ),
    st.sampled_from([16, 32, 64, 128]),
    st.sampled_from([1, 2, 3, 16, 192]),
    st.sampled_from([16, 32, 128]),
    st.sampled_from([128, 512, 2048]),
)
dims = st.one_of(st.integers(1, 40), st.integers(1, 512), st.sampled_from([64, 128, 512]))
workloads = st.builds(
    lambda heads, group, q_len, kv_len, head_dim, v_dim, dtype: attention(
        heads=heads * group,
        kv_heads=heads,
        q_len=q_len,
        kv_len=kv_len,
        head_dim=head_dim,
        v_dim=v_dim,
        dtype=dtype,
    ),
    st.sampled_from([1, 2, 5, 33]),
    st.sampled_from([1, 2, 8]),
    st.one_of(st.integers(1, 5), st.integers(1, 5000)),
    st.one_of(st.integers(1, 70), st.sampled_from([2**14, 10**5])),
    dims,
    dims,
    st.sampled_from(["float32", "bfloat16"]),
)


@given(workloads, targets)
@settings(max_examples=40, deadline=None)
def test_no_workload_is_without_schedules_and_no_space_is_huge(
    workload: Workload, target: Target
) -> None:
    for template in (CPU_ATTENTION, CPU_DECODE_ATTENTION):
        if template.rejects(workload, target) == "":
            space = template.space(workload, target)
            assert 0 < space.size < 10**6, space.why_empty()


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """40 queries in a panel of 32 and one of 8; 50 keys in 7 tiles of 8, blocks of 48."""
    workload = attention(batch=3, heads=2, q_len=40, kv_len=50, head_dim=20, v_dim=10)
    chosen = schedule(block_keys=32, tile_keys=12, copy_v=True)
    stats = CPU_ATTENTION.stats(workload, chosen, AVX512)
    extra = dict(stats.extra)
    assert (stats.groups, stats.threads, stats.launches, stats.scratch_bytes) == (12, 1, 1, 0)
    assert stats.registers == (12 * 2 + 2 + 1) * 16
    assert stats.flops == 6 * 2 * (32 * 5 * 12) * 2 * (20 + 10)
    assert stats.l2_bytes == 6 * 2 * (2 * 36) * (20 + 10) * 4
    weights_bytes = 36 * 32 * 4
    assert stats.working_set_bytes == (30 * 32 + 10 * 36) * 4 + weights_bytes
    assert extra["weights_bytes"] == weights_bytes
    assert extra["panel_bytes"] == 20 * 32 * 4
    assert extra["busy_share"] == 40 / 64
    assert extra["score_loads_per_fma"] == 14 / 24
    assert extra["tail_dims"] == 2 / 10


def test_statistics_of_few_rows_worked_out_by_hand() -> None:
    workload = attention(heads=10, kv_heads=2, q_len=1, kv_len=600, head_dim=32, v_dim=48)
    chosen = decode_schedule(tile_rows=3, tile_vectors=2, splits=4)
    stats = CPU_DECODE_ATTENTION.stats(workload, chosen, AVX512)
    extra = dict(stats.extra)
    assert (stats.groups, stats.launches) == (8, 2)
    assert stats.flops == stats.useful_flops * 6 / 5
    assert stats.scratch_bytes == 10 * 4 * (48 + 2) * 4
    assert stats.working_set_bytes == (6 * (32 + 48 + 128) + 3 * 16 * 16) * 4
    assert (extra["busy_share"], extra["value_passes"]) == (1, 2)
    assert extra["value_block_bytes"] == 128 * 48 * 4


@pytest.mark.parametrize(
    ("q_len", "panels", "units", "share"),
    [(64, 1, 2, 1.0), (48, 1, 2, 0.75), (64, 2, 2, 0.5), (96, 1, 2, 0.75), (96, 1, 3, 1.0)],
)
def test_share_of_the_time_that_cores_work(
    q_len: int, panels: int, units: int, share: float
) -> None:
    given = Parameters.of(attention(heads=1, q_len=q_len, head_dim=8))
    assert Blocks(given, 32, panels, 32).busy_share(units) == share


GOLDEN_CASES: dict[str, tuple[Template, Workload, Schedule]] = {
    "attention_cpu_causal": (CPU_ATTENTION, LONG, schedule(tile_vectors=1, tile_dims=16)),
    "attention_cpu_float8_bias": (
        CPU_ATTENTION,
        ODD[6],
        schedule(tile_vectors=1, panels=3, block_keys=32, unroll=4, copy_k=True, copy_v=True),
    ),
    "attention_cpu_decode": (CPU_DECODE_ATTENTION, DECODING, decode_schedule()),
    "attention_cpu_decode_pages": (
        CPU_DECODE_ATTENTION,
        attention(
            heads=4,
            kv_heads=2,
            q_len=1,
            kv_lens=[500, 20],
            page_size=16,
            head_dim=96,
            dtype="float16",
            lse=True,
        ),
        decode_schedule(tile_rows=2, tile_keys=4),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    template, workload, chosen = GOLDEN_CASES[name]
    assert template.space(workload, AVX512).violations(chosen.values) == []
    assert_golden(GOLDEN / f"{name}.cl", template.render(workload, chosen, OPENCL).text)
