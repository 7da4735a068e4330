"""The attention templates for CPUs compute the right thing: on devices, in Oclgrind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_cpu_cases import (
    AVX512,
    EVERY,
    FEW,
    ODD,
    SSE,
    decode_schedule,
    sampled,
    schedule,
)
from kernel_checks import assert_right_on, error_ratio
from oclgrind import simulate

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention import attention
from search_spaces.attention.cpu import CPU_ATTENTION
from search_spaces.attention.cpu_blocks import must_copy
from search_spaces.attention.cpu_decode import CPU_DECODE_ATTENTION
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.dialect import OPENCL
from search_spaces.kernel import KernelSource, Launch
from search_spaces.template import Template

FOLDER = Path("search_spaces/attention")
HEADERS = ("sequence.h", "cpu_vectors.h", "cpu_panels.h", "combine.h")


@pytest.fixture(scope="module", params=devices.names("opencl"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


def assert_right(
    backend: Backend, template: Template, workload: Workload, chosen: Schedule | None = None
) -> None:
    if reason := template.rejects(workload, backend.target):
        pytest.skip(reason)
    (sample,) = sampled(template, workload, backend.target, 1)
    assert_right_on(backend, template, workload, chosen or sample)


@pytest.mark.parametrize("workload", ODD[::2], ids=str)
def test_right_on_every_device(backend: Backend, workload: Workload) -> None:
    """With a schedule of the device's own space."""
    assert_right(backend, CPU_ATTENTION, workload)


# Tiles, blocks and panels that no extent is a multiple of.
_EDGES = schedule(
    lanes=8,
    tile_keys=7,
    tile_dims=5,
    panels=2,
    block_keys=21,
    unroll=4,
    copy_k=True,
    copy_v=True,
    heads_first=True,
)


@pytest.mark.parametrize("workload", ODD, ids=str)
def test_every_edge_at_once(backend: Backend, workload: Workload) -> None:
    assert_right(backend, CPU_ATTENTION, workload, _EDGES)


@pytest.mark.parametrize("workload", ODD[1::2], ids=str)
def test_parts_of_the_keys(backend: Backend, workload: Workload) -> None:
    """Some without keys."""
    chosen = schedule(lanes=8, tile_keys=5, block_keys=10, copy_k=True, copy_v=True, splits=7)
    assert_right(backend, CPU_ATTENTION, workload, chosen)


@pytest.mark.parametrize("workload", FEW[::3], ids=str)
def test_few_rows(backend: Backend, workload: Workload) -> None:
    assert_right(backend, CPU_DECODE_ATTENTION, workload)


@pytest.mark.parametrize("workload", FEW, ids=str)
def test_few_rows_in_parts(backend: Backend, workload: Workload) -> None:
    """Parts without keys too; tiles that rows and v_dim are no multiples of."""
    tile = {"lanes": 8, "tile_rows": 3, "tile_vectors": 3, "block_keys": 32}
    chosen = decode_schedule(**tile, fetch_rows=True, splits=5)
    assert_right(backend, CPU_DECODE_ATTENTION, workload, chosen)


