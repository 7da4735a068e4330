"""Portable attention computes the right thing: on devices, in Oclgrind, in emulation, for NVRTC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_emulation import emulate
from kernel_checks import assert_right_on, error_ratio
from nvrtc import compiled
from oclgrind import simulate
from portable_attention_cases import ANY_GPU, GPU, WORKLOADS, light, schedule

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention import attention
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.portable import PORTABLE_ATTENTION
from search_spaces.dialect import CUDA, OPENCL
from search_spaces.kernel import KernelSource, Launch

TEXT = Path(__file__).parents[3] / "search_spaces" / "attention" / "portable.cl"


@pytest.fixture(scope="module", params=devices.names("opencl"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


def decoded(source: KernelSource, outputs: Any) -> dict[str, Any]:
    return {
        array.name: dtypes.decode(array.dtype, outputs[array.name]).reshape(array.shape)
        for array in source.arrays
        if array.role == "output"
    }


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_right_on_every_device(backend: Backend, workload: Workload) -> None:
    """Schedules of a GPU's space, so that every knob is tried on CPUs too."""
    if reason := PORTABLE_ATTENTION.rejects(workload, backend.target):
        pytest.skip(reason)
    for chosen in light(workload, ANY_GPU, 2):
        assert_right_on(backend, PORTABLE_ATTENTION, workload, chosen)


VECTORS: dict[str, Any] = {"vector": 4, "prefetch": True, "kv_tiles": 2, "unroll": 2}
WHOLE_ROWS: dict[str, Any] = {
    "threads_q": 32,
    "threads_k": 1,
    "block_k": 8,
    "weights_local": False,
    "vector": 2,
}


@pytest.mark.parametrize("knobs", [VECTORS, WHOLE_ROWS | {"splits": 4}], ids=["tiles", "rows"])
def test_many_tiles_of_long_sequences(backend: Backend, knobs: dict[str, Any]) -> None:
    """Enough keys for sums to be rescaled, enough queries for tiles without hidden keys."""
    options: dict[str, Any] = {"heads": 2, "kv_heads": 1, "head_dim": 36, "v_dim": 44}
    workload = attention(q_len=150, kv_len=301, causal=True, window=100, **options)
    chosen = schedule(pack_heads=True, longest_first=True, **knobs)
    assert PORTABLE_ATTENTION.space(workload, ANY_GPU).violations(chosen.values) == []
    assert_right_on(backend, PORTABLE_ATTENTION, workload, chosen)


def test_shorter_sequences_of_the_same_shapes(backend: Backend) -> None:
    """A kernel serves every batch no longer than the longest; rows of no sequence stay as are."""
    options: dict[str, Any] = {"heads": 2, "head_dim": 8, "layout": "bshd", "lse": True}
    rendered = attention(q_lens=[8, 4], kv_lens=[24, 16], **options)
    shorter = attention(q_lens=[3, 5], kv_lens=[23, 17], **options)
    source = PORTABLE_ATTENTION.render(rendered, schedule(splits=2, block_k=8, block_q=8), OPENCL)
    inputs = ATTENTION.inputs(shorter, 0)
    padded = inputs | {"q": np.concatenate([inputs["q"], np.ones((4, 2, 8), np.float32)])}
    execution = backend.prepare(source, backend.compile(source), padded)
    execution.poison()
    execution.launch()
    outputs = execution.outputs()
    assert execution.damage() == ""
    execution.close()
    assert np.isnan(outputs["out"][8:]).all() and np.isnan(outputs["lse"][:, 8:]).all()
    found = {"out": outputs["out"][:8], "lse": outputs["lse"][:, :8]}
    assert error_ratio(shorter, inputs, found) <= 1


def test_offsets_of_64_bits(backend: Backend) -> None:
    """As of arrays that are too large to try."""
    workload = attention(batch=2, heads=2, q_len=5, kv_lens=[9, 20], page_size=4, head_dim=8)
    source = PORTABLE_ATTENTION.render(workload, schedule(splits=2, block_k=8, block_q=8), OPENCL)
    assert "#define OFFSET int\n" in source.text
    wide = replace(source, text=source.text.replace("OFFSET int\n", "OFFSET size_t\n"))
    inputs = ATTENTION.inputs(workload, 0)
    execution = backend.prepare(wide, backend.compile(wide), inputs)
    execution.poison()
    execution.launch()
    outputs = decoded(wide, execution.outputs())
    assert execution.damage() == ""
    execution.close()
    assert error_ratio(workload, inputs, outputs) <= 1


def test_equal_results_of_every_run(backend: Backend) -> None:
    """Parts of the keys are merged in a fixed order."""
    workload = attention(heads=2, q_len=40, kv_len=300, head_dim=16)
    source = PORTABLE_ATTENTION.render(workload, schedule(splits=8, threads_k=4), OPENCL)
    execution = backend.prepare(source, backend.compile(source), ATTENTION.inputs(workload, 0))
    results = set()
    for _ in range(5):
        execution.poison()
        execution.launch()
        results.add(execution.outputs()["out"].tobytes())
    execution.close()
    assert len(results) == 1


def test_no_races_and_no_access_out_of_bounds(tmp_path: Path) -> None:
    chosen = [
        (workload, each)
        for workload in WORKLOADS
        for each in light(workload, ANY_GPU, 2, seed=1, rows=16)
    ]
    sources = [PORTABLE_ATTENTION.render(*each, OPENCL) for each in chosen]
    inputs = [ATTENTION.inputs(workload, 0) for workload, _ in chosen]
    results = simulate(list(zip(sources, inputs, strict=True)), tmp_path)
    for (workload, each), source, given, result in zip(
        chosen, sources, inputs, results, strict=True
    ):
        assert result.report == "", f"{workload}: {each}"
        found = decoded(source, result.outputs)
        assert error_ratio(workload, given, found) <= 1, f"{workload}: {each}"


