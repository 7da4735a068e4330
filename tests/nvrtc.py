"""Compiles CUDA kernels down to machine code, without a GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from search_spaces.kernel import KernelSource


@dataclass(frozen=True)
class Compiled:
    """What the compiler said of each kernel, by the kernel's name."""

    log: str
    registers: dict[str, int]
    spilled_bytes: dict[str, int]  # stores to local memory, which lies in DRAM
    stack_bytes: dict[str, int]  # arrays that found no registers


_USAGE = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores"
    r".*?Used (\d+) registers",
    re.DOTALL,
)


def compiled(source: KernelSource, arch: str) -> Compiled:
    """Compile to a cubin for `arch`, such as `"sm_90"`; the test fails with the log otherwise."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    _, program = nvrtc.nvrtcCreateProgram(source.text.encode(), b"kernel.cu", 0, [], [])
    options = [f"--gpu-architecture={arch}", "--ptxas-options=-v", *source.options]
    (status,) = nvrtc.nvrtcCompileProgram(
        program, len(options), [option.encode() for option in options]
    )
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    raw = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, raw)
    log = bytes(raw).rstrip(b"\0 ").decode()
    nvrtc.nvrtcDestroyProgram(program)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log
    usage = _USAGE.findall(log)
    return Compiled(
        log,
        registers={name: int(count) for name, _, _, count in usage},
        spilled_bytes={name: int(count) for name, _, count, _ in usage},
        stack_bytes={name: int(count) for name, count, _, _ in usage},
    )
