"""Times of PyTorch's kernels as it publishes them, as workloads, schedules and records of ours."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cost_model.table import StatsSource
from records.errors import InvalidInputError
from records.measurement import Measurement, Status
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.kernel import KernelStats

LIBRARY = "extern_mm"
VERSION = 1
FAILED = Measurement.failed(Status.LAUNCH_ERROR, "no time recorded")

_CHOICE = re.compile(
    r"type=triton_BLOCK-M=(-?\d+)_BLOCK-K=(-?\d+)_BLOCK-N=(-?\d+)_numstages=(\d+)_numwarps=(\d+)"
)
_KNOBS = ("block_m", "block_k", "block_n", "stages", "warps")
_ANSWERS = ("choice", "feedback")
_ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
A100 = {"units": 108, "warp": 32, "registers": 65536, "l2_bytes": 40 << 20, "cache_bytes": 40 << 20}


@dataclass(frozen=True)
class Shape:
    """What was measured of one shape: the median of each schedule's times, infinite for failures.

    `choices` are the names by which PyTorch knows the schedules.
    """

    kernel: str
    workload: Workload
    target: Target
    choices: tuple[str, ...]
    times_s: tuple[float, ...]

    @cached_property
    def schedules(self) -> tuple[Schedule, ...]:
        return tuple(_schedule(choice) for choice in self.choices)

    @property
    def sizes(self) -> tuple[object, ...]:
        """What splits go by: sizes without dtypes and strides."""
        values = self.workload.values
        return tuple(values.get(name) for name in ("b", "h", "m", "k", "n", "kv_seq_length"))

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """Speeds as shares of the best; 0 for a failure."""
        best_s = min(self.times_s)
        return tuple(best_s / time_s for time_s in self.times_s)

    @property
    def is_choice(self) -> bool:
        """Whether there is more than one schedule, and one that works."""
        return len(self.choices) > 1 and math.isfinite(min(self.times_s))

    def without(self, choice: str) -> Shape:
        kept = [place for place, name in enumerate(self.choices) if name != choice]
        return replace(
            self,
            choices=tuple(self.choices[place] for place in kept),
            times_s=tuple(self.times_s[place] for place in kept),
        )

    def records(self) -> Iterator[TuningRecord]:
        for schedule, time_s in zip(self.schedules, self.times_s, strict=True):
            measured = Measurement.ok((time_s,)) if math.isfinite(time_s) else FAILED
            yield TuningRecord(self.workload, self.target, schedule, measured, created_at="")


class _Statistics:
    """What tiles tell of a matmul or an attention, as templates tell it of theirs."""

    version = VERSION

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        knobs = dict(schedule.knobs)
        if not knobs:
            return KernelStats()
        values = workload.values
        width = _ELEMENT_BYTES[str(values["dtype"])]
        return (_attention if "b" in values else _matmul)(values, knobs, width)


def _matmul(values: Mapping[str, object], knobs: Mapping[str, object], width: int) -> KernelStats:
    m, k, n = (int(str(values[name])) for name in ("m", "k", "n"))
    rows, depth, columns, stages, warps = (int(str(knobs[name])) for name in _KNOBS)
    groups = -(-m // rows) * -(-n // columns)
    padded_k = -(-k // depth) * depth
    return KernelStats(
        groups=groups,
        threads=32 * warps,
        shared_bytes=stages * (rows + columns) * depth * width,
        registers=min(255, rows * columns // (32 * warps) + 40),
        flops=2.0 * groups * rows * columns * padded_k,
        useful_flops=2.0 * m * n * k,
        dram_bytes=float(width * (m * k + k * n + m * n)),
        l2_bytes=float(width * groups * (rows + columns) * padded_k),
    )


def _attention(
    values: Mapping[str, object], knobs: Mapping[str, object], width: int
) -> KernelStats:
    b, h, m, dim, keys = (int(str(values[name])) for name in ("b", "h", "m", "n", "kv_seq_length"))
    rows, _, columns, stages, warps = (int(str(knobs[name])) for name in _KNOBS)
    groups = b * h * -(-m // rows)
    padded = -(-keys // columns) * columns
    return KernelStats(
        groups=groups,
        threads=32 * warps,
        shared_bytes=width * dim * (rows + 2 * stages * columns),
        registers=min(255, rows * (dim + columns) // (32 * warps) + 40),
        flops=4.0 * groups * rows * padded * dim,
        useful_flops=4.0 * b * h * m * keys * dim,
        dram_bytes=float(width * b * h * dim * (2 * m + 2 * keys)),
        l2_bytes=float(width * groups * dim * (2 * rows + 2 * padded)),
    )


def find_template(op: str, name: str) -> StatsSource:
    return _Statistics()


_FLEX_FLOAT32 = {64: (128, 32, 4), 128: (128, 32, 4), 256: (64, 16, 4)}
_FLEX_HALF = {64: (128, 64, 4), 128: (128, 64, 8), 256: (32, 64, 4)}


def _flex_attention(shape: Shape) -> str:
    """PyTorch 2.13's for an A100: torch/_inductor/template_heuristics/triton.py."""
    by_dim = _FLEX_FLOAT32 if shape.workload["dtype"] == "float32" else _FLEX_HALF
    rows, columns, warps = by_dim.get(int(shape.workload["n"]), (64, 64, 4))
    return f"type=triton_BLOCK-M={rows}_BLOCK-K=-1_BLOCK-N={columns}_numstages=3_numwarps={warps}"


