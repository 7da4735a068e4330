"""Workloads and schedules of the wgmma attention that tests share."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from targets import GPU_LIMITS

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention import attention
from search_spaces.attention.wgmma import WGMMA_ATTENTION
from search_spaces.dialect import CUDA
from search_spaces.kernel import KernelSource

LIMITS = GPU_LIMITS | {
    "memory_bytes": 141 << 30,
    "dtypes": ("float16", "bfloat16", "float32", "float64"),
}


def gpu(arch: str = "sm_90a", **limits: Any) -> Target:
    return Target.of("cuda", "NVIDIA H200", arch, {**LIMITS, **limits})


GPU = gpu()
PLAIN = attention(batch=4, heads=16, q_len=4096, head_dim=128, dtype="bfloat16")
CAUSAL = attention(batch=4, heads=16, q_len=4096, head_dim=128, dtype="bfloat16", causal=True)

# Together: every feature of the op, head dimensions that pad, both layouts.
WORKLOADS = (
    PLAIN,
    CAUSAL,
    attention(
        batch=4, heads=32, kv_heads=8, q_len=4000, head_dim=64, dtype="float16", causal=True,
        lse=True,
    ),
    attention(
        batch=2, heads=6, q_len=300, kv_len=1000, head_dim=80, v_dim=96, dtype="float16",
        layout="bshd", window=200, softcap=30.0,
    ),
    attention(heads=8, q_len=2000, head_dim=256, dtype="bfloat16", causal=True),
    attention(batch=2, heads=4, q_len=500, head_dim=192, v_dim=128, dtype="bfloat16", bias="full"),
    attention(
        heads=8, kv_heads=2, q_lens=(100, 0, 900), kv_lens=(300, 10, 2000), head_dim=128,
        dtype="bfloat16", causal=True, layout="bshd", lse=True,
    ),
    attention(
        heads=8, kv_heads=2, q_len=16, kv_lens=(3000, 200), page_size=64, head_dim=128,
        dtype="bfloat16", causal=True, bias="alibi",
    ),
    attention(heads=1, q_len=1, head_dim=8, dtype="float16"),
)  # fmt: skip


def schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where its space says so."""
    plain = {
        "consumers": 2,
        "tile_n": 128,
        "stages": 2,
        "overlap": True,
        "pingpong": True,
        "query": "shared",
        "lazy": False,
        "polynomials": 0,
        "pack_heads": False,
        "splits": 1,
        "cluster": 1,
        "together": 1,
        "blocks": 0,
        "resident": 1,
        "store": "tma",
        "buffers": 1,
    }
    return Schedule.of(WGMMA_ATTENTION.name, WGMMA_ATTENTION.version, plain | knobs)


ALONE: dict[str, Any] = {"consumers": 1, "pingpong": False}  # one warpgroup multiplies
PARTS: dict[str, Any] = {"store": "direct", "splits": 3}


def rendered(workload: Workload, chosen: Schedule) -> KernelSource:
    return WGMMA_ATTENTION.render(workload, chosen, CUDA)


class Unit(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int) for name in ("batch", "head", "row", "cluster_row", "part")
    )
    batch: int
    head: int
    row: int
    cluster_row: int
    part: int


class Span(ctypes.Structure):
    _fields_ = (("first", ctypes.c_int), ("end", ctypes.c_int))
    first: int
    end: int


class Slot(ctypes.Structure):
    _fields_ = (("stage", ctypes.c_int), ("phase", ctypes.c_int))
    stage: int
    phase: int


_PLAIN_C = """
#include <math.h>
#include <stddef.h>
#define __int_as_float(x) (-HUGE_VALF)
#define EXP2(x) exp2f(x)
#define OFFSET size_t
#define STORED float
#define STORED_TO_FLOAT(x) (x)
#define ushort unsigned short
"""
_EXPORTS = """
#define MAKE sequence_of(0, queries, keys, 0, 0, 0)
struct Span c_span(struct Unit unit, int queries, int keys) { return span_of(unit, MAKE); }
struct Span c_whole(struct Unit unit, int queries, int keys, int row, int rows)
{
    return whole_of(unit, MAKE, row, rows);
}
int c_units(void) { return UNITS; }
"""
_RESULTS = {"unit_of": Unit, "c_span": Span, "c_whole": Span, "next_slot": Slot}


class HostCode:
    """The integer functions of a rendered kernel, compiled as C, and its numeric macros."""

    def __init__(self, source: KernelSource, folder: Path) -> None:
        start = source.text.index("#ifndef SEQUENCE_H")
        defines = re.findall(r"^#define (\w+) (-?[\w.+-]+)$", source.text[:start], re.MULTILINE)
        numbers = [(name, value) for name, value in defines if re.match(r"-?\d", value)]
        self.macros = {name: int(value) for name, value in numbers if value.isdigit()}
        end = source.text.index("#ifndef WGMMA_SOFTMAX_H")
        lines = [f"#define {name} {value}" for name, value in numbers]
        text = "\n".join([_PLAIN_C, *lines, source.text[start:end], _EXPORTS])
        name = folder / f"host_{source.digest[:16]}"
        name.with_suffix(".c").write_text(text.replace("static inline", ""))
        command = ["cc", "-O1", "-w", "-shared", "-fPIC", "-o", f"{name}.so", f"{name}.c", "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("no C compiler: install one to run the kernel's index arithmetic")
        self._library = ctypes.CDLL(f"{name}.so")

    def __getattr__(self, name: str) -> Any:
        function = self._library[name]
        function.restype = _RESULTS.get(name, ctypes.c_int)
        return function
