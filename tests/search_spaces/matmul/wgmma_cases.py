"""Workloads and schedules of the wgmma template that tests share."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from targets import GPU_LIMITS

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import CUDA
from search_spaces.kernel import KernelSource
from search_spaces.matmul import matmul
from search_spaces.matmul.wgmma import WGMMA

LIMITS = GPU_LIMITS | {
    "memory_bytes": 141 << 30,
    "dtypes": (
        "float16",
        "bfloat16",
        "tf32",
        "float32",
        "float64",
        "float8_e4m3",
        "float8_e5m2",
        "int8",
    ),
}
GPU = Target.of("cuda", "NVIDIA H200", "sm_90a", LIMITS)

# Together: every dtype, layout, kind of C and of store; sizes that divide, and that do not.
WORKLOADS = (
    matmul(m=4096, n=4096, k=4096, dtype="bfloat16", layout="nt"),
    matmul(m=1000, n=520, k=1032, dtype="float16", epilogue="bias,gelu"),
    matmul(m=1032, n=999, k=520, dtype="bfloat16", layout="tt", batch=3, epilogue="alpha,residual"),
    matmul(m=264, n=8200, k=72, dtype="float16", layout="tn", out_dtype="float32"),
    matmul(m=16, n=8192, k=8192, dtype="bfloat16", layout="nt"),
    matmul(m=3, n=1001, k=200, dtype="float16", layout="nt", epilogue="beta,silu"),
    matmul(m=512, n=260, k=516, dtype="tf32", layout="nt", epilogue="bias,relu"),
    matmul(m=1024, n=1024, k=2048, dtype="float8_e4m3", layout="nt", scale="row_column"),
    matmul(m=64, n=400, k=1040, dtype="float8_e5m2", layout="nt", out_dtype="float8_e5m2"),
    matmul(m=1000, n=1000, k=1024, dtype="int8", layout="nt"),
    matmul(m=40, n=100, k=4096, dtype="int8", layout="nt", out_dtype="bfloat16", scale="tensor"),
    matmul(n=1024, k=512, groups=(300, 0, 1, 128, 771), dtype="bfloat16", layout="nt"),
    matmul(
        n=136,
        k=512,
        groups=(5, 0, 17, 3),
        dtype="float8_e4m3",
        layout="nt",
        scale="row_column",
        epilogue="relu",
    ),
)
SQUARE = WORKLOADS[0]


def schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where its space says so."""
    plain = {
        "tile_m": 128,
        "tile_n": 128,
        "tile_k": 64,
        "stages": 4,
        "consumers": 2,
        "pingpong": False,
        "cluster_m": 1,
        "cluster_n": 1,
        "split_k": 1,
        "stream_k": False,
        "raster": "rows",
        "group": 8,
        "blocks": 132,
        "resident": 1,
        "store": "tma",
        "buffers": 2,
        "l2_promotion": 256,
        "swap": False,
    }
    return Schedule.of(WGMMA.name, WGMMA.version, plain | knobs)


def rendered(workload: Workload, chosen: Schedule) -> KernelSource:
    return WGMMA.render(workload, chosen, CUDA)


class Place(ctypes.Structure):
    _fields_ = (("row", ctypes.c_int), ("column", ctypes.c_int))
    row: int
    column: int


class Unit(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int)
        for name in (
            "batch",
            "product",
            "row",
            "column",
            "row_end",
            "column_end",
            "part",
            "first_step",
            "steps",
            "slot",
        )
    )
    batch: int
    product: int
    row: int
    column: int
    row_end: int
    column_end: int
    part: int
    first_step: int
    steps: int
    slot: int


class Slot(ctypes.Structure):
    _fields_ = (("stage", ctypes.c_int), ("phase", ctypes.c_int))
    stage: int
    phase: int


class Box(ctypes.Structure):
    _fields_ = (("place", ctypes.c_uint), ("x", ctypes.c_int), ("y", ctypes.c_int))
    place: int
    x: int
    y: int


_RESULTS = {
    "place_of": Place,
    "unit_of": Unit,
    "next_slot": Slot,
    "skip_slots": Slot,
    "box_of": Box,
    "slice_offset": ctypes.c_uint,
    "staged": ctypes.c_uint,
    "share_begin": ctypes.c_longlong,
}
_ARGUMENTS = {"sharer_of": (ctypes.c_longlong,)}


class HostCode:
    """The integer functions of a rendered kernel, compiled as C, and its numeric macros."""

    def __init__(self, source: KernelSource, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler: install one to run the kernel's index arithmetic")
        starts = ("// Groups of rows of A and C", "// Which tile of C is whose turn")
        start = min(source.text.index(each) for each in starts if each in source.text)
        end = source.text.index("// How the sums of a warp reach C")
        defines = re.findall(r"^#define (\w+) (\d+)$", source.text[:start], re.MULTILINE)
        self.macros = {name: int(value) for name, value in defines}
        lines = [f"#define {name} {value}" for name, value in defines]
        tables = re.findall(r"^#define ROW_GROUP_\w+ \{.*?\}$", source.text[:start], re.M | re.S)
        text = "\n".join(["#define FUNCTION", *lines, *tables, source.text[start:end]])
        name = str(folder / f"host_{source.digest[:16]}")
        Path(f"{name}.c").write_text(text)
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", f"{name}.so", f"{name}.c"]
        subprocess.run(command, check=True, capture_output=True)
        self._library = ctypes.CDLL(f"{name}.so")

    def __getattr__(self, name: str) -> Any:
        function = self._library[name]
        function.restype = _RESULTS.get(name, ctypes.c_int)
        function.argtypes = _ARGUMENTS.get(name)
        return function
