"""The wgmma template computes the right thing: emulated on the CPU, and on GPUs where there are."""

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
from wgmma_cases import GPU, LIMITS, WORKLOADS, rendered, schedule

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.matmul import matmul
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.wgmma import WGMMA

FEW_UNITS = Target.of(GPU.backend, GPU.device, GPU.arch, {**LIMITS, "units": 4})


def assert_right_in_emulation(workload: Workload, chosen: Schedule, directory: Path) -> None:
    """The same right result whether copies and products hurry or dawdle."""
    assert WGMMA.space(workload, FEW_UNITS).violations(chosen.values) == []
    source = rendered(workload, chosen)
    inputs = MATMUL.inputs(workload, 0)
    c = source.arrays[-1]
    for late in (False, True):
        outputs = emulate(source, inputs, directory, late=late)
        found = {"c": dtypes.decode(c.dtype, outputs["c"]).reshape(c.shape)}
        ratio = error_ratio(workload, inputs, found)
        assert ratio <= 1, f"{workload}: {chosen}: error is {ratio:.3g} times what is allowed"


ALONE: dict[str, Any] = {"blocks": 0, "group": 1, "tile_n": 64, "stages": 2}
SMALL: dict[str, Any] = {**ALONE, "tile_m": 64, "consumers": 1}
STAYING: dict[str, Any] = {"blocks": 4, "group": 1, "stages": 3}
DIRECT: dict[str, Any] = {"store": "direct", "buffers": 1}
SHARED: dict[str, Any] = {"stream_k": True, **STAYING}


