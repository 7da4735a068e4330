"""The wgmma attention without a device: conformance, reasons, statistics, maps, kept texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as having
from hypothesis import settings
from hypothesis import strategies as st
from wgmma_attention_cases import (
    ALONE,
    CAUSAL,
    GPU,
    PARTS,
    PLAIN,
    WORKLOADS,
    gpu,
    rendered,
    schedule,
)

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.attention import attention
from search_spaces.attention.wgmma import WGMMA_ATTENTION
from search_spaces.attention.wgmma_resources import consumer_registers
from search_spaces.template import Template
from search_spaces.warpgroup import launch_registers

GOLDEN = Path(__file__).parents[1] / "golden"
HALF: dict[str, Any] = {"dtype": "float16"}


class TestWgmmaAttention(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return WGMMA_ATTENTION

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return WORKLOADS

    @pytest.fixture
    def target(self) -> Target:
        return GPU


def test_it_is_registered() -> None:
    assert registry.template("attention", "wgmma") is WGMMA_ATTENTION


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (PLAIN, gpu("sm_80"), "their code is for sm_90a alone"),
        (attention(heads=1, q_len=8, head_dim=8), GPU, "not float32"),
        (PLAIN, gpu(dtypes=("float32",)), "does not compute in bfloat16, only in float32"),
        (
            attention(heads=1, q_len=8, head_dim=64, kv_dtype="float8_e4m3", **HALF),
            GPU,
            "K and V are kept as float8_e4m3",
        ),
        (attention(heads=1, q_len=8, head_dim=264, **HALF), GPU, "head_dim 264 exceeds 256"),
        (attention(heads=1, q_len=8, head_dim=64, v_dim=68, **HALF), GPU, "makes them 136 bytes"),
        (
            attention(heads=1, q_len=8, kv_lens=(9,), page_size=8, head_dim=64, **HALF),
            GPU,
            "a page of 8 keys cuts through the 16",
        ),
        (
            attention(heads=2**15, batch=2**9, q_len=1, head_dim=8, **HALF),
            GPU,
            "counted in 32 bits",
        ),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    assert reason in WGMMA_ATTENTION.rejects(workload, target)


def sized(**sizes: Any) -> Workload:
    return attention(**{"heads": 4, "q_len": 1024, "head_dim": 64, **HALF, **sizes})


@pytest.mark.parametrize(
    ("workload", "knobs", "reason"),
    [
        (PLAIN, {"tile_n": 224}, "exceed the registers of a thread of 2 consumer(s)"),
        (PLAIN, {"consumers": 3}, "exceed the registers of a thread of 3 consumer(s)"),
        (PLAIN, {"consumers": 3, "tile_n": 256}, "the compiler refuses it"),
        (PLAIN, {"stages": 3}, "a block has 232448 bytes of shared memory; Q, 3 stages"),
        (PLAIN, {"resident": 2, **ALONE}, "each of two blocks on a unit has 115712 bytes"),
        (PLAIN, ALONE | {"pingpong": True}, "nobody to take turns with"),
        (PLAIN, {"overlap": False}, "which only overlap issues together"),
        (PLAIN, {"tile_n": 32}, "fewer than 48 keys take longer to read Q"),
        (PLAIN, {"stages": 1}, "there is shared memory for two"),
        (PLAIN, ALONE, "there are tiles enough for two"),
        (sized(kv_len=64), {}, "half or more would always be padding: there are 64"),
        (sized(kv_len=300), {"stages": 4}, "300 keys are fewer tiles of 128 than 4 stages"),
        (sized(kv_lens=(400,), page_size=96), {}, "pages of 96 keys or parts of one; 128 keys"),
        (sized(kv_heads=4), {"pack_heads": True}, "divides 16; it is 1"),
        (sized(heads=6, kv_heads=2), {"pack_heads": True}, "divides 16; it is 3"),
        (sized(q_len=64), {}, "of 64 rows each, the last would always have none"),
        (sized(), {"together": 8}, "legal values: 1, 2, 4"),
        (sized(kv_heads=1), {"together": 4, "pack_heads": True}, "fewer than 4 heads"),
        (sized(q_len=128), {"together": 2}, "are taken in turn anyway"),
        (sized(kv_len=200), {"splits": 3}, "200 keys are fewer tiles of 128 than 3 parts"),
        (sized(q_len=100), {"cluster": 2}, "fewer tiles of queries in a head than 2 blocks"),
        (WORKLOADS[7], {"cluster": 2}, "pages come in boxes of their own"),
        (PLAIN, {"splits": 2}, "more than 4 for each of 132 units"),
        (PLAIN, {"blocks": 264}, "264 blocks do not fill 132 units with 1 each"),
        (sized(), {"blocks": 132}, "none has a second one to take"),
        (sized(), PARTS | {"store": "tma"}, "go to scratch straight from registers"),
        (PLAIN, {"store": "direct", "buffers": 2}, "pass through no buffers"),
        (sized(), {"buffers": 2}, "2 do not divide the 1 panel(s)"),
    ],
)
def test_every_constraint_says_why(workload: Workload, knobs: dict[str, Any], reason: str) -> None:
    space = WGMMA_ATTENTION.space(workload, GPU)
    broken = schedule(**knobs)
    assert broken not in space
    assert any(reason in violation for violation in space.violations(broken.values))


def test_results_of_parts_must_fit_the_memory() -> None:
    space = WGMMA_ATTENTION.space(sized(), gpu(memory_bytes=2**20))
    assert any(
        "exceed 1048576 bytes" in each for each in space.violations(schedule(**PARTS).values)
    )


@pytest.mark.parametrize(
    ("given", "knobs"),
    [
        ({"head_dim": 128}, {"tile_n": 176}),
        ({"head_dim": 128, "causal": True}, {"tile_n": 128, "blocks": 132, "together": 16}),
        ({"head_dim": 64}, {"consumers": 3, "tile_n": 128}),
        ({"head_dim": 256}, {"tile_n": 80, "store": "direct"}),
        ({"head_dim": 96}, {"tile_n": 160}),
    ],
)
def test_schedules_of_the_paper_are_in_the_space(given: dict[str, Any], knobs: Any) -> None:
    workload = attention(batch=4, heads=16, q_len=4096, dtype="bfloat16", **given)
    assert WGMMA_ATTENTION.space(workload, GPU).violations(schedule(**knobs).values) == []


SIZES = st.fixed_dictionaries(
    {
        "kv_heads": st.sampled_from([1, 2, 8, 32]),
        "q_len": st.integers(1, 40) | st.sampled_from([100, 5000]),
        "head_dim": st.sampled_from([8, 64, 80, 128, 200, 256]),
        "v_dim": st.sampled_from([8, 40, 64, 128, 256]),
        "dtype": st.sampled_from(["float16", "bfloat16"]),
        "causal": st.booleans(),
        "window": st.sampled_from([None, 1, 100]),
        "softcap": st.sampled_from([None, 5.0]),
        "bias": st.sampled_from(["none", "alibi"]),
    }
)
KEYS = st.integers(1, 140) | st.just(5000)
PAGES = st.none() | st.sampled_from([16, 48, 64, 208, 512])


@settings(max_examples=40, deadline=None)
@having(SIZES, st.sampled_from([1, 3, 8]), KEYS, PAGES, st.sampled_from([20, 132]))
def test_what_is_not_rejected_has_schedules(
    sizes: dict[str, Any], queries_per_kv_head: int, kv_len: int, page_size: int | None, units: int
) -> None:
    heads = sizes["kv_heads"] * queries_per_kv_head
    workload = attention(heads=heads, kv_lens=(kv_len, 1), page_size=page_size, **sizes)
    target = gpu(units=units)
    assert WGMMA_ATTENTION.rejects(workload, target) == ""
    assert WGMMA_ATTENTION.space(workload, target)


def test_a_thread_gets_what_the_loader_gives_away() -> None:
    """Three warpgroups share 65536 registers: 168 each, or 24 for one and 240 for the others."""
    assert (launch_registers(2, 1), consumer_registers(2, 1)) == (168, 240)
    assert (launch_registers(3, 1), consumer_registers(3, 1)) == (128, 160)
    assert (launch_registers(1, 2), consumer_registers(1, 2)) == (128, 232)
    assert consumer_registers(1, 1) == 0  # 255 each, from the start
    for consumers in (1, 2, 3):
        for resident in (1, 2):
            taken = 24 + consumers * consumer_registers(consumers, resident)
            assert 128 * taken * resident <= 65536


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """300 queries and 500 keys, causal, 128 rows by 64 keys: 6, 8 and 8 tiles of keys, a head."""
    workload = attention(
        batch=2, heads=4, kv_heads=2, q_len=300, kv_len=500, head_dim=72, v_dim=40, causal=True,
        dtype="bfloat16",
    )  # fmt: skip
    chosen = schedule(tile_n=64, splits=2, store="direct", stages=3)
    assert WGMMA_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    stats = WGMMA_ATTENTION.stats(workload, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (2 * 4 * 3 * 2, 384, 2)
    # Two panels of Q and K, one of V, 128 bytes wide.
    assert stats.shared_bytes == 2 * 128 * 128 + 3 * (2 + 1) * 64 * 128 + 16 + 3 * 32 + 1024
    steps = 2 * 4 * (6 + 8 + 8)
    rows = 2 * 4 * 300
    assert stats.scratch_bytes == 2 * rows * (40 + 2) * 4
    assert stats.flops == steps * 2 * 128 * 64 * (80 + 40) + stats.scratch_bytes // 4
    read = steps * 64 * (72 + 40) * 2 + 2 * rows * (72 + 40) * 2
    assert stats.l2_bytes == read + 2 * stats.scratch_bytes
    extra = dict(stats.extra)
    assert extra["steps_per_unit"] == steps / stats.groups
    assert extra["rounds"] == 1


def test_tensor_maps_of_packed_heads() -> None:
    """A tile's rows are queries of all heads of a group; batch, head and row are axes."""
    workload = attention(
        batch=3, heads=8, kv_heads=2, q_len=40, kv_len=500, head_dim=80, layout="bshd", **HALF
    )
    q, k, v, out = rendered(workload, schedule(pack_heads=True, tile_n=64)).tensor_maps
    assert (q.array, q.shape, q.box) == ("q", (3, 2, 40, 4, 80), (1, 1, 32, 4, 64))
    assert q.strides == (40 * 640, 4 * 80, 640, 80, 1)
    assert (k.shape, k.box, k.strides) == ((3, 2, 500, 80), (1, 1, 64, 64), (80000, 80, 160, 1))
    assert (v.array, out.array, out.box) == ("v", "out", (1, 1, 4, 4, 64))
    assert {each.swizzle_bytes for each in (q, k, v, out)} == {128}