DEFAULTS: dict[str, Callable[[Shape], str]] = {
    "mm": lambda shape: LIBRARY,
    "flex_attention": _flex_attention,
}
"""What PyTorch takes without autotuning, by the kernel's name."""


def read(paths: Sequence[Path]) -> dict[str, list[Shape]]:
    """Shapes of each kernel in which there is something to choose."""
    times: dict[tuple[str, Workload, Target], dict[str, list[float]]] = {}
    for path in paths:
        for name, stream in _texts(path):
            _add(times, name, stream)
    found: dict[str, list[Shape]] = {}
    for (kernel, workload, target), measured in times.items():
        medians = {choice: float(np.median(each)) for choice, each in measured.items()}
        shape = Shape(kernel, workload, target, tuple(medians), tuple(medians.values()))
        if shape.is_choice:
            found.setdefault(kernel, []).append(shape)
    return found


def _texts(path: Path) -> Iterator[tuple[str, io.TextIOBase]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".txt"):
                    with archive.open(name) as stream:
                        yield f"{path}: {name}", io.TextIOWrapper(stream, encoding="utf-8")
    except zipfile.BadZipFile as error:
        raise InvalidInputError(f"{path}: no zip archive of PyTorch's times: {error}") from error


def _add(
    times: dict[tuple[str, Workload, Target], dict[str, list[float]]],
    name: str,
    stream: io.TextIOBase,
) -> None:
    try:
        facts = json.loads(stream.readline())
        kernel = str(facts["name"])
        limits = {**A100, "shared_bytes": int(facts["shared_memory"])}
        numbers = set(facts["numerical_features"])
        target = Target.of("cuda", "A100", "sm_80", limits)
        known: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for row in csv.DictReader(stream):
            choice, time_ms = (row.pop(each) for each in _ANSWERS)
            measured = known.get(key := tuple(row.values()))
            if measured is None:
                workload = Workload.of(kernel, _parameters(row, numbers))
                measured = known[key] = times.setdefault((kernel, workload, target), {})
            measured.setdefault(choice, []).append(float(time_ms) / 1e3)
    except (KeyError, ValueError) as error:
        raise InvalidInputError(f"{name}: not the form of PyTorch's times: {error}") from error


def _parameters(row: Mapping[str, str], numbers: set[str]) -> dict[str, object]:
    parameters: dict[str, object] = {
        name: int(value) if name in numbers else value for name, value in row.items()
    }
    dtype = str(parameters.pop("mat1_dtype", parameters.get("dtype", "")))
    return {**parameters, "dtype": dtype.removeprefix("torch.")}


def _schedule(choice: str) -> Schedule:
    if choice == LIBRARY:
        return Schedule.of("library", VERSION, {})
    match = _CHOICE.fullmatch(choice)
    if match is None:
        raise InvalidInputError(f"no schedule that is known here: {choice!r}")
    return Schedule.of("triton", VERSION, dict(zip(_KNOBS, map(int, match.groups()), strict=True)))
