"""The portable attention template without a device: conformance, reasons, statistics, texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from portable_attention_cases import ANY_GPU, GPU, WORKLOADS, schedule

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.attention import attention
from search_spaces.attention.portable import PORTABLE_ATTENTION
from search_spaces.dialect import DIALECTS
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"
LONG = attention(heads=8, q_len=1024, head_dim=64, causal=True)
DECODING = attention(
    heads=32, kv_heads=8, q_len=1, kv_len=4096, batch=4, head_dim=128, dtype="bfloat16"
)


class Portable(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return PORTABLE_ATTENTION

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (WORKLOADS[2], WORKLOADS[-1], LONG)


class TestPortableOnCuda(Portable):
    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (*WORKLOADS, LONG, DECODING)

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
    assert registry.template("attention", "portable") is PORTABLE_ATTENTION


def narrow(target: Target = GPU, **limits: Any) -> Target:
    return Target.of(target.backend, target.device, target.arch, {**dict(target.limits), **limits})


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (LONG, narrow(dtypes=("float16",)), "in float32, only in float16"),
        (DECODING, narrow(dtypes=("float32",)), "no conversions of bfloat16"),
        (WORKLOADS[7], narrow(dtypes=("float32", "bfloat16")), "no conversions of float8_e4m3"),
        (
            attention(heads=8, q_len=64, head_dim=512),
            narrow(ANY_GPU, shared_bytes=4 << 10),
            "no schedule fits .* 4096 bytes of local memory",
        ),
        (
            attention(batch=2**16 - 1, heads=2**16 - 1, q_len=1, head_dim=1),
            GPU,
            "no schedule fits .* 2147483647 groups, the limit of a grid",
        ),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert PORTABLE_ATTENTION.rejects(workload, target) == ""


LARGE_UNITS = narrow(ANY_GPU, max_group=1024, shared_bytes=64 << 10, warp=64)
A_CPU = narrow(ANY_GPU, kind="cpu", max_group=4096)


@pytest.mark.parametrize("target", [GPU, ANY_GPU, LARGE_UNITS, A_CPU], ids=str)
@pytest.mark.parametrize("v_dim", [1, 512])
@pytest.mark.parametrize("head_dim", [1, 96, 512])
@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 1), (1, 5000), (1000, 5000)])
def test_every_size_fits_every_device(
    target: Target, q_len: int, kv_len: int, head_dim: int, v_dim: int
) -> None:
    workload = attention(heads=1, q_len=q_len, kv_len=kv_len, head_dim=head_dim, v_dim=v_dim)
    assert PORTABLE_ATTENTION.rejects(workload, target) == ""


def test_opencl_converts_every_format_by_itself() -> None:
    for workload in WORKLOADS:
        assert PORTABLE_ATTENTION.rejects(workload, narrow(ANY_GPU, dtypes=("float32",))) == ""


@pytest.mark.parametrize(
    ("workload", "target", "knobs", "reason"),
    [
        (LONG, GPU, {"threads_q": 32, "threads_k": 64, "block_k": 64}, "at most 1024 work-items"),
        (LONG, GPU, {"threads_q": 2}, "work-items run 32 in lockstep; 2x8 leave some idle"),
        (LONG, GPU, {"threads_q": 64}, "64 work-items do not divide"),
        (LONG, GPU, {"threads_k": 64}, "64 work-items do not divide"),
        (LONG, GPU, {"threads_k": 32}, "32 work-items with 4 columns each share 64 columns"),
        (LONG, ANY_GPU, {"block_q": 128, "block_k": 64}, "32768 bytes of local memory"),
        (LONG, GPU, {"block_q": 128, "block_k": 128}, "at most 255 registers"),
        (LONG, narrow(registers=2048), {}, "a unit has 2048 registers"),
        (LONG, GPU, {"block_q": 64, "block_k": 128, "unroll": 4}, "4 times 4 steps"),
        (
            attention(heads=1, q_len=64, head_dim=66, v_dim=64),
            GPU,
            {"vector": 4},
            "rows of Q and K in memory are 66 elements",
        ),
        (
            attention(heads=1, q_len=64, head_dim=64, v_dim=66),
            GPU,
            {"vector": 4},
            "rows of V in memory are 66 elements",
        ),
        (
            attention(heads=1, q_len=64, head_dim=12, v_dim=64),
            GPU,
            {"unroll": 4},
            "there are no 4 steps of 4 along a head of 12",
        ),
        (LONG, GPU, {"weights_local": False}, "8 work-items share a row"),
        (
            LONG,
            GPU,
            {"block_q": 128, "threads_k": 2},
            "a loop body of 4 keys for a work-item's columns of 128/8 rows",
        ),
        (
            LONG,
            GPU,
            {"weights_local": False, "threads_k": 1, "block_k": 128},
            "need every key of a step unrolled",
        ),
        (LONG, GPU, {"shuffle": True, "threads_k": 1}, "exchange maxima; 1 of 8x1"),
        (attention(heads=1, q_len=64, head_dim=8), GPU, {"splits": 4}, "without work"),
        (LONG, narrow(max_buffer_bytes=2**20), {"splits": 2}, "exceed 1048576 bytes"),
        (LONG, narrow(units=8), {"splits": 4}, "fewer than 4 parts already give each of 8 units"),
        (DECODING, GPU, {"block_q": 4}, "there are no 4 rows that share keys"),
        (
            attention(heads=2**15, q_len=2**15, kv_len=2**12, head_dim=1),
            GPU,
            {"block_q": 8, "splits": 32},
            "the limit of a grid",
        ),
    ],
)
def test_every_constraint_says_why(
    workload: Workload, target: Target, knobs: dict[str, Any], reason: str
) -> None:
    space = PORTABLE_ATTENTION.space(workload, target)
    broken = schedule(**knobs)
    assert broken not in space
    violations = space.violations(broken.values)
    assert any(reason in violation for violation in violations), violations


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """Two heads of 100 queries over 132 keys in tiles of 32 x 32, causal: they end at 64 to 132."""
    workload = attention(heads=2, q_len=100, kv_len=132, head_dim=20, v_dim=36, causal=True)
    chosen = schedule(vector=4, prefetch=True, splits=2)
    assert chosen in PORTABLE_ATTENTION.space(workload, GPU)
    stats = PORTABLE_ATTENTION.stats(workload, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (2 * 4 * 2, 64, 2)
    # Q and K of 20 columns padded by 4; V of 36, read as two runs of 8 times 4; weights of 32
    # padded by 8; and a number for each row and work-item of it
    tiles = 32 * 24 + max(32 * 24, 31 * 36 + 64) + 32 * 40 + 32 * 8
    assert stats.shared_bytes == 4 * tiles
    # 4 rows with 4 keys, 8 columns and 3 numbers each; 8 operands of 4 lanes; 5 pieces of 4
    # elements with their addresses, 40 others
    assert stats.registers == 4 * (4 + 8 + 3) + 8 * 4 + 5 * (4 + 2) + 40
    steps = 2 + 3 + 4 + 5  # the last tile's keys end at 132
    assert stats.flops == 2 * steps * 2 * 32 * 32 * (20 + 64)
    assert stats.scratch_bytes == 2 * 2 * 100 * (36 + 2) * 4
    assert dict(stats.extra)["balance"] == steps / (4 * 5)
    assert dict(stats.extra)["steps_per_group"] == 3


def test_keys_are_read_again_where_a_cache_does_not_keep_them() -> None:
    small = narrow(cache_bytes=1 << 18, units=8)
    near, far = (PORTABLE_ATTENTION.stats(LONG, schedule(), each) for each in (GPU, small))
    assert far.dram_bytes > near.dram_bytes


GOLDEN_CASES = {
    "attention_portable_float32": (
        LONG,
        schedule(vector=4, kv_tiles=2, prefetch=True, shuffle=True, longest_first=True),
    ),
    "attention_portable_bfloat16_paged": (
        attention(
            heads=8,
            kv_heads=2,
            q_len=1,
            kv_lens=[100, 300],
            page_size=16,
            head_dim=64,
            dtype="bfloat16",
            bias="alibi",
            softcap=30.0,
            lse=True,
        ),
        schedule(block_q=4, threads_q=4, vector=4, pack_heads=True, splits=2),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
@pytest.mark.parametrize(("dialect", "suffix"), [("opencl", "cl"), ("cuda", "cu")])
def test_kept_texts(
    assert_golden: Callable[[Path, str], None], name: str, dialect: str, suffix: str
) -> None:
    workload, chosen = GOLDEN_CASES[name]
    source = PORTABLE_ATTENTION.render(workload, chosen, DIALECTS[dialect])
    assert_golden(GOLDEN / f"{name}.{suffix}", source.text)


def test_golden_schedules_are_legal() -> None:
    for workload, chosen in GOLDEN_CASES.values():
        assert PORTABLE_ATTENTION.space(workload, GPU).violations(chosen.values) == []