def test_tensor_maps_of_pages_and_of_packed_sequences() -> None:
    q, k, *_ = rendered(WORKLOADS[7], schedule(tile_n=128, **ALONE)).tensor_maps
    assert (k.shape, k.box) == ((51, 2, 64, 128), (1, 1, 64, 64))
    q, k, *_ = rendered(WORKLOADS[6], schedule()).tensor_maps
    assert (q.shape, k.shape) == ((1, 8, 1000, 1, 128), (1, 2, 2310, 128))


def test_blocks_of_a_cluster_load_half_of_the_keys_each() -> None:
    source = rendered(CAUSAL, schedule(cluster=2, blocks=132))
    q, k, v, _ = source.tensor_maps
    assert (q.box[2], k.box[2], v.box[2]) == (128, 64, 64)
    assert source.launches[0].groups == (132, 1, 1)
    alone, shared = (
        WGMMA_ATTENTION.stats(PLAIN, schedule(cluster=cluster), GPU) for cluster in (1, 2)
    )
    assert shared.l2_bytes < 0.55 * alone.l2_bytes
    assert shared.groups == alone.groups


def test_launches_of_parts() -> None:
    main, combine = rendered(sized(), schedule(**PARTS)).launches
    assert main.groups == (4 * 8 * 3, 1, 1)
    assert main.arguments == ("q_map", "k_map", "v_map", "partial_out", "partial_sums")
    assert (combine.kernel, combine.arguments[-1]) == ("combine", "out")


GOLDEN_CASES = {
    "attention_wgmma_causal": (CAUSAL, schedule(blocks=132, together=16)),
    "attention_wgmma_packed": (
        WORKLOADS[6],
        schedule(tile_n=80, pack_heads=True, query="registers", lazy=True, polynomials=4),
    ),
    "attention_wgmma_pages_split": (
        WORKLOADS[7],
        schedule(**ALONE, **PARTS, overlap=False, tile_n=64, pack_heads=True),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    workload, chosen = GOLDEN_CASES[name]
    assert WGMMA_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    assert_golden(GOLDEN / f"{name}.cu", rendered(workload, chosen).text)


def test_arrivals_at_barriers_are_no_barriers_of_memory() -> None:
    """With `.release` and `.cluster` each is preceded by MEMBAR.ALL.GPU, 0.4 microseconds."""
    text = rendered(PLAIN, schedule()).text
    assert re.findall(r"mbarrier\.arrive[\w.:]*", text)
    assert not re.search(r"mbarrier\.arrive[\w.:]*\.release", text)
