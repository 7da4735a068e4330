"""The wgmma attention computes the right thing: emulated on the CPU, and on GPUs that there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_emulation import EmulationError
from hopper_emulation import emulate
from kernel_checks import assert_right_on, error_ratio
from wgmma_attention_cases import ALONE, PARTS, WORKLOADS, gpu, rendered, schedule

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention import attention
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.wgmma import WGMMA_ATTENTION
from search_spaces.kernel import KernelSource

FEW_UNITS = gpu(units=3)
HALF: dict[str, Any] = {"dtype": "float16"}
BFLOAT: dict[str, Any] = {"dtype": "bfloat16"}
GROUPED: dict[str, Any] = {"heads": 4, "kv_heads": 2}
PLAIN: dict[str, Any] = {"overlap": False, "pingpong": False}


def ratio_in_emulation(
    source: KernelSource, workload: Workload, directory: Path, late: bool
) -> float:
    inputs = ATTENTION.inputs(workload, 0)
    outputs = emulate(source, inputs, directory, late=late)
    found = {
        array.name: dtypes.decode(array.dtype, outputs[array.name]).reshape(array.shape)
        for array in source.arrays
        if array.role == "output"
    }
    return error_ratio(workload, inputs, found)


def assert_right_in_emulation(workload: Workload, chosen: Schedule, directory: Path) -> None:
    """The same right result whether copies and products hurry or dawdle."""
    assert WGMMA_ATTENTION.rejects(workload, FEW_UNITS) == ""
    assert WGMMA_ATTENTION.space(workload, FEW_UNITS).violations(chosen.values) == []
    source = rendered(workload, chosen)
    for late in (False, True):
        ratio = ratio_in_emulation(source, workload, directory, late)
        assert ratio <= 1, f"{workload}: {chosen}: error is {ratio:.3g} times what is allowed"


@pytest.mark.parametrize(
    ("workload", "knobs"),
    [
        (attention(heads=2, q_len=130, kv_len=200, head_dim=64, **BFLOAT), {"tile_n": 64}),
        (
            attention(heads=1, q_len=130, kv_len=200, head_dim=80, causal=True, lse=True, **HALF),
            {"tile_n": 48, "query": "registers", "stages": 3},
        ),
        (  # more queries than keys: some rows see none
            attention(heads=1, q_len=130, kv_len=70, head_dim=64, causal=True, lse=True, **BFLOAT),
            {"tile_n": 32, "lazy": True, "polynomials": 4},
        ),
        (
            attention(
                batch=2, **GROUPED, q_len=70, kv_len=150, head_dim=64, v_dim=40, window=50,
                layout="bshd", **BFLOAT,
            ),
            {"tile_n": 48, "pack_heads": True, "together": 2},
        ),
        (
            attention(
                heads=2, q_lens=(70, 0, 5, 9), kv_lens=(150, 20, 33, 0), head_dim=64, causal=True,
                lse=True, layout="bshd", **BFLOAT,
            ),
            {"tile_n": 48, **ALONE, "blocks": 6, "resident": 2},
        ),
        (
            attention(
                batch=2, heads=2, q_len=70, kv_len=150, kv_lens=(40, 150), head_dim=64,
                softcap=20.0, **HALF,
            ),
            {"tile_n": 48, "store": "direct"},
        ),
        (
            attention(
                batch=2, heads=2, kv_heads=1, q_len=3, kv_lens=(40, 150), head_dim=64,
                page_size=16, lse=True, **HALF,
            ),
            {"tile_n": 48, **ALONE, **PARTS, "pack_heads": True},
        ),
        (
            attention(
                **GROUPED, q_len=20, kv_lens=(90, 0), head_dim=64, page_size=64, layout="bshd",
                causal=True, **BFLOAT,
            ),
            {"tile_n": 32, **ALONE, "resident": 2},
        ),
        (
            attention(heads=2, q_len=70, kv_len=90, head_dim=64, bias="full", lse=True, **BFLOAT),
            {"tile_n": 48, **PLAIN, "query": "registers"},
        ),
        (
            attention(heads=2, q_len=70, kv_len=90, head_dim=24, bias="alibi", causal=True, **HALF),
            {"tile_n": 64, **PLAIN, "lazy": True},
        ),
        (
            attention(
                heads=3, q_len=300, head_dim=32, v_dim=136, causal=True, window=100, **BFLOAT
            ),
            {"tile_n": 64, "blocks": 3, "consumers": 2},
        ),
        (
            attention(heads=1, q_len=300, kv_len=90, head_dim=128, **HALF),
            {"tile_n": 32, "consumers": 3, "buffers": 2},
        ),
        (
            attention(heads=1, q_len=66, kv_len=300, head_dim=256, **BFLOAT),
            {"tile_n": 80, "buffers": 4, "stages": 1},
        ),
        (
            attention(heads=6, q_len=200, kv_len=60, head_dim=64, **BFLOAT),
            {"tile_n": 64, "blocks": 6, "resident": 2, **ALONE, "stages": 1},
        ),
        (
            attention(heads=3, q_len=300, kv_len=150, head_dim=64, causal=True, lse=True, **HALF),
            {"tile_n": 48, "cluster": 2},
        ),
        (
            attention(
                **GROUPED, q_lens=(140, 0, 200), kv_lens=(150, 20, 33), head_dim=72,
                layout="bshd", **BFLOAT,
            ),
            {"tile_n": 32, "cluster": 2, **ALONE, "blocks": 6, "resident": 2},
        ),
    ],
)  # fmt: skip
def test_right_in_emulation(tmp_path: Path, workload: Workload, knobs: dict[str, Any]) -> None:
    assert_right_in_emulation(workload, schedule(**knobs), tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("barrier_wait(empty, phase);", ""),
        ("end_scores<1>();", "end_scores<2>();"),
        ("products_wait<PENDING>();\n        settle(out);", "products_wait<3>();"),
        ("            rescale(out, softmax);\n        }\n        release", "        }\n release"),
        ("if (threadIdx.x % 32 == 0) tma_await_reads<BUFFERS - 1>();", ""),
    ],
)
def test_emulation_notices_what_is_missing(tmp_path: Path, right: str, wrong: str) -> None:
    workload = attention(heads=4, q_len=200, kv_len=200, head_dim=64, causal=True, **BFLOAT)
    source = rendered(workload, schedule(tile_n=48, blocks=3))
    assert source.text.count(right) == 1
    broken = replace(source, text=source.text.replace(right, wrong))
    try:
        ratio = ratio_in_emulation(broken, workload, tmp_path, late=True)
    except EmulationError:
        return
    assert ratio > 1


@pytest.fixture(scope="module", params=devices.names("cuda"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_on_every_device(backend: Backend, workload: Workload) -> None:
    if reason := WGMMA_ATTENTION.rejects(workload, backend.target):
        pytest.skip(reason)
    space = WGMMA_ATTENTION.space(workload, backend.target)
    for chosen in space.sample(6, np.random.default_rng(0)):
        assert_right_on(backend, WGMMA_ATTENTION, workload, chosen)
