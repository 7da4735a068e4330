"""The decode template without a device: conformance, reasons, statistics, kept texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attention_gpu_cases import GPU
from decode_cases import BFLOAT, FLOAT8, HALF, LLAMA, PAGED, WORKLOADS, schedule
from targets import gpu

from autotune.testing.template import TemplateConformance
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.attention import attention
from search_spaces.attention.decode import DECODE_ATTENTION
from search_spaces.dialect import CUDA
from search_spaces.template import Template

GOLDEN = Path(__file__).parents[1] / "golden"


class TestDecode(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        return DECODE_ATTENTION

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return (LLAMA, *WORKLOADS, *PAGED, *FLOAT8)

    @pytest.fixture
    def target(self) -> Target:
        return GPU


def test_it_is_registered() -> None:
    assert registry.template("attention", "decode") is DECODE_ATTENTION


@pytest.mark.parametrize(
    ("workload", "target", "reason"),
    [
        (LLAMA, gpu("sm_75"), "not CUDA from sm_80 on"),
        (LLAMA, Target.of("opencl", "Some GPU", "any", {}), "not CUDA from sm_80 on"),
        (
            attention(heads=1, q_len=1, kv_len=9, head_dim=8),
            GPU,
            "float16 and bfloat16, not float32",
        ),
        (attention(heads=1, q_len=17, head_dim=8, **HALF), GPU, "at most 16 queries.*not 17"),
        (
            attention(heads=1, q_len=1, kv_len=9, head_dim=8, v_dim=12, **HALF),
            GPU,
            "v_dim must be a multiple of 8 up to 256, not 12; pad it",
        ),
        (
            attention(heads=1, q_len=1, kv_len=9, head_dim=264, **HALF),
            GPU,
            "head_dim must be a multiple of 8 up to 256, not 264",
        ),
        (
            attention(heads=1, q_len=1, kv_len=9, head_dim=256, kv_dtype="float8_e4m3", **BFLOAT),
            GPU,
            "registers, and a thread has 255; use bfloat16",
        ),
    ],
)
def test_what_it_cannot_do_is_rejected_in_words(
    workload: Workload, target: Target, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert DECODE_ATTENTION.rejects(workload, target) == ""


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"heads": 8, "q_len": 1}, (True, False)),
        ({"heads": 8, "q_len": 2}, (True,)),
        ({"heads": 8, "kv_heads": 4, "q_len": 1}, (True,)),
        ({"heads": 8, "q_len": 1, "kv_dtype": "float8_e5m2"}, (True,)),
        ({"heads": 8, "q_len": 1, "v_dim": 32}, (True,)),
    ],
)
def test_a_single_row_needs_no_tensor_cores(
    given: dict[str, Any], paths: tuple[object, ...]
) -> None:
    workload = attention(**{"kv_len": 512, "head_dim": 128, **HALF, **given})
    space = DECODE_ATTENTION.space(workload, GPU)
    assert next(knob.values for knob in space.knobs if knob.name == "use_mma") == paths


def test_clusters_are_offered_where_there_are_some() -> None:
    def choices(arch: str) -> tuple[object, ...]:
        space = DECODE_ATTENTION.space(LLAMA, gpu(arch))
        return next(knob.values for knob in space.knobs if knob.name == "cluster")

    assert choices("sm_89") == (1,)
    assert choices("sm_100a") == (1, 2, 4, 8)


@pytest.mark.parametrize("heads", [1, 4, 8, 64])
@pytest.mark.parametrize("q_len", [1, 4, 16])
def test_every_number_of_rows_is_served(heads: int, q_len: int) -> None:
    workload = attention(heads=heads, kv_heads=1, q_len=q_len, kv_len=4096, head_dim=128, **HALF)
    assert DECODE_ATTENTION.rejects(workload, GPU) == ""
    assert DECODE_ATTENTION.space(workload, GPU).size > 100


def test_parts_are_offered_that_fill_the_device_exactly() -> None:
    """8 heads of K on 132 units: 16, 33, 49 and 66 parts for 1 to 4 blocks on each."""
    workload = attention(heads=32, kv_heads=8, q_len=1, kv_len=32768, head_dim=128, **HALF)
    splits = next(k for k in DECODE_ATTENTION.space(workload, GPU).knobs if k.name == "splits")
    assert {16, 33, 49, 66} <= set(splits.values)


@pytest.mark.parametrize(
    ("workload", "target", "knobs", "reason"),
    [
        (LLAMA, GPU, {"warps_rows": 4, "warps_keys": 8}, "at most 16 warps; 4x8 are more"),
        (LLAMA, GPU, {"stages": 8, "resident": 2}, "bytes of shared memory for 2 block"),
        (LLAMA, gpu(registers=8192), {}, "a unit has 8192 registers for 1 block"),
        (WORKLOADS[-1], GPU, {}, "at most 255 registers"),
        (WORKLOADS[1], GPU, {"use_mma": False, "q_registers": False}, "take Q from registers"),
        (LLAMA, GPU, {"warp_rows": 32}, "half or more lie beyond row 4"),
        (WORKLOADS[5], GPU, {}, "half or more lie beyond the 4 that are seen"),
        (
            LLAMA,
            GPU,
            {"tile_keys": 32, "splits": 48, "stages": 2},
            "48 parts by 1.*without work",
        ),
        (LLAMA, GPU, {"splits": 8, "cluster": 4, "stages": 4}, "fewer tiles than 4 stages"),
        (PAGED[0], GPU, {"even_parts": False}, "one piece is as large as its sequence"),
        (LLAMA, gpu(memory_bytes=2**22), {"splits": 24}, "parts exceed 4194304 bytes"),
    ],
)
def test_a_broken_limit_is_named(
    workload: Workload, target: Target, knobs: dict[str, Any], reason: str
) -> None:
    violations = DECODE_ATTENTION.space(workload, target).violations(schedule(**knobs).values)
    assert any(re.search(reason, violation) for violation in violations), violations


def test_statistics_of_a_schedule_worked_out_by_hand() -> None:
    """Tiles of 4 x 16 keys; 16 x 8 heads in 2 parts of 32 tiles; 3 warps' blocks on a unit."""
    chosen = schedule(splits=2, stages=4)
    assert chosen in DECODE_ATTENTION.space(LLAMA, GPU)
    stats = DECODE_ATTENTION.stats(LLAMA, chosen, GPU)
    assert (stats.groups, stats.threads, stats.launches) == (2 * 8 * 16, 4 * 32, 2)
    tile_bytes = 16 * (128 + 128) * 2
    assert stats.shared_bytes == 4 * 4 * tile_bytes
    assert stats.scratch_bytes == 2 * 16 * 32 * (128 + 2) * 4
    kv_bytes = 16 * 8 * 4096 * 256 * 2
    assert stats.dram_bytes == kv_bytes + 2 * 2 * 16 * 32 * 128 + 2 * stats.scratch_bytes
    assert stats.l2_bytes == kv_bytes + 2 * stats.scratch_bytes
    assert stats.flops == 2 * 16 * 8 * 16 * 4096 * 256 + 2 * 2 * 16 * 32 * 128
    # 64 sums, 8 scores, 32 of Q, 4 of rows; and 52 others
    assert stats.registers == 64 + 8 + 32 + 4 + 52
    extra = dict(stats.extra)
    assert extra["warp_flight_bytes"] == 3 * tile_bytes
    assert extra["resident_warps"] == 4  # shared memory has room for one block
    assert extra["flight_bytes"] == 4 * 3 * tile_bytes
    assert extra["waves"] == 256 / 132
    assert extra["rounds"] == 32
    assert extra["row_share"] == 4 / 16


GOLDEN_CASES = {
    "decode_bfloat16": (LLAMA, schedule(stages=4)),
    "decode_paged_split": (PAGED[0], schedule(splits=2, even_parts=False, warps_keys=2)),
    "decode_cluster": (LLAMA, schedule(cluster=4, tile_keys=32)),
    "decode_vector": (WORKLOADS[1], schedule(use_mma=False, warps_keys=2, stages=2)),
    "decode_float8": (FLOAT8[0], schedule(tile_keys=32, warps_keys=2, stages=2)),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_kept_texts(assert_golden: Callable[[Path, str], None], name: str) -> None:
    workload, chosen = GOLDEN_CASES[name]
    assert DECODE_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    assert_golden(GOLDEN / f"{name}.cu", DECODE_ATTENTION.render(workload, chosen, CUDA).text)