@pytest.mark.parametrize(
    ("workload", "knobs"),
    [
        (matmul(m=200, n=136, k=136, dtype="bfloat16", layout="nt", epilogue="bias,gelu"), ALONE),
        (matmul(m=200, n=136, k=136, dtype="float16", batch=2, epilogue="residual"), ALONE),
        (matmul(m=72, n=136, k=72, dtype="bfloat16", layout="tn"), SMALL),
        (matmul(m=72, n=136, k=264, dtype="float16", layout="tt"), {**ALONE, "tile_k": 128}),
        (matmul(m=65, n=131, k=72, dtype="float16", layout="nt"), {**SMALL, **DIRECT}),
        (
            matmul(m=17, n=136, k=264, dtype="bfloat16", layout="nt"),
            {**SMALL, "swap": True, "tile_n": 32},
        ),
        (
            matmul(m=3, n=131, k=72, dtype="float16", layout="nt", epilogue="alpha,bias"),
            {**SMALL, **DIRECT, "swap": True, "tile_n": 16},
        ),
        (
            matmul(m=40, n=70, k=72, dtype="float16", layout="nt", out_dtype="float32"),
            {**SMALL, "swap": True, **DIRECT},
        ),
        (
            matmul(m=40, n=72, k=72, dtype="float16", layout="nt", out_dtype="float32"),
            {**SMALL, "swap": True, "buffers": 1},
        ),
        (matmul(m=100, n=68, k=68, dtype="tf32", layout="nt"), {**SMALL, "tile_k": 32}),
        (
            matmul(m=100, n=80, k=272, dtype="float8_e4m3", layout="nt", scale="row_column"),
            {**SMALL, "tile_k": 128},
        ),
        (
            matmul(m=70, n=80, k=80, dtype="float8_e5m2", layout="nt", out_dtype="float8_e5m2"),
            {**SMALL, "tile_k": 128},
        ),
        (matmul(m=70, n=80, k=272, dtype="int8", layout="nt"), {**SMALL, "tile_k": 128}),
        (
            matmul(m=70, n=136, k=400, dtype="bfloat16", layout="nt", epilogue="bias"),
            {**SMALL, **DIRECT, "split_k": 3},
        ),
        (
            matmul(m=7, n=130, k=400, dtype="int8", layout="nt"),
            {**SMALL, **DIRECT, "split_k": 2, "swap": True, "tile_n": 16, "tile_k": 128},
        ),
        (matmul(m=400, n=200, k=200, dtype="bfloat16", layout="nt"), {**STAYING, "tile_n": 64}),
        (
            matmul(m=400, n=328, k=200, dtype="bfloat16", layout="nt"),
            {**STAYING, "pingpong": True, "tile_m": 64, "tile_n": 96, "buffers": 1},
        ),
        (
            matmul(m=300, n=200, k=328, dtype="bfloat16", layout="nt", epilogue="bias"),
            {**SHARED, "tile_n": 96},
        ),
        (
            matmul(m=300, n=264, k=328, dtype="bfloat16", layout="nn"),
            {**SHARED, "pingpong": True, "tile_m": 64, "tile_n": 64},
        ),
        (
            matmul(n=72, k=136, groups=(70, 0, 1, 130), dtype="bfloat16", layout="nt"),
            {**SMALL, **DIRECT},
        ),
        (
            matmul(
                n=136, k=144, groups=(5, 0, 20), dtype="int8", out_dtype="float32", layout="nt",
                scale="row_column",
            ),
            {**SMALL, **DIRECT, "swap": True, "tile_n": 16, "tile_k": 128, "split_k": 2},
        ),
        (
            matmul(m=200, n=200, k=72, dtype="float16", layout="nt"),
            {**ALONE, "tile_m": 192, "consumers": 3, "tile_n": 96},
        ),
        (
            matmul(m=264, n=264, k=72, dtype="float16", layout="nt", epilogue="beta,silu"),
            {**SMALL, "raster": "hilbert", "group": 4, "tile_n": 32},
        ),
        (matmul(m=264, n=200, k=136, dtype="bfloat16", layout="nt"), {**ALONE, "cluster_m": 2}),
        (matmul(m=264, n=200, k=136, dtype="bfloat16", layout="tn"), {**SMALL, "cluster_n": 4}),
        (
            matmul(m=264, n=264, k=328, dtype="float16", layout="nn", epilogue="bias"),
            {**SHARED, "cluster_m": 2, "tile_n": 64, "tile_m": 64, "consumers": 1},
        ),
        (
            matmul(m=200, n=200, k=136, dtype="float16", layout="nt", batch=2),
            {**SMALL, "cluster_m": 2, "cluster_n": 2},
        ),
        (
            matmul(m=520, n=264, k=264, dtype="float16", layout="nt"),
            {**STAYING, "cluster_m": 2, "tile_n": 32, "tile_m": 64, "pingpong": True},
        ),
        (
            matmul(n=200, k=136, groups=(5, 0, 40), dtype="bfloat16", layout="nt"),
            {**SMALL, **DIRECT, "cluster_m": 4, "swap": True, "tile_n": 32},
        ),
    ],
)  # fmt: skip
def test_right_in_emulation(tmp_path: Path, workload: Workload, knobs: dict[str, Any]) -> None:
    assert_right_in_emulation(workload, schedule(**knobs), tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("if (PINGPONG) barrier_wait(stages.turns + 8 * consumer, turn_phase);", ""),
        ("if (threadIdx.x % 32 == 0) tma_await_reads<BUFFERS - 1>();", ""),
        ("products_wait<1>();", ""),
        ("if (step > 0) stages.release(previous);", "stages.release(slot.stage);"),
    ],
)
def test_emulation_notices_what_is_missing(tmp_path: Path, right: str, wrong: str) -> None:
    workload = matmul(m=400, n=328, k=200, dtype="bfloat16", layout="nt")
    knobs = {**STAYING, "stages": 2, "pingpong": True, "tile_m": 64, "tile_n": 96, "buffers": 1}
    source = rendered(workload, schedule(**knobs))
    assert source.text.count(right) == 1
    inputs = MATMUL.inputs(workload, 0)
    broken = replace(source, text=source.text.replace(right, wrong))
    try:
        outputs = emulate(broken, inputs, tmp_path, late=True)
    except EmulationError:
        return
    found = {"c": dtypes.decode("bfloat16", outputs["c"])}
    assert error_ratio(workload, inputs, found) > 1


@pytest.fixture(scope="module", params=devices.names("cuda"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_on_every_device(backend: Backend, workload: Workload) -> None:
    if reason := WGMMA.rejects(workload, backend.target):
        pytest.skip(reason)
    space = WGMMA.space(workload, backend.target)
    for chosen in space.sample(6, np.random.default_rng(0)):
        assert_right_on(backend, WGMMA, workload, chosen)


@pytest.mark.parametrize(
    "knobs",
    [
        {"cluster_m": 2},
        {"cluster_n": 2, "pingpong": True, "tile_m": 64},
        {"cluster_m": 2, "cluster_n": 2, "stream_k": True},
        {"cluster_m": 4, "store": "direct", "buffers": 1, "split_k": 2},
        {"cluster_n": 4, "blocks": 128, "raster": "hilbert"},
    ],
)
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
def test_clusters_share_loads_on_every_device(
    backend: Backend, layout: str, knobs: dict[str, Any]
) -> None:
    workload = matmul(m=4160, n=4040, k=520, dtype="bfloat16", layout=layout)
    if reason := WGMMA.rejects(workload, backend.target):
        pytest.skip(reason)
    chosen = WGMMA.space(workload, backend.target).nearest(schedule(**knobs).values, keep=knobs)
    assert chosen is not None
    assert_right_on(backend, WGMMA, workload, chosen)
