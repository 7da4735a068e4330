"""The decode template computes the right thing, emulated on the CPU; and compiles for GPUs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hopper_emulation
import numpy as np
import pytest
from attention_gpu_cases import GPU, assert_right_in_emulation, sampled
from cuda_emulation import emulate
from decode_cases import BFLOAT, FLOAT8, HALF, PAGED, WORKLOADS, schedule
from kernel_checks import assert_right_on, error_ratio
from nvrtc import compiled

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention import attention
from search_spaces.attention.decode import DECODE_ATTENTION
from search_spaces.attention.op import ATTENTION
from search_spaces.dialect import CUDA
from search_spaces.kernel import KernelSource, Launch

TEXTS = Path(__file__).parents[3] / "search_spaces"
ALL = WORKLOADS + PAGED + FLOAT8


def _alone(chosen: Schedule) -> bool:
    return bool(chosen["cluster"] == 1)


@pytest.mark.parametrize("workload", ALL, ids=str)
def test_right_in_emulation(workload: Workload, tmp_path: Path) -> None:
    (chosen,) = sampled(DECODE_ATTENTION, workload, 1, seed=len(str(workload)), keep=_alone)
    assert_right_in_emulation(DECODE_ATTENTION, workload, chosen, tmp_path)


@pytest.mark.parametrize(
    "knobs",
    [
        {"splits": 6, "warps_keys": 2},
        {"splits": 8, "warps_keys": 1, "even_parts": False, "stages": 2},
        {"warps_rows": 2, "warps_keys": 2, "q_registers": False},
        {"warp_rows": 32, "warps_keys": 2, "tile_keys": 32, "lazy_rescale": True},
        {"warp_rows": 32, "warps_rows": 2, "warps_keys": 2, "stages": 2, "q_registers": False},
        {"splits": 2, "warps_keys": 8, "stages": 2, "lazy_rescale": True, "resident": 2},
    ],
    ids=str,
)
def test_every_way_to_cut_rows_and_keys(knobs: dict[str, Any], tmp_path: Path) -> None:
    """Parts and warps without keys, more tiles than stages, lengths that end within a tile."""
    workload = attention(
        heads=10, kv_heads=2, q_len=8, kv_lens=(300, 1, 0, 97), head_dim=32, causal=True, **HALF
    )
    chosen = schedule(**knobs)
    assert DECODE_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    assert_right_in_emulation(DECODE_ATTENTION, workload, chosen, tmp_path)


@pytest.mark.parametrize(
    "knobs",
    [
        {"cluster": 2, "warps_keys": 2},
        {"cluster": 4, "warps_keys": 1, "splits": 2, "stages": 2},
        {"cluster": 4, "warps_rows": 2, "warps_keys": 1, "even_parts": False, "stages": 2},
    ],
    ids=str,
)
def test_blocks_of_a_cluster_merge_what_they_found(knobs: dict[str, Any], tmp_path: Path) -> None:
    """Blocks, and whole clusters, without keys."""
    workload = attention(
        heads=8,
        kv_heads=2,
        q_len=5,
        kv_lens=(430, 0, 77),
        page_size=8,
        head_dim=32,
        causal=True,
        lse=True,
        **HALF,
    )
    chosen = schedule(**knobs)
    assert DECODE_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    source = DECODE_ATTENTION.render(workload, chosen, CUDA)
    assert max(_ratios(workload, source, hopper_emulation.emulate, tmp_path)) <= 1


def test_a_block_that_reads_too_early_would_be_seen(tmp_path: Path) -> None:
    workload = attention(heads=4, kv_heads=1, q_len=1, kv_len=300, head_dim=32, **HALF)
    source = DECODE_ATTENTION.render(workload, schedule(cluster=4, warps_keys=1), CUDA)
    meeting = "    meet_in_cluster();\n    const OfBlocks"
    assert source.text.count(meeting) == 1
    text = source.text.replace(meeting, "    __syncthreads();\n    const OfBlocks")
    broken = replace(source, text=text)
    assert max(_ratios(workload, broken, hopper_emulation.emulate, tmp_path)) > 1


def _ratios(
    workload: Workload, source: KernelSource, emulate: Callable[..., Any], directory: Path
) -> Iterator[float]:
    """Errors as shares of what is allowed, whether threads and copies hurry or dawdle."""
    inputs = ATTENTION.inputs(workload, 0)
    arrays = {array.name: array for array in source.arrays}
    for dawdle in (False, True):
        outputs = emulate(source, inputs, directory, reversed=dawdle, late=dawdle)
        found = {
            name: dtypes.decode(arrays[name].dtype, stored).reshape(arrays[name].shape)
            for name, stored in outputs.items()
        }
        yield error_ratio(workload, inputs, found)


@pytest.mark.parametrize(
    "workload",
    [
        WORKLOADS[1],
        attention(
            heads=3,
            q_len=1,
            kv_lens=(77, 0, 130),
            page_size=8,
            head_dim=40,
            window=50,
            bias="alibi",
            lse=True,
            **HALF,
        ),
        attention(heads=2, q_len=1, kv_lens=(77, 200), head_dim=256, softcap=3.0, **BFLOAT),
        attention(heads=4, q_len=1, kv_len=90, head_dim=8, bias="head", layout="bshd", **BFLOAT),
    ],
    ids=str,
)
def test_a_single_row_without_tensor_cores(workload: Workload, tmp_path: Path) -> None:
    chosen = schedule(use_mma=False, warps_keys=2, stages=2)
    assert DECODE_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    assert_right_in_emulation(DECODE_ATTENTION, workload, chosen, tmp_path)


def test_parts_are_added_in_a_fixed_order(tmp_path: Path) -> None:
    workload = attention(heads=4, kv_heads=1, q_len=1, kv_len=1000, head_dim=64, **HALF)
    source = DECODE_ATTENTION.render(workload, schedule(splits=4), CUDA)
    inputs = ATTENTION.inputs(workload, 0)
    first, again = (
        emulate(source, inputs, tmp_path, reversed=order)["out"] for order in (False, True)
    )
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize(
    ("knobs", "missing"),
    [
        ({}, "        copy_wait<STAGES - 2>();\n"),  # a tile that is multiplied before it has come
        ({}, "        meet_at_ring();\n"),  # one that others have copied, or still use
        (  # queries that other warps have not copied yet
            {"q_registers": False, "warps_rows": 1},
            "        copy_wait<STAGES - 2>();  // it came with the first tile\n"
            "        __syncthreads();\n",
        ),
        ({}, "    copy_wait<0>();\n    __syncthreads();\n    float"),  # sums where tiles still lie
        ({}, "    __syncthreads();\n    const OfWarps"),  # sums that are not there yet
    ],
)
def test_a_missing_barrier_would_be_seen(
    knobs: dict[str, Any], missing: str, tmp_path: Path
) -> None:
    workload = attention(heads=8, kv_heads=1, q_len=4, kv_len=700, head_dim=64, **HALF)
    source = DECODE_ATTENTION.render(
        workload, schedule(**({"warps_rows": 2, "warps_keys": 2} | knobs)), CUDA
    )
    assert source.text.count(missing) == 1
    kept = re.sub(r"(copy_wait<[^;]*|meet_at_ring\(\)|__syncthreads\(\));", "", missing)
    broken = replace(source, text=source.text.replace(missing, kept))
    assert max(_ratios(workload, broken, emulate, tmp_path)) > 1


# ---- Compiled for GPUs

FEATURES: dict[str, Any] = {"window": 1024, "causal": True, "bias": "alibi", "softcap": 9.0}
LENGTHS: dict[str, Any] = {"heads": 32, "kv_heads": 8, "kv_lens": (4096, 100) * 8}


@pytest.mark.parametrize(
    ("arch", "given", "knobs"),
    [
        ("sm_80", {"kv_len": 4096}, {"stages": 4}),
        ("sm_90a", {"kv_len": 4096}, {"stages": 2, "resident": 3, "splits": 2}),
        ("sm_100a", {"kv_len": 4096}, {"stages": 3, "tile_keys": 32, "cluster": 8}),
        (
            "sm_90a",
            {"kv_len": 4096, "kv_heads": 32},
            {"use_mma": False, "resident": 3, "stages": 2},
        ),
        ("sm_90a", {"kv_len": 4096, "q_len": 16}, {"warps_rows": 2, "q_registers": False}),
        ("sm_90a", {**LENGTHS, "page_size": 16}, {"resident": 2}),
        ("sm_89", {**LENGTHS, "page_size": 16, "kv_dtype": "float8_e4m3"}, {"tile_keys": 32}),
        (
            "sm_90a",
            {
                **LENGTHS,
                "window": 1024,
                "causal": True,
                "bias": "alibi",
                "softcap": 9.0,
                "q_len": 4,
            },
            {"splits": 4, "q_registers": False, "resident": 2},
        ),
        ("sm_90a", {"kv_len": 4096, "head_dim": 256}, {"q_registers": False, "stages": 2}),
        ("sm_90a", {"kv_len": 4096, "head_dim": 64, "q_len": 8}, {"warp_rows": 32, "resident": 2}),
    ],
    ids=str,
)
def test_sums_live_in_registers(arch: str, given: dict[str, Any], knobs: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"heads": 32, "kv_heads": 8, "q_len": 1, "head_dim": 128, **BFLOAT}
    workload = attention(**(plain | given))
    chosen = schedule(**knobs)
    assert DECODE_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    source = DECODE_ATTENTION.render(workload, chosen, CUDA)
    result = compiled(source, arch)
    assert "warning" not in result.log
    assert result.spilled_bytes["attend"] == 0 and result.stack_bytes["attend"] == 0
    threads = source.launches[0].group_size[0] * chosen["resident"]
    assert result.registers["attend"] * threads <= 65536


@pytest.mark.parametrize("workload", (*WORKLOADS[1::4], PAGED[2], FLOAT8[1]), ids=str)
def test_awkward_sizes_compile_without_a_warning(workload: Workload) -> None:
    (chosen,) = sampled(DECODE_ATTENTION, workload, 1, seed=1, keep=_alone)
    source = DECODE_ATTENTION.render(workload, chosen, CUDA)
    result = compiled(source, "sm_80")
    assert "warning" not in result.log
    assert set(result.registers) == {launch.kernel for launch in source.launches}
    assert not any(result.spilled_bytes.values())


def test_the_kernel_text_compiles_with_its_defaults() -> None:
    """float16, and all else as sequence.h has it."""
    names = (
        "dialects/cuda.h",
        "dialects/tensor_core.h",
        "attention/exponentials.h",
        "attention/exponentials.h",
        "attention/sequence.h",
        "attention/decode_schedule.h",
        "attention/warp_tiles.h",
        "attention/warp_softmax.h",
        "attention/warp_products.h",
        "attention/decode_mma.h",
        "attention/decode.cu",
    )
    text = "\n".join((TEXTS / name).read_text() for name in names)
    workload = attention(heads=8, q_len=1024, head_dim=64, dtype="float16")
    launch = Launch("attend", (8, 1, 1), (128, 1, 1), ("q", "k", "v", "out"))
    source = KernelSource("cuda", text, (launch,), ATTENTION.arrays(workload))
    assert "attend" in compiled(source, "sm_80").registers


def test_every_knob_has_a_default_and_a_comment_in_the_text() -> None:
    text = (TEXTS / "attention" / "decode_schedule.h").read_text()
    for knob in DECODE_ATTENTION.space(WORKLOADS[0], GPU).knobs:
        name = knob.name.upper()
        assert re.search(rf"#ifndef {name}\n#define {name} \d+ +// \w+", text), name


# ---- On devices


@pytest.fixture(scope="module", params=devices.names("cuda"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("workload", ALL, ids=str)
def test_right_on_every_device(backend: Backend, workload: Workload) -> None:
    if reason := DECODE_ATTENTION.rejects(workload, backend.target):
        pytest.skip(reason)
    space = DECODE_ATTENTION.space(workload, backend.target)
    for chosen in space.sample(6, np.random.default_rng(0)):
        assert_right_on(backend, DECODE_ATTENTION, workload, chosen)