BARRIERS = {  # what stands before each barrier
    "the first tile of K": (r"ARRIVE\(k_tile, k, 0, keys.begin\);\n    }\n    ", {}),
    "maxima": (r"if \(REDUCE_LOCAL \|\| KV_TILES == 1\) ", {}),
    "weights and V": (r"#endif\n        (?=BARRIER\(\);  // weights and V)", {"kv_tiles": 2}),
    "V still read": (r"if \(KV_TILES == 1\) ", {}),
    "the next tile of K": (r"        }\n        (?=BARRIER\(\);  // K is there)", {"kv_tiles": 2}),
    "totals": (r"share\(shared, y, x, totals\);\n    ", {}),
}


@pytest.mark.parametrize("missing", BARRIERS)
def test_a_missing_barrier_would_be_seen(tmp_path: Path, missing: str) -> None:
    workload = attention(heads=1, q_len=8, kv_len=32, head_dim=8)
    before, knobs = BARRIERS[missing]
    small = {"block_q": 8, "block_k": 8, "threads_q": 4, "threads_k": 2}
    source = PORTABLE_ATTENTION.render(workload, schedule(**small, **knobs), OPENCL)
    broken, count = re.subn(rf"({before})BARRIER\(\);", r"\1;", source.text)
    assert count == 1
    (result,) = simulate([(replace(source, text=broken), ATTENTION.inputs(workload, 0))], tmp_path)
    assert "data race" in result.report


@pytest.mark.parametrize("workload", WORKLOADS[2:8], ids=str)
def test_right_as_cuda_in_emulation(tmp_path: Path, workload: Workload) -> None:
    """With shuffles between 32 work-items or more; threads last to first, or first to last."""
    found = light(workload, GPU, 200, seed=3, rows=32)
    shuffled = [each for each in found if each["shuffle"]] or found
    check_emulated(tmp_path, workload, shuffled[0], WORKLOADS.index(workload) % 2 == 0)


def check_emulated(directory: Path, workload: Workload, chosen: Schedule, reversed: bool) -> None:
    source = PORTABLE_ATTENTION.render(workload, chosen, CUDA)
    inputs = ATTENTION.inputs(workload, 0)
    outputs = emulate(source, inputs, directory, reversed=reversed)
    ratio = error_ratio(workload, inputs, decoded(source, outputs))
    assert ratio <= 1, f"{workload}: {chosen}: error is {ratio:.3g} times what is allowed"


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_nvrtc_takes_it_without_a_warning(workload: Workload) -> None:
    arch = "sm_90a" if Parameters.of(workload).scaled_kv or workload["heads"] == 2 else "sm_80"
    (chosen,) = light(workload, GPU, 1, seed=int(arch[3:5]))
    source = PORTABLE_ATTENTION.render(workload, chosen, CUDA)
    result = compiled(source, arch)
    assert "warning" not in result.log
    assert set(result.registers) == {launch.kernel for launch in source.launches}


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"causal": True, "kv_heads": 2, "bias": "alibi", "lse": True},
        {"dtype": "float16", "bias": "full", "layout": "bshd", "softcap": 20.0},
        {"dtype": "bfloat16", "kv_lens": [1000], "page_size": 16, "window": 100},
    ],
    ids=str,
)
def test_tiles_live_in_registers(features: dict[str, Any]) -> None:
    """64 x 32 by 16 x 8: no array of a work-item may end up in memory, at most a few addresses."""
    workload = attention(heads=8, q_len=1000, head_dim=64, **features)
    chosen = schedule(block_q=64, threads_q=16, vector=4, shuffle=True, unroll=2, prefetch=True)
    assert PORTABLE_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    result = compiled(PORTABLE_ATTENTION.render(workload, chosen, CUDA), "sm_90a")
    assert result.stack_bytes["attention"] <= 32
    estimate = PORTABLE_ATTENTION.stats(workload, chosen, GPU).registers
    assert result.registers["attention"] <= estimate * 1.25


def plain(dialect: str, text: str, *options: str) -> KernelSource:
    """The text with every default: 8 heads of 1024 queries, one group for 32 of them."""
    launch = Launch("attention", (256, 1, 1), (64, 1, 1), ("q", "k", "v", "out"))
    arrays = ATTENTION.arrays(attention(heads=8, q_len=1024, head_dim=64))
    return KernelSource(dialect, text, (launch,), arrays, options=options)


def test_the_kernel_text_compiles_by_itself_as_opencl(backend: Backend) -> None:
    assert backend.compile(plain("opencl", TEXT.read_text(), f"-I{TEXT.parent}"))


def test_the_kernel_text_compiles_with_its_defaults_as_cuda() -> None:
    names = ("sequence.h", "portable_schedule.h", "portable_tiles.h", "portable.cl")
    text = "".join((TEXT.parent / name).read_text() for name in names)
    result = compiled(plain("cuda", CUDA.prelude + text), "sm_80")
    assert "attention" in result.registers


def test_every_knob_has_a_default_and_a_comment_in_the_text() -> None:
    text = (TEXT.parent / "portable_schedule.h").read_text()
    for knob in PORTABLE_ATTENTION.space(WORKLOADS[0], GPU).knobs:
        name = knob.name.upper()
        assert re.search(rf"#ifndef {name}\n#define {name} \d+ +// \w+", text), name