@pytest.mark.parametrize(
    ("template", "q_len", "chosen"),
    [
        (CPU_ATTENTION, 40, schedule(block_keys=32)),
        (CPU_ATTENTION, 40, schedule(tile_vectors=1, panels=3, copy_v=True)),
        (CPU_DECODE_ATTENTION, 2, decode_schedule(tile_rows=2, tile_vectors=1, block_keys=32)),
    ],
    ids=["blocks of 32", "panels", "few rows"],
)
def test_scores_that_rise_far_along_the_keys(
    backend: Backend, template: Template, q_len: int, chosen: Schedule
) -> None:
    """What exponents refer to is raised again and again, in the midst of blocks and of tiles."""
    workload = attention(heads=1, q_len=q_len, kv_len=150, head_dim=16, lse=True)
    if reason := template.rejects(workload, backend.target):
        pytest.skip(reason)
    inputs = ATTENTION.inputs(workload, 0)
    growth = 1.0 + 0.5 * (np.arange(150, dtype=np.float32) // 7)
    inputs["q"] = abs(inputs["q"])
    inputs["k"] = abs(inputs["k"]) * growth[:, None]
    assert ATTENTION.reference(workload, inputs)["lse"].min() > 25  # of the first keys: about 4
    source = template.render(workload, chosen, OPENCL)
    execution = backend.prepare(source, backend.compile(source), inputs)
    try:
        execution.launch()
        assert error_ratio(workload, inputs, execution.outputs()) <= 1
    finally:
        execution.close()


def job(
    template: Template, workload: Workload, chosen: Schedule
) -> tuple[KernelSource, dict[str, Any]]:
    """For Oclgrind, which knows OpenCL's prefetch but not LLVM's."""
    source = template.render(workload, chosen, OPENCL)
    text = "#define FETCH(from) prefetch(from, 1)\n" + source.text
    return replace(source, text=text), ATTENTION.inputs(workload, 0)


def small_cases() -> list[tuple[Template, Workload, Schedule]]:
    """Vectors of 4 and tiles of 3, so that what there is, is more than one of each."""
    tile = {"lanes": 4, "tile_vectors": 1, "tile_keys": 3, "tile_dims": 3, "block_keys": 6}
    copied = {"copy_k": True, "copy_v": True, "panels": 2, "unroll": 4}
    cases: list[tuple[Template, Workload, Schedule]] = []
    for index, workload in enumerate(EVERY.values()):
        given, splits = Parameters.of(workload), 1 + index % 2
        own = copied if must_copy(given) else {"heads_first": True}
        cases.append((CPU_ATTENTION, workload, schedule(**tile, **own, splits=splits)))
        if CPU_DECODE_ATTENTION.rejects(workload, SSE) == "":
            few = {"lanes": 4, "tile_rows": 2, "tile_vectors": 2, "block_keys": 8}
            few["fetch_rows"] = splits == 1
            cases.append((CPU_DECODE_ATTENTION, workload, decode_schedule(**few, splits=splits)))
    return cases


def test_no_access_out_of_bounds(tmp_path: Path) -> None:
    """And every feature is right."""
    cases = small_cases()
    results = simulate([job(*each) for each in cases], tmp_path)
    for (template, workload, chosen), result in zip(cases, results, strict=True):
        assert result.report == "", f"{template.name}: {workload}: {chosen}"
        found = {
            array.name: dtypes.decode(array.dtype, result.outputs[array.name])
            for array in ATTENTION.arrays(workload)
            if array.role == "output"
        }
        ratio = error_ratio(workload, ATTENTION.inputs(workload, 0), found)
        assert ratio <= 1, f"{template.name}: {workload}: {chosen}"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(masked ? MIN_OF(i, count - 1) : i) * K_ROW", "i * K_ROW"),
        ("(MIN_OF(row, row_count - 1) / HEADS_PER_KV_HEAD)", "((row) / HEADS_PER_KV_HEAD)"),
        ("TILE_ROWS, count, TILE_DIMS)", "TILE_ROWS, BLOCK_KEYS, TILE_DIMS)"),
    ],
)
def test_an_access_out_of_bounds_would_be_seen(tmp_path: Path, right: str, wrong: str) -> None:
    workload = attention(heads=1, q_len=5, kv_len=7, head_dim=4)
    chosen = schedule(lanes=4, tile_vectors=1, tile_keys=3, tile_dims=3, block_keys=6)
    source, inputs = job(CPU_ATTENTION, workload, chosen)
    assert source.text.count(right) == 1
    broken = replace(source, text=source.text.replace(right, wrong))
    (result,) = simulate([(broken, inputs)], tmp_path)
    assert "Invalid" in result.report


@pytest.mark.parametrize(
    ("file", "results"),
    [("cpu.cl", ("out",)), ("cpu_decode.cl", ("partial_out", "partial_sums"))],
)
def test_the_kernel_text_compiles_by_itself(
    backend: Backend, file: str, results: tuple[str, ...]
) -> None:
    """Defaults for every knob; only headers in front; in every version of the language."""
    launch = Launch("attention", (8, 1, 1), (1, 1, 1), ("q", "k", "v", *results))
    text = OPENCL.prelude + _text(file)
    arrays = ATTENTION.arrays(attention(heads=8, q_len=1024, head_dim=64))
    for options in ((), ("-cl-std=CL1.2", "-DCOPY_K=1")):
        source = KernelSource("opencl", text, (launch,), arrays, options=options)
        assert backend.compile(source)


@pytest.mark.parametrize(
    ("template", "file", "workload"),
    [(CPU_ATTENTION, "cpu.cl", ODD[0]), (CPU_DECODE_ATTENTION, "cpu_decode.cl", FEW[0])],
)
def test_every_knob_has_a_default_and_a_comment_in_the_text(
    template: Template, file: str, workload: Workload
) -> None:
    for knob in template.space(workload, AVX512).knobs:
        name = knob.name.upper()
        assert re.search(rf"#ifndef {name}\n#define {name} \w+ +// \w+", _text(file)), name


def _text(file: str) -> str:
    headers: Any = (name for name in HEADERS if file == "cpu.cl" or name != "cpu_panels.h")
    return "".join((FOLDER / name).read_text() for name in (*headers, file))
