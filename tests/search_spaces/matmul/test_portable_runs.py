"""The portable template computes the right thing: on devices, in Oclgrind, through NVRTC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel_checks import assert_right_on, error_ratio
from nvrtc import compiled
from oclgrind import simulate
from portable_cases import ANY_GPU, GPU, WORKLOADS, light, schedule

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.workload import Workload
from search_spaces.dialect import CUDA, OPENCL
from search_spaces.kernel import KernelSource, Launch
from search_spaces.matmul import matmul
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.portable import PORTABLE

TEXT = Path(__file__).parents[3] / "search_spaces" / "matmul" / "portable.cl"


@pytest.fixture(scope="module", params=devices.names("opencl"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_on_every_device(backend: Backend, workload: Workload) -> None:
    """Schedules of a GPU's space, so that every knob is tried on CPUs too."""
    if reason := PORTABLE.rejects(workload, backend.target):
        pytest.skip(reason)
    for chosen in light(workload, ANY_GPU, 2):
        assert_right_on(backend, PORTABLE, workload, chosen)


@pytest.mark.parametrize(("layout", "lanes"), [("nn", 4), ("nt", 2), ("tn", 4), ("tt", 4)])
def test_vectors_at_uneven_edges(backend: Backend, layout: str, lanes: int) -> None:
    """Multiples of 4 that no tile divides."""
    workload = matmul(m=44, n=68, k=52, layout=layout)
    vectors = {"vector_a": lanes, "vector_b": lanes, "vector_tile": lanes}
    overlap = {"stages": 2, "prefetch": True, "raster": 2, "pad": 4 if layout != "tn" else 0}
    chosen = schedule(block_k=32, thread_m=4, **vectors, **overlap)
    assert PORTABLE.space(workload, ANY_GPU).violations(chosen.values) == []
    assert_right_on(backend, PORTABLE, workload, chosen)


def test_equal_results_of_every_run(backend: Backend) -> None:
    """Parts of k are added in a fixed order."""
    workload = matmul(m=40, n=40, k=300)
    source = PORTABLE.render(workload, schedule(split_k=8), OPENCL)
    execution = backend.prepare(source, backend.compile(source), MATMUL.inputs(workload, 0))
    results = set()
    for _ in range(5):
        execution.poison()
        execution.launch()
        results.add(execution.outputs()["c"].tobytes())
    execution.close()
    assert len(results) == 1


def test_no_races_and_no_access_out_of_bounds(tmp_path: Path) -> None:
    chosen = [
        (workload, each)
        for workload in WORKLOADS
        if workload["accumulate"] != "float16"  # which Oclgrind does not know
        for each in light(workload, ANY_GPU, 2, seed=1, tile=1024)
    ]
    sources = [PORTABLE.render(*each, OPENCL) for each in chosen]
    inputs = [MATMUL.inputs(workload, 0) for workload, _ in chosen]
    results = simulate(list(zip(sources, inputs, strict=True)), tmp_path)
    for (workload, each), given, result in zip(chosen, inputs, results, strict=True):
        assert result.report == "", f"{workload}: {each}"
        assert error_ratio(workload, given, result.outputs) <= 1, f"{workload}: {each}"


@pytest.mark.parametrize("missing", ["multiply", "overwrite"])
def test_a_missing_barrier_would_be_seen(tmp_path: Path, missing: str) -> None:
    """The one before multiplying the first tile; the one before a tile is overwritten."""
    workload = matmul(m=16, n=16, k=32)
    source = PORTABLE.render(workload, schedule(block_m=16, block_n=16), OPENCL)
    before, barrier = {
        "multiply": ("    STASH(0);\n", "    BARRIER();\n"),
        "overwrite": ("        if (STAGES == 1) ", "BARRIER();"),
    }[missing]
    assert source.text.count(before + barrier) == 1
    broken = source.text.replace(before + barrier, before + ";\n")
    racy = KernelSource(source.dialect, broken, source.launches, source.arrays)
    (result,) = simulate([(racy, MATMUL.inputs(workload, 0))], tmp_path)
    assert "data race" in result.report


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_nvrtc_takes_it_without_a_warning(workload: Workload, arch: str) -> None:
    (chosen,) = light(workload, GPU, 1, seed=int(arch[3:]))
    source = PORTABLE.render(workload, chosen, CUDA)
    result = compiled(source, arch)
    assert "warning" not in result.log
    assert set(result.registers) == {launch.kernel for launch in source.launches}


WIDE: dict[str, Any] = {"vector_a": 4, "vector_b": 4, "vector_tile": 4, "stages": 2}
AHEAD: dict[str, Any] = {"prefetch": True, "vector_tile": 2, "unroll": 4}


@pytest.mark.parametrize(
    ("layout", "knobs"), [("nn", WIDE), ("nt", AHEAD), ("tn", AHEAD), ("tt", WIDE)], ids=str
)
def test_tiles_live_in_registers(layout: str, knobs: dict[str, Any]) -> None:
    """128 x 128 by 8 x 8: no array of a work-item may end up in memory."""
    workload = matmul(m=1000, n=1000, k=1000, layout=layout, epilogue="bias,gelu")
    size = {"block_m": 128, "block_n": 128, "thread_m": 8, "thread_n": 8, "block_k": 8}
    chosen = schedule(**(size | knobs))
    assert PORTABLE.space(workload, GPU).violations(chosen.values) == []
    result = compiled(PORTABLE.render(workload, chosen, CUDA), "sm_90")
    assert result.stack_bytes == {"matmul": 0}
    assert result.registers["matmul"] <= PORTABLE.stats(workload, chosen, GPU).registers * 1.25


def plain(dialect: str, text: str, *options: str) -> KernelSource:
    """The text with every default: a float32 matmul of 1024, one group for 64 x 64 of C."""
    launch = Launch("matmul", (256, 1, 1), (256, 1, 1), ("a", "b", "c"))
    arrays = MATMUL.arrays(matmul(m=1024, n=1024, k=1024))
    return KernelSource(dialect, text, (launch,), arrays, options=options)


def test_the_kernel_text_compiles_by_itself_as_opencl(backend: Backend) -> None:
    assert backend.compile(plain("opencl", TEXT.read_text(), f"-I{TEXT.parent}"))


def test_the_kernel_text_compiles_with_its_defaults_as_cuda() -> None:
    result = compiled(plain("cuda", CUDA.prelude + TEXT.read_text()), "sm_80")
    assert "matmul" in result.registers


def test_every_knob_has_a_default_and_a_comment_in_the_text() -> None:
    text = TEXT.read_text()
    for knob in PORTABLE.space(WORKLOADS[0], GPU).knobs:
        name = knob.name.upper()
        assert re.search(rf"#ifndef {name}\n#define {name} \d+ +// \w+", text), name
