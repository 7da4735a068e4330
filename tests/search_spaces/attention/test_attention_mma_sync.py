"""The mma_sync template of attention without a device: conformance, reasons, statistics, texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attention_gpu_cases import GPU
from attention_gpu_cases import mma_sync_schedule as schedule
from hypothesis import given as having
from hypothesis import settings
from hypothesis import strategies as st
from targets import gpu

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.attention import attention
from search_spaces.attention.mma_sync import MMA_SYNC_ATTENTION
from search_spaces.attention.mma_sync_resources import Problem
from search_spaces.dialect import CUDA
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"
LONG = attention(batch=4, heads=16, q_len=4096, head_dim=128, dtype="bfloat16", causal=True)
WORKLOADS = (
    LONG,
    attention(heads=6, kv_heads=2, q_len=37, kv_len=91, head_dim=80, v_dim=96, dtype="float16"),
    attention(heads=4, kv_heads=1, q_len=5, kv_len=500, head_dim=64, dtype="float16", lse=True),
    attention(heads=2, q_lens=(5, 0, 90), layout="bshd", head_dim=17, dtype="bfloat16", window=9),
    attention(
        heads=8,
        kv_heads=2,
        q_len=16,
        kv_lens=(900, 30),
        page_size=16,
        head_dim=128,
        dtype="bfloat16",
        kv_dtype="float8_e4m3",
        bias="alibi",
    ),
    attention(heads=1, q_len=1, head_dim=1, dtype="float16"),
    attention(batch=64, heads=32, kv_heads=8, q_len=1, kv_len=4096, head_dim=128, dtype="float16"),
    attention(heads=2, q_len=200, kv_len=100, head_dim=256, dtype="float16", causal=True),
)


class TestMmaSyncAttention(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return MMA_SYNC_ATTENTION

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return WORKLOADS

    @pytest.fixture
    def target(self) -> Target:
        return GPU


def test_it_is_registered() -> None:
    assert registry.template("attention", "mma_sync") is MMA_SYNC_ATTENTION


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (LONG, gpu("sm_75"), "not CUDA from sm_80 on"),
        (LONG, Target.of("opencl", "Some GPU", "any", {}), "not CUDA from sm_80 on"),
        (attention(heads=1, q_len=8, head_dim=8), GPU, "not float32: tf32 would keep 10"),
        (
            attention(heads=1, q_len=8, head_dim=64, v_dim=257, dtype="float16"),
            GPU,
            "v_dim up to 256, not 257; cut V",
        ),
        (
            attention(batch=2**14, heads=2**9, q_len=2**9, head_dim=1, dtype="float16"),
            GPU,
            "batch x heads x q_len is 4294967296",
        ),
        (
            attention(heads=1, q_len=9, head_dim=512, dtype="float16", v_dim=64),
            gpu(shared_bytes=16 << 10),
            "16384 bytes of shared memory; 16 rows and 16 keys of head_dim 512",
        ),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    assert reason in MMA_SYNC_ATTENTION.rejects(workload, target)


SHORT = attention(batch=2, heads=4, kv_heads=2, q_len=40, kv_len=130, head_dim=64, dtype="float16")


@pytest.mark.parametrize(
    ("workload", "target", "knobs", "reason"),
    [
        (SHORT, GPU, {"warps": 8}, "beyond the rows that 40 queries have"),
        (LONG, GPU, {"warps": 2}, "64 rows a block are enough blocks for 132 units"),
        (LONG, GPU, {"splits": 2}, "more than 8 blocks for each of 132 units"),
        (SHORT, GPU, {"half_steps": False}, "another one can be under way only in half steps"),
        (SHORT, GPU, {"scores_ahead": True}, "takes more than 1 stage(s), and whole steps"),
        (SHORT, GPU, {"heads_together": 8, "pack_heads": True}, "fewer than 8 heads"),
        (SHORT, GPU, {"heads_together": 2}, "one order alone"),
        (LONG, gpu(shared_bytes=48 << 10), {"stages": 3}, "49152 bytes of shared memory for 1"),
        (LONG, GPU, {"warp_rows": 64}, "at most 255 registers"),
        (LONG, gpu(registers=16384), {}, "a unit has 16384 registers for 1"),
        (
            attention(heads=1, q_len=4096, head_dim=512, v_dim=64, dtype="float16"),
            GPU,
            {"warp_rows": 32, "tile_keys": 128},
            "more than 1024 products",
        ),
        (WORKLOADS[5], GPU, {"warps": 1}, "half or more of a tile of 32 keys"),
        (SHORT, GPU, {"stages": 3, "splits": 2}, "fewer tiles of 32 than 3 stages hold"),
        (SHORT, GPU, {"splits": 6}, "6 parts of 130 keys in tiles of 32"),
        (SHORT, GPU, {"splits": 6, "lazy_rescale": True}, "nothing to rescale"),
        (LONG, gpu(max_buffer_bytes=2**20), {"splits": 2}, "exceeds 1048576 bytes"),
        (LONG, gpu(memory_bytes=2**20), {"splits": 2}, "the limit of memory"),
    ],
)
def test_every_constraint_says_why(
    workload: Workload, target: Target, knobs: dict[str, Any], reason: str
) -> None:
    space = MMA_SYNC_ATTENTION.space(workload, target)
    violations = space.violations(schedule(**knobs).values)
    assert any(reason in violation for violation in violations), violations


@pytest.mark.parametrize(
    ("given", "knob"),
    [
        ({"kv_heads": 4}, "pack_heads"),
        ({"causal": False}, "late_first"),
        ({"causal": False}, "backwards"),
    ],
)
def test_a_knob_without_effect_has_one_value(given: dict[str, Any], knob: str) -> None:
    common: dict[str, Any] = {"heads": 4, "q_len": 512, "head_dim": 64, "dtype": "float16"}
    workload = attention(**{**common, **given})
    knobs = {each.name: each for each in MMA_SYNC_ATTENTION.space(workload, GPU).knobs}
    assert len(knobs[knob].values) == 1


SIZES = st.fixed_dictionaries(
    {
        "batch": st.sampled_from([1, 3, 500]),
        "kv_heads": st.sampled_from([1, 2, 8, 32]),
        "q_len": st.integers(1, 40) | st.sampled_from([100, 5000]),
        "kv_len": st.integers(1, 140) | st.just(5000),
        "head_dim": st.sampled_from([1, 8, 64, 80, 128, 256, 384, 512]),
        "v_dim": st.sampled_from([1, 40, 64, 128, 256]),
        "dtype": st.sampled_from(["float16", "bfloat16"]),
        "kv_dtype": st.sampled_from([None, "float8_e4m3"]),
        "causal": st.booleans(),
        "window": st.sampled_from([None, 1, 100]),
    }
)


@settings(max_examples=40, deadline=None)
@having(
    SIZES,
    st.sampled_from([1, 3, 8]),
    st.sampled_from([99 << 10, 227 << 10]),
    st.sampled_from([20, 132]),
)
def test_what_is_not_rejected_has_schedules(
    sizes: dict[str, Any], queries_per_kv_head: int, shared_bytes: int, units: int
) -> None:
    workload = attention(heads=sizes["kv_heads"] * queries_per_kv_head, **sizes)
    target = gpu(shared_bytes=shared_bytes, units=units)
    assert MMA_SYNC_ATTENTION.rejects(workload, target) == ""
    assert MMA_SYNC_ATTENTION.space(workload, target)


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """100 queries and 150 keys, causal, 64 rows by 32 keys: 4 and 5 tiles of keys, in each head."""
    workload = attention(
        batch=2, heads=6, kv_heads=2, q_len=100, kv_len=150, head_dim=72, v_dim=40,
        dtype="float16", causal=True,
    )  # fmt: skip
    chosen = schedule(splits=2, stages=2)
    assert MMA_SYNC_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    stats = MMA_SYNC_ATTENTION.stats(workload, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (2 * 6 * 2 * 2, 4 * 32, 2)
    tile_bytes = 32 * (80 + 48) * 2
    assert stats.shared_bytes == 64 * 80 * 2 + 2 * tile_bytes
    # Queries 0 to 63 see keys up to 113, those from 64 on all of them.
    key_tiles = 2 * 6 * (4 + 5)
    rows = 2 * 6 * 100
    assert stats.scratch_bytes == 2 * rows * (40 + 2) * 4
    assert stats.flops == 2 * (key_tiles * 64 * 32 * (80 + 48) + 2 * rows * 40)
    assert stats.l2_bytes == key_tiles * tile_bytes + rows * (72 + 40) * 2 + 2 * stats.scratch_bytes
    assert stats.vector_lanes == 8
    extra = dict(stats.extra)
    assert extra["rounds"] == key_tiles / stats.groups
    assert extra["resident_warps"] % 4 == 0


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
@pytest.mark.parametrize("row_heads", [1, 3])
def test_tiles_of_keys_are_those_that_rows_see(workload: Workload, row_heads: int) -> None:
    problem = Problem.of(workload)
    given = problem.given
    walked = 0
    for sequence in given.sequences:
        rows = [
            given.visible(sequence, row // row_heads) for row in range(sequence.q_len * row_heads)
        ]
        for start in range(0, len(rows), 48):
            block = rows[start : start + 48]
            first, end = block[0].start // 16, -(-block[-1].stop // 16)
            walked += max(0, end - first)
    assert problem.key_tiles(48, 16, row_heads) == walked


GOLDEN_CASES = {
    "attention_mma_sync_causal": (
        LONG,
        schedule(warps=4, warp_rows=32, tile_keys=64, backwards=True, late_first=True),
    ),
    "attention_mma_sync_float8_pages_split": (
        WORKLOADS[4],
        schedule(pack_heads=True, q_registers=True, splits=4, stages=2, lazy_rescale=True),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    workload, chosen = GOLDEN_CASES[name]
    assert MMA_SYNC_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    assert_golden(GOLDEN / f"{name}.cu", MMA_SYNC_ATTENTION.render(workload, chosen, CUDA).text)
