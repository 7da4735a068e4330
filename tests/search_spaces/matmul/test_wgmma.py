"""The wgmma template without a device: conformance, reasons, statistics, maps, kept texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from wgmma_cases import GPU, LIMITS, SQUARE, WORKLOADS, rendered, schedule

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.matmul import matmul
from search_spaces.matmul.wgmma import WGMMA
from search_spaces.matmul.wgmma_resources import consumer_registers
from search_spaces.template import Template
from search_spaces.warpgroup import launch_registers

GOLDEN = Path(__file__).parents[1] / "golden"


class TestWgmma(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return WGMMA

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return WORKLOADS

    @pytest.fixture
    def target(self) -> Target:
        return GPU


def test_it_is_registered() -> None:
    assert registry.template("matmul", "wgmma") is WGMMA


def narrow(**limits: Any) -> Target:
    return Target.of(GPU.backend, GPU.device, GPU.arch, {**LIMITS, **limits})


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (SQUARE, Target.of("cuda", "A100", "sm_80", LIMITS), "their code is for sm_90a alone"),
        (matmul(m=64, n=64, k=64), GPU, "not float32"),
        (SQUARE, narrow(dtypes=("float32",)), "does not compute in bfloat16, only in float32"),
        (
            matmul(m=64, n=64, k=64, dtype="float16", b_dtype="int8", layout="nt"),
            GPU,
            "B is kept as int8",
        ),
        (matmul(m=64, n=64, k=64, dtype="tf32"), GPU, "B is stored with k as the slow one"),
        (matmul(m=64, n=64, k=64, dtype="int8", layout="tt"), GPU, "A is stored with k"),
        (matmul(m=64, n=64, k=65, dtype="float16", layout="nt"), GPU, "those of A are 130 bytes"),
        (matmul(m=64, n=65, k=64, dtype="float16"), GPU, "those of B are 130 bytes"),
        (
            matmul(m=2**31 - 1, n=8, k=8, dtype="float16", layout="nt"),
            GPU,
            "exceeds 32-bit coordinates",
        ),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    assert reason in WGMMA.rejects(workload, target)


def sized(**sizes: Any) -> Workload:
    return matmul(**{"m": 1024, "n": 1024, "k": 1024, "dtype": "float16", "layout": "nt", **sizes})


@pytest.mark.parametrize(
    ("workload", "knobs", "reason"),
    [
        (SQUARE, {"tile_m": 192}, "192 rows is no multiple of that for each of 2"),
        (SQUARE, {"pingpong": True, "consumers": 1}, "is for two consumers"),
        (SQUARE, {"tile_m": 256, "tile_n": 256}, "exceed what a thread gets with 1 block(s)"),
        (SQUARE, {"resident": 2, "tile_n": 256}, "the compiler refuses it"),
        (SQUARE, {"stages": 12}, "a block has 232448 bytes of shared memory; 12 stages"),
        (SQUARE, {"resident": 2, "blocks": 264}, "each of two blocks on a unit has 115712 bytes"),
        (SQUARE, {"cluster_m": 4, "cluster_n": 4}, "more than 4 blocks find few places"),
        (SQUARE, {"tile_n": 16, "cluster_m": 4}, "4 blocks cannot share the loads of 16"),
        (sized(layout="nn"), {"tile_n": 96}, "96 columns are not whole panels"),
        (sized(m=100), {"cluster_m": 2}, "there are fewer tiles of 128x128"),
        (sized(m=64), {"tile_m": 128}, "64 or more would always be padding"),
        (sized(n=64), {"tile_n": 128}, "half or more would always be padding"),
        (SQUARE, {"swap": True}, "swapping saves padding where m is not much above 64"),
        (sized(m=2**29, n=1024, k=8), {"tile_m": 64, "tile_n": 16}, "counted in 32 bits"),
        (sized(k=320), {"split_k": 4, "tile_k": 128}, "leave a part without work"),
        (sized(k=64), {"tile_k": 128}, "half or more would be padding: k is 64"),
        (sized(m=2**18, n=2**17), {"split_k": 16}, "exceed 151397597184 bytes of memory"),
        (SQUARE, {"blocks": 264}, "264 blocks do not fill 132 units with 1 each"),
        (SQUARE, {"blocks": 0, "pingpong": True}, "nothing to take in turn"),
        (sized(), {"blocks": 132}, "none has a second one to take"),
        (sized(), {"group": 16}, "fewer than 16 clusters of tiles lie across"),
        (SQUARE, {"raster": "hilbert", "group": 2}, "no other order than bands"),
        (sized(n=1020), {}, "those of C are 2040 bytes"),
        (SQUARE, {"split_k": 2}, "go to scratch straight from registers"),
        (SQUARE, {"store": "direct"}, "pass through no buffers"),
        (SQUARE, {"stream_k": True, "blocks": 0}, "only blocks that stay can share tiles"),
        (SQUARE, {"stream_k": True, "blocks": 128}, "tiles divide evenly among 128 blocks"),
        (sized(m=128, n=128), {"stream_k": True, "group": 1}, "fewer steps of 64 in all tiles"),
        (matmul(n=64, k=64, groups=(9, 9), dtype="bfloat16"), {}, "may reach into the next group"),
    ],
)
def test_every_constraint_says_why(workload: Workload, knobs: dict[str, Any], reason: str) -> None:
    space = WGMMA.space(workload, GPU)
    broken = schedule(**knobs)
    assert broken not in space
    assert any(reason in violation for violation in space.violations(broken.values))


def test_a_thread_gets_what_the_loader_gives_away() -> None:
    """Three warpgroups share 65536 registers: 168 each, or 40 for one and 232 for the others."""
    assert (launch_registers(2, 1), consumer_registers(2, 1)) == (168, 232)
    assert (launch_registers(3, 1), consumer_registers(3, 1)) == (128, 152)
    assert (launch_registers(1, 2), consumer_registers(1, 2)) == (128, 216)
    assert consumer_registers(1, 1) == 0  # 255 each, from the start
    for consumers in (1, 2, 3):
        for resident in (1, 2):
            taken = 40 + consumers * consumer_registers(consumers, resident)
            assert 128 * taken * resident <= 65536


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """1000 x 520 x 1032 in tiles of 128 x 64 x 64, clusters of 2 x 1, 3 parts of k."""
    workload = matmul(m=1000, n=520, k=1032, dtype="float16", epilogue="bias")
    chosen = schedule(tile_n=64, cluster_m=2, split_k=3, store="direct", buffers=1, blocks=0)
    chosen = schedule(**{**chosen.values, "group": 4})
    assert WGMMA.space(workload, GPU).violations(chosen.values) == []
    stats = WGMMA.stats(workload, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (2 * 4 * 9 * 3, 384, 2)
    assert stats.shared_bytes == 4 * (128 + 64) * 64 * 2 + 16 * 5 + 1024
    assert stats.scratch_bytes == 3 * 1000 * 520 * 4
    assert stats.flops == 2 * 1024 * (9 * 64) * (17 * 64) + 3 * 1000 * 520
    assert stats.registers == 168
    tiles, steps = 8 * 9, 17
    loaded = tiles * steps * 64 * (128 + 64 / 2) * 2
    assert stats.l2_bytes == loaded + 1000 * 520 * 2 + 2 * stats.scratch_bytes
    extra = dict(stats.extra)
    assert extra["multicast"] == (128 + 64) / (128 + 64 / 2)
    assert (extra["rounds"], extra["balance"], extra["steps_per_unit"]) == (1, 1, 6)
    assert extra["sums"] == 128 * 64 / 256


def test_rounds_and_balance_show_the_tail() -> None:
    extra = dict(WGMMA.stats(SQUARE, schedule(tile_n=256, stages=4), GPU).extra)
    assert (extra["rounds"], extra["balance"]) == (4, 512 / (4 * 132))


def test_rasterisation_saves_traffic_where_the_cache_is_small() -> None:
    large = sized(m=8192, n=8192, k=8192)
    one, eight = (WGMMA.stats(large, schedule(group=rows), GPU) for rows in (1, 8))
    assert eight.dram_bytes < one.dram_bytes


def test_tensor_maps_of_both_layouts() -> None:
    """Clusters share loads by lines: rows of an operand along k, steps of k of the other kind."""
    workload = matmul(m=1000, n=520, k=1032, batch=2, dtype="bfloat16")
    chosen = schedule(cluster_m=2, cluster_n=2, tile_m=256, l2_promotion=128)
    left, right, c = rendered(workload, chosen).tensor_maps
    assert (left.array, left.shape, left.box) == ("a", (2, 1000, 1032), (1, 128, 64))
    assert left.strides == (1000 * 1032, 1032, 1)
    assert (right.array, right.shape, right.box) == ("b", (2, 1032, 520), (1, 32, 64))
    assert (left.swizzle_bytes, left.l2_promotion_bytes) == (128, 128)
    assert (c.array, c.shape, c.box, c.swizzle_bytes) == ("c", (2, 1000, 520), (1, 16, 64), 128)


def test_swapping_turns_the_operands_and_the_pieces_of_c() -> None:
    workload = matmul(m=16, n=8192, k=8192, dtype="bfloat16", layout="nt")
    chosen = schedule(swap=True, tile_m=64, tile_n=16, consumers=1, group=1, blocks=0, stages=12)
    assert WGMMA.space(workload, GPU).violations(chosen.values) == []
    source = rendered(workload, chosen)
    left, right, c = source.tensor_maps
    assert (left.array, left.box, right.array, right.box) == ("b", (1, 64, 64), "a", (1, 16, 64))
    assert (c.box, c.swizzle_bytes) == ((1, 16, 16), 32)
    assert source.launches[0].groups == (128, 1, 1)


def test_bytes_of_a_stage_are_those_of_its_boxes() -> None:
    """A block of a cluster of 4 x 1 loads all of its rows and a quarter of its columns."""
    left, right, _ = rendered(SQUARE, schedule(cluster_m=4, tile_k=128, stages=2)).tensor_maps
    assert 2 * (left.box_bytes + 4 * right.box_bytes) == (128 + 128) * 128 * 2


def test_launches_of_split_k() -> None:
    chosen = schedule(split_k=2, store="direct", buffers=1, tile_n=256)
    source = rendered(matmul(**SQUARE.values | {"epilogue": ("bias",)}), chosen)
    main, reduce = source.launches
    assert (main.kernel, main.groups, main.group_size) == ("matmul", (132, 1, 1), (384, 1, 1))
    assert main.arguments == ("left_map", "right_map", "partial")
    assert (reduce.arguments, reduce.groups) == (
        ("partial", "c", "bias"),
        (4096 * 4096 // 512, 1, 1),
    )


def test_launches_of_stream_k() -> None:
    """1024 tiles for 132 blocks: 100 that do not fill a round, and a round, are shared."""
    chosen = schedule(stream_k=True)
    source = rendered(SQUARE, chosen)
    main, reduce = source.launches
    assert main.arguments == ("left_map", "right_map", "c_map", "partial")
    assert reduce.arguments == ("partial", "c")
    assert reduce.groups == ((100 + 132) * 2 * 16, 1, 1)
    assert source.scratch[0].bytes == 2 * 132 * 128 * 128 * 4
    extra = dict(WGMMA.stats(SQUARE, chosen, GPU).extra)
    assert extra["rounds"] == pytest.approx(1024 / 132)
    assert extra["balance"] == pytest.approx(1)


GOLDEN_CASES = {
    "wgmma_bfloat16": (SQUARE, schedule(tile_n=256, cluster_m=2, pingpong=False)),
    "wgmma_stream_k": (WORKLOADS[0], schedule(stream_k=True, pingpong=True, group=4)),
    "wgmma_float8_swap": (WORKLOADS[8], schedule(
        swap=True, tile_m=128, tile_n=64, tile_k=128, group=1, blocks=0, stages=6
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    assert_golden(GOLDEN / f"{name}.cu", rendered(*GOLDEN_CASES[name]).text)


def test_golden_schedules_are_legal() -> None:
    for workload, chosen in GOLDEN_CASES.values():
        assert WGMMA.space(workload, GPU).violations(chosen.values) == []


def test_arrivals_at_barriers_are_no_barriers_of_memory() -> None:
    """With `.release` and `.cluster`, or a cluster's release, each is preceded by MEMBAR.ALL.GPU:
    0.4 microseconds a step on an H200."""
    text = rendered(SQUARE, schedule(cluster_m=2, cluster_n=2)).text
    assert re.findall(r"mbarrier\.arrive[\w.:]*", text)
    assert not re.search(r"mbarrier\.arrive[\w.:]*\.release", text)
    assert "barrier.cluster.arrive.relaxed" in text
