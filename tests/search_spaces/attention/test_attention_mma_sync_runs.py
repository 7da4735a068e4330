"""The mma_sync template of attention computes the right thing, emulated; and compiles for GPUs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attention_gpu_cases import GPU, assert_right_in_emulation, sampled
from attention_gpu_cases import mma_sync_schedule as schedule
from cuda_emulation import EmulationError, emulate
from kernel_checks import error_ratio
from nvrtc import compiled

from records.schedule import Schedule
from records.workload import Workload
from search_spaces.attention import attention
from search_spaces.attention.mma_sync import MMA_SYNC_ATTENTION
from search_spaces.attention.op import ATTENTION
from search_spaces.dialect import CUDA
from search_spaces.kernel import KernelSource, Launch

TEXTS = Path(__file__).parents[3] / "search_spaces"

HALF: dict[str, Any] = {"dtype": "float16"}
BFLOAT: dict[str, Any] = {"dtype": "bfloat16"}
GROUPED: dict[str, Any] = {"heads": 4, "kv_heads": 2}

# Together: every feature of the op; head dimensions that pad, that copy by 16, 8, 4 or no bytes.
WORKLOADS = (
    attention(heads=2, q_len=64, head_dim=64, **HALF),
    attention(
        batch=2, heads=3, q_len=37, kv_len=91, head_dim=80, v_dim=96, causal=True, layout="bshd",
        lse=True, **BFLOAT,
    ),
    attention(**GROUPED, q_len=45, kv_len=29, head_dim=40, causal=True, lse=True, **HALF),
    attention(**GROUPED, q_len=70, kv_len=200, head_dim=32, window=33, softcap=20.0, **BFLOAT),
    attention(
        **GROUPED, q_len=70, kv_len=130, head_dim=32, window=20, causal=True, bias="alibi", **HALF
    ),
    attention(batch=2, heads=2, q_len=33, kv_len=65, head_dim=17, v_dim=19, bias="full", **HALF),
    attention(
        heads=2, q_len=33, kv_len=50, head_dim=20, v_dim=26, bias="head", causal=True, **BFLOAT
    ),
    attention(
        **GROUPED, q_lens=(5, 0, 33, 17), kv_lens=(9, 4, 70, 0), head_dim=64, layout="bshd",
        causal=True, lse=True, **HALF,
    ),
    attention(
        **GROUPED, q_lens=(5, 33), kv_lens=(9, 70), head_dim=48, layout="bshd", page_size=8,
        **BFLOAT,
    ),
    attention(
        **GROUPED, q_len=9, kv_lens=(9, 100), head_dim=64, page_size=16, causal=True,
        kv_dtype="float8_e4m3", **HALF,
    ),
    attention(
        heads=2, kv_heads=1, q_len=20, kv_lens=(50, 33), head_dim=80, v_dim=112,
        kv_dtype="float8_e5m2", lse=True, softcap=10.0, **BFLOAT,
    ),
    attention(
        heads=2, q_len=40, kv_len=77, head_dim=31, v_dim=65, kv_dtype="float8_e4m3", window=9,
        **BFLOAT,
    ),
    attention(heads=1, q_len=1, head_dim=1, lse=True, **HALF),
)  # fmt: skip


def is_small(chosen: Schedule) -> bool:
    return bool(chosen["warps"] * chosen["warp_rows"] <= 64)


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_in_emulation(workload: Workload, tmp_path: Path) -> None:
    (chosen,) = sampled(MMA_SYNC_ATTENTION, workload, 1, keep=is_small)
    assert_right_in_emulation(MMA_SYNC_ATTENTION, workload, chosen, tmp_path)


@pytest.mark.parametrize(
    "knobs",
    [
        {"stages": 2, "q_registers": True, "backwards": True},
        {"stages": 3, "warp_rows": 32, "warps": 2, "polynomials": 4, "late_first": True},
        {"pack_heads": True, "splits": 4, "lazy_rescale": True},
        {"stages": 3, "half_steps": False, "backwards": True},
        {"stages": 2, "half_steps": False, "scores_ahead": True},
    ],
    ids=str,
)
def test_more_tiles_than_stages_and_more_warps_than_one(
    knobs: dict[str, Any], tmp_path: Path
) -> None:
    """Blocks of several warps that see different tiles; rows and keys that fill none."""
    workload = attention(
        **GROUPED, q_len=100, kv_len=117, head_dim=24, v_dim=40, causal=True, window=90, **HALF
    )
    chosen = schedule(tile_keys=16, **knobs)
    assert MMA_SYNC_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    assert_right_in_emulation(MMA_SYNC_ATTENTION, workload, chosen, tmp_path)


# ---- What a mistake would look like

STEPS = attention(heads=1, q_len=64, kv_len=160, head_dim=32, **HALF)
SYNC = "__syncthreads();\n"
FIRST_WAIT = f"copy_wait<HALF_STEPS ? 2 * STAGES - 2 : STAGES - 2>();\n        {SYNC}"
SECOND_WAIT = f"copy_wait<2 * STAGES - 2>();\n            {SYNC}"
WAIT_AHEAD = f"copy_wait<STAGES - 2>();\n        {SYNC}"
LAST_WAIT = f"copy_wait<0>();\n    {SYNC}"
AHEAD = {"stages": 2, "half_steps": False, "scores_ahead": True}


def worst_ratio(source: KernelSource, workload: Workload, directory: Path) -> float:
    inputs = ATTENTION.inputs(workload, 0)
    return max(
        error_ratio(workload, inputs, emulate(source, inputs, directory, reversed=late, late=late))
        for late in (False, True)
    )


@pytest.mark.parametrize(
    ("knobs", "wait"),
    [
        ({"stages": 1}, FIRST_WAIT),
        ({"stages": 1}, SECOND_WAIT),
        ({"stages": 2, "half_steps": False}, FIRST_WAIT),
        (AHEAD, WAIT_AHEAD),
        (AHEAD, LAST_WAIT),
    ],
    ids=["for K", "for V", "for both", "for K ahead", "for the output"],
)
def test_a_missing_barrier_would_be_seen(knobs: dict[str, Any], wait: str, tmp_path: Path) -> None:
    source = MMA_SYNC_ATTENTION.render(STEPS, schedule(q_registers=True, **knobs), CUDA)
    assert source.text.count(wait) == 1
    assert worst_ratio(source, STEPS, tmp_path) <= 1
    broken = replace(source, text=source.text.replace(wait, wait.replace(SYNC, "\n")))
    assert worst_ratio(broken, STEPS, tmp_path) > 1


def test_a_write_beyond_the_rows_would_be_seen(tmp_path: Path) -> None:
    workload = attention(heads=1, q_len=50, head_dim=32, **HALF)
    source = MMA_SYNC_ATTENTION.render(workload, schedule(), CUDA)
    guard = "if (row < place.s.queries * ROW_HEADS && column < V_DIM) {"
    assert source.text.count(guard) == 1
    broken = replace(source, text=source.text.replace(guard, "if (column < V_DIM) {"))
    with pytest.raises(EmulationError):
        emulate(broken, ATTENTION.inputs(workload, 0), tmp_path)


# ---- Compiled for GPUs


@pytest.mark.parametrize(
    ("arch", "given", "knobs"),
    [
        ("sm_80", {"head_dim": 128, "causal": True}, {"warp_rows": 32, "tile_keys": 64}),
        ("sm_80", {"head_dim": 128, "causal": True}, {"tile_keys": 64} | AHEAD),
        ("sm_90a", {"head_dim": 128, "window": 1024}, {"warps": 8, "tile_keys": 64}),
        ("sm_100a", {"head_dim": 64}, {"warp_rows": 32, "tile_keys": 64, "q_registers": True}),
        ("sm_89", {"head_dim": 256, "causal": True}, {"tile_keys": 32}),
        ("sm_90a", {"head_dim": 80, "bias": "alibi", "causal": True}, {"stages": 2}),
        (
            "sm_89",
            {"head_dim": 128, "kv_dtype": "float8_e4m3", "page_size": 16},
            {"q_registers": True, "stages": 3},
        ),
    ],
    ids=str,
)
def test_sums_and_scores_live_in_registers(
    arch: str, given: dict[str, Any], knobs: dict[str, Any]
) -> None:
    workload = attention(batch=2, heads=16, q_len=4096, dtype="bfloat16", **given)
    chosen = schedule(**knobs)
    assert MMA_SYNC_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    result = compiled(MMA_SYNC_ATTENTION.render(workload, chosen, CUDA), arch)
    assert "warning" not in result.log
    assert result.spilled_bytes["attend"] == 0 and result.stack_bytes["attend"] == 0


@pytest.mark.parametrize(
    ("arch", "given"),
    [
        ("sm_80", {"head_dim": 128, "causal": True}),
        ("sm_89", {"head_dim": 64, "kv_dtype": "float8_e4m3", "softcap": 30.0}),
        ("sm_90a", {"head_dim": 128, "bias": "head", "window": 200}),
        ("sm_100a", {"head_dim": 256, "bias": "alibi", "lse": True}),
    ],
    ids=str,
)
def test_the_largest_tiles_that_the_space_has_hardly_spill(
    arch: str, given: dict[str, Any]
) -> None:
    workload = attention(batch=4, heads=16, kv_heads=4, q_len=4096, **HALF, **given)
    drawn = sampled(MMA_SYNC_ATTENTION, workload, 200)
    needs = {each: MMA_SYNC_ATTENTION.stats(workload, each, GPU).registers for each in drawn}
    largest = max(drawn, key=needs.__getitem__)
    result = compiled(MMA_SYNC_ATTENTION.render(workload, largest, CUDA), arch)
    assert "warning" not in result.log
    assert result.spilled_bytes["attend"] <= 128


@pytest.mark.parametrize(
    ("workload", "arch"),
    [(WORKLOADS[1], "sm_80"), (WORKLOADS[5], "sm_90a"), (WORKLOADS[10], "sm_100a")],
    ids=str,
)
def test_awkward_sizes_compile_without_a_warning(workload: Workload, arch: str) -> None:
    (chosen,) = sampled(MMA_SYNC_ATTENTION, workload, 1, seed=1)
    source = MMA_SYNC_ATTENTION.render(workload, chosen, CUDA)
    result = compiled(source, arch)
    assert "warning" not in result.log
    assert set(result.registers) == {launch.kernel for launch in source.launches}


def test_the_kernel_text_compiles_with_its_defaults() -> None:
    """As a person would compile it: with the headers where the text includes them."""
    text = (TEXTS / "attention" / "mma_sync.cu").read_text()
    for line in re.findall(r'#include "(.*)"\n', text):
        included = (TEXTS / "attention" / line).read_text() if "combine" not in line else ""
        text = text.replace(f'#include "{line}"\n', included)
    workload = attention(heads=8, q_len=1024, head_dim=64, dtype="float16")
    launch = Launch("attend", (64, 1, 1), (128, 1, 1), ("q", "k", "v", "out"))
    source = KernelSource("cuda", text, (launch,), ATTENTION.arrays(workload))
    assert "attend" in compiled(source, "sm_80").registers


def test_every_knob_has_a_default_and_a_comment_in_the_text() -> None:
    text = (TEXTS / "attention" / "mma_sync.cu").read_text()
    for knob in MMA_SYNC_ATTENTION.space(WORKLOADS[0], GPU).knobs:
        name = knob.name.upper()
        assert re.search(rf"#ifndef {name}\n#define {name} \d+ +// \w+", text), name
