"""Builds for CUDA, compiled without a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive_matmul import naive_record

from autotune.codegen import build
from records.store import TuningDatabase
from records.target import Target
from search_spaces import registry
from search_spaces.matmul import matmul

HOPPER = Target.of(
    "cuda",
    "NVIDIA H200",
    "sm_90a",
    {
        "kind": "gpu",
        "units": 132,
        "max_group": 1024,
        "shared_bytes": 48 << 10,
        "registers": 65536,
        "warp": 32,
        "dtypes": ("float16", "float32", "float64"),
    },
)
FUSED = matmul(m=100, n=60, k=37, epilogue="alpha,bias,gelu")


def cubin(nvrtc: Any, text: str, options: tuple[str, ...]) -> bytes:
    _, program = nvrtc.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])
    flags = [option.encode() for option in (f"--gpu-architecture={HOPPER.arch}", *options)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    binary = bytearray(size)
    nvrtc.nvrtcGetCUBIN(program, binary)
    return bytes(binary)


def test_every_cuda_template_builds_what_nvrtc_takes(
    database: TuningDatabase, tmp_path: Path
) -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    serving = [
        template
        for template in registry.templates("matmul")
        if "cuda" in template.dialects and not template.rejects(FUSED, HOPPER)
    ]
    if not serving:
        pytest.skip("no registered template serves CUDA")
    for number, template in enumerate(serving):
        space = template.space(FUSED, HOPPER)
        (schedule,) = space.sample(1, np.random.default_rng(0))
        record = naive_record(FUSED, HOPPER, time_s=1e-3 / (number + 1))
        database.add(replace(record, schedule=schedule))
        (kernel,) = build(database, HOPPER, tmp_path / template.name).kernels
        assert kernel.schedule == schedule and kernel.file.endswith(".cu")
        text = (tmp_path / template.name / kernel.file).read_text()
        binary = cubin(nvrtc, text, kernel.options)
        for launch in kernel.launches:  # by plain name: what cuModuleGetFunction is given
            assert b"\0" + launch.kernel.encode() + b"\0" in binary
