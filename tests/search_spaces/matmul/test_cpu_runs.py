"""The CPU template computes the right thing: on devices, in Oclgrind; its text stands alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cpu_cases import (
    AVX512,
    LAYOUTS,
    STEPS,
    WORKLOADS,
    sampled,
    schedule,
    small_cases,
    some,
)
from kernel_checks import assert_right_on, error_ratio
from oclgrind import Simulated, simulate

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.schedule import Schedule
from records.workload import Workload
from search_spaces.dialect import OPENCL
from search_spaces.kernel import KernelSource, Launch
from search_spaces.matmul import matmul
from search_spaces.matmul.cpu import CPU
from search_spaces.matmul.op import MATMUL

TEXT = Path("search_spaces/matmul/cpu.cl")


@pytest.fixture(scope="module", params=devices.names("opencl"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


def assert_right(backend: Backend, workload: Workload, chosen: Schedule) -> None:
    if reason := CPU.rejects(workload, backend.target):
        pytest.skip(reason)
    assert_right_on(backend, CPU, workload, chosen)


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_on_every_device(backend: Backend, workload: Workload) -> None:
    """Schedules of the device's own space."""
    if reason := CPU.rejects(workload, backend.target):
        pytest.skip(reason)
    for _, chosen in sampled([workload], backend.target, 2):
        assert_right(backend, workload, chosen)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_every_edge_at_once(backend: Backend, layout: str, dtype: str) -> None:
    """Blocks and tiles that no extent is a multiple of, in a batch, with every step."""
    workload = matmul(m=97, n=101, k=103, batch=2, layout=layout, dtype=dtype, epilogue=STEPS)
    chosen = schedule(
        lanes=8,
        tile_m=5,
        tile_vectors=2,
        row_blocks=2,
        column_tiles=3,
        k_blocks=3,
        unroll=4,
        pack_a=layout[0] == "t",
        rows_first=False,
        prefetch_a=True,
        prefetch_c=True,
    )
    assert_right(backend, workload, chosen)


def test_packed_rows_of_one_element_are_those_of_their_tile(backend: Backend) -> None:
    """Intel's optimiser once used the element of the next tile."""
    workload = matmul(m=16, n=12, k=1, layout="tn")
    chosen = schedule(lanes=4, tile_m=1, row_blocks=4, pack_a=True, pack_b=False)
    assert_right(backend, workload, chosen)


def simulated(cases: Sequence[tuple[KernelSource, Workload]], directory: Path) -> list[Simulated]:
    """In Oclgrind, which knows no alias scopes (of `restrict`) and none of LLVM's prefetches."""
    jobs = [
        (
            replace(
                source,
                text="#define FETCH(from, to_write) prefetch(from, 1)\n"
                + source.text.replace("#define RESTRICT restrict", "#define RESTRICT"),
                options=(*source.options, "-cl-opt-disable"),
            ),
            MATMUL.inputs(workload, 0),
        )
        for source, workload in cases
    ]
    return simulate(jobs, directory)


def test_no_access_out_of_bounds(tmp_path: Path) -> None:
    chosen = some(small_cases(), each=2)
    sources = [(CPU.render(workload, each, OPENCL), workload) for workload, each in chosen]
    for (workload, each), result in zip(chosen, simulated(sources, tmp_path), strict=True):
        assert result.report == "", f"{workload}: {each}"
        ratio = error_ratio(workload, MATMUL.inputs(workload, 0), result.outputs)
        assert ratio <= 1, f"{workload}: {each}"


@pytest.mark.parametrize(
    ("knobs", "right", "wrong"),
    [
        ({"pack_b": False}, "if (end - from >= LANES)", "if (1)"),
        ({"pack_b": True}, "j < columns ?", "1 ?"),
        ({"rows_first": False}, "l < columns - v * LANES;", "l < LANES;"),
    ],
    ids=str,
)
def test_an_access_out_of_bounds_would_be_seen(
    tmp_path: Path, knobs: dict[str, Any], right: str, wrong: str
) -> None:
    workload = matmul(m=7, n=9, k=5)
    chosen = schedule(lanes=4, tile_m=4, tile_vectors=1, row_blocks=2, column_tiles=2, **knobs)
    source = CPU.render(workload, chosen, OPENCL)
    assert source.text.count(right) == 1
    broken = replace(source, text=source.text.replace(right, wrong))
    (result,) = simulated([(broken, workload)], tmp_path)
    assert "Invalid" in result.report


def test_the_kernel_text_compiles_by_itself(backend: Backend) -> None:
    """Defaults for every knob; only the prelude in front; in every version of the language."""
    arrays = MATMUL.arrays(matmul(m=1024, n=1024, k=1024))
    launch = Launch("matmul", (8, 1, 1), (1, 1, 1), ("a", "b", "c"))
    text = OPENCL.prelude + TEXT.read_text()
    for options in ((), ("-cl-std=CL1.2",), ("-cl-std=CL1.2", "-DPREFETCH_A=1", "-DPACK_A=1")):
        source = KernelSource("opencl", text, (launch,), arrays, options=options)
        assert backend.compile(source)


def test_every_knob_has_a_default_and_a_comment_in_the_text() -> None:
    text = TEXT.read_text()
    blocks = {"row_blocks": "BLOCK_M", "column_tiles": "BLOCK_N", "k_blocks": "BLOCK_K"}
    for knob in CPU.space(WORKLOADS[0], AVX512).knobs:
        name = blocks.get(knob.name, knob.name.upper())
        assert re.search(rf"#ifndef {name}\n#define {name} \w+ +// \w+", text), name
