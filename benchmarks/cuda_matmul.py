"""Tune matmuls on an NVIDIA GPU and race the winners against cuBLAS, cuBLASLt and Triton.

    python benchmarks/cuda_matmul.py --write benchmarks/cuda_matmul.md
    python benchmarks/cuda_matmul.py --shapes 'bfloat16/*,float16/512*' --triton
    python benchmarks/cuda_matmul.py --tune-only
    python benchmarks/cuda_matmul.py --export benchmarks/data

Every shape is tuned within its budget, then raced: stored best and libraries, interleaved in one
run, the L2 flushed before each launch, times by the device. What the libraries took is stored
too. The libraries need PyTorch; `--triton` lets Inductor tune a Triton matmul for each shape,
which takes minutes. Layout nt: both operands have k as the fast axis.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import matmul_table as table

import autotune
from autotune import peaks
from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.peaks import Peaks
from autotune.rivals import library_record
from autotune.timing import default_plan
from records.errors import AutotuneError
from records.store import TuningDatabase
from records.workload import Workload
from search_spaces import registry
from search_spaces.dtypes import size_bytes
from search_spaces.matmul.parameters import Parameters

GOAL = 1.0  # times the faster of cuBLAS and cuBLASLt
MEAN_GOAL = 1.05
SKINNY_ROWS = 16  # up to here a matmul is bound by reading B
BANDWIDTH_GOAL = 0.9  # of a copy's, in bytes of B, there
CUBLAS = ("cublas", "cublaslt")
LARGE_ELEMENTS = 2**25  # of C: each trial is checked in full, which then takes its time

SIZES = (
    (8192, 8192, 8192),
    (4096, 4096, 4096),
    (2048, 2048, 2048),
    (1024, 1024, 1024),
    (512, 512, 512),
    (4096, 14336, 4096),
    (2048, 28672, 8192),
    (128, 28672, 8192),
    (64, 4096, 4096),
    (16, 8192, 8192),
    (1, 8192, 8192),
)


@dataclass(frozen=True)
class Case:
    """A workload and the name by which `--shapes` chooses it."""

    name: str
    workload: Workload

    @property
    def weight(self) -> float:
        """Share of the time limit: large results take longer to check."""
        return 2.0 if self.workload["m"] * self.workload["n"] > LARGE_ELEMENTS else 1.0


def _case(kind: str, m: int, n: int, k: int, **more: Any) -> Case:
    return Case(f"{kind}/{m}x{n}x{k}", autotune.matmul(m=m, n=n, k=k, layout="nt", **more))


CASES: tuple[Case, ...] = (
    *(_case("bfloat16", *size, dtype="bfloat16") for size in SIZES),
    *(_case("float16", *size, dtype="float16") for size in SIZES),
    _case("float8_e4m3", 4096, 4096, 4096, dtype="float8_e4m3", scale="tensor"),
    _case("tf32", 4096, 4096, 4096, dtype="tf32"),
    _case("int8", 4096, 4096, 4096, dtype="int8"),
    *(
        _case("int4", m, 8192, 8192, dtype="bfloat16", b_dtype="int4", group_size=128)
        for m in (1, 16, 128)
    ),
)


def main() -> int:
    """Exit status 1 where nothing could be measured."""
    options = _parser().parse_args()
    chosen = [case for case in CASES if _is_chosen(case, options.shapes)]
    if options.export:
        return int(not export(chosen, options.db, options.export))
    device_peaks = None if options.tune_only else _peaks(options.device)
    rows: list[Row] = []
    absent: list[str] = []
    tuned = 0
    for case in chosen:
        try:
            trials, tuning_s = table.tune(case.workload, options, weight=case.weight, compare=False)
            tuned += trials > 0
            if options.tune_only:
                print(f"{case.name}: {trials} trials, {tuning_s:.0f} s", flush=True)
                continue
            rows.append(Row(case, trials, _raced(case, options), device_peaks))
            print(rows[-1].line, flush=True)
        except AutotuneError as error:  # no template, nothing stored, a lost contest
            absent.append(f"- {case.name}: not measured: {error}")
            print(absent[-1], flush=True)
    if rows:
        lines = list(page(rows, absent))
        print("\n".join(["", *lines]))
        table.write(options.write, "Matmul on an NVIDIA GPU", lines)
    return int(not (tuned if options.tune_only else rows))


def export(cases: Sequence[Case], database: Path, directory: Path) -> int:
    """Every record of each case in a file of its own, such as `bfloat16-512x512x512.jsonl.gz`.

    Returns how many files.
    """
    files = 0
    directory.mkdir(parents=True, exist_ok=True)
    with TuningDatabase(database, read_only=True) as store:
        for case in cases:
            if not any(True for _ in store.records(case.workload)):
                print(f"{case.name}: no records", flush=True)
                continue
            path = directory / f"{case.name.replace('/', '-')}.jsonl.gz"
            count = store.export(path, case.workload)
            files += 1
            print(f"{case.name}: {count} records, {path}", flush=True)
    return files


def _raced(case: Case, options: argparse.Namespace) -> BenchResult:
    """The race; what the libraries took is stored."""
    result = autotune.bench(
        case.workload,
        device=options.device,
        database=options.db,
        rounds=options.rounds,
        on_request=("triton",) if options.triton else (),
    )
    flush_bytes = default_plan(result.target).flush_bytes
    with TuningDatabase(options.db) as store:
        for standing, _ in result.rivals:
            store.add(library_record(case.workload, result.target, standing, flush_bytes))
    return result


@dataclass(frozen=True)
class Row:
    """A race and what it is compared with."""

    case: Case
    trials: int
    result: BenchResult
    peaks: Peaks | None

    @property
    def time_s(self) -> float:
        time_s = self.result.ours.time_s
        assert time_s is not None, "a bench without our time is an error"
        return time_s

    @property
    def cublas(self) -> tuple[Standing, Ratio] | None:
        """The faster of the two."""
        ours = [each for each in self.result.rivals if each[0].name in CUBLAS]
        return min(ours, key=lambda each: each[0].time_s or math.inf, default=None)

    @property
    def triton(self) -> Ratio | None:
        found = (ratio for rival, ratio in self.result.rivals if rival.name == "triton")
        return next(found, None)

    @property
    def is_skinny(self) -> bool:
        return int(self.case.workload["m"]) <= SKINNY_ROWS

    @property
    def share(self) -> float | None:
        """Of the tensor cores' peak; of a copy's bandwidth, in bytes of B, up to 16 rows."""
        if self.peaks is None:
            return None
        given = Parameters.of(self.case.workload)
        if self.is_skinny:
            weights = size_bytes(given.b_dtype, given.b_shape)
            return weights / self.time_s / self.peaks.copy_bytes_per_s
        peak = self.peaks.flops_per_s.get(given.dtype)
        return self._flops / self.time_s / peak if peak else None

    @property
    def line(self) -> str:
        rival, ratio = self.cublas or (None, None)
        cells = (
            self.case.name,
            str(self.trials or "stored"),
            f"{self.time_s * 1e6:.1f}",
            f"{self._flops / self.time_s / 1e12:.1f}",
            "-" if self.share is None else f"{self.share:.0%}",
            "-" if rival is None or rival.time_s is None else self._rate(rival),
            "-" if ratio is None else _written(ratio),
            "-" if self.triton is None else _written(self.triton),
            self.result.record.schedule.template,
        )
        return f"| {' | '.join(cells)} |"

    def shortfalls(self) -> Iterator[str]:
        """The goals that it misses, in words."""
        if self.cublas is not None and self.cublas[1].value < GOAL:
            yield f"{self.cublas[1].value:.3f} × {self.cublas[0].name}, goal {GOAL}"
        if self.triton is not None and self.triton.value < GOAL:
            yield f"{self.triton.value:.3f} × Triton"
        if self.is_skinny and self.share is not None and self.share < BANDWIDTH_GOAL:
            yield f"{self.share:.0%} of the copy bandwidth, goal {BANDWIDTH_GOAL:.0%}"
        for name, reason in self.result.absent:
            if name in CUBLAS and "elements are off" in reason:
                yield f"{name} did not pass the check: {reason}"

    @property
    def _flops(self) -> float:
        return registry.op("matmul").flops(self.case.workload)

    def _rate(self, rival: Standing) -> str:
        return f"{self._flops / (rival.time_s or math.nan) / 1e12:.1f} ({rival.name})"


HEADER = (
    "| m×n×k | trials | µs | TFLOP/s | of peak | cuBLAS TFLOP/s | × cuBLAS | × Triton | template |",
    "|---|---|---|---|---|---|---|---|---|",
)


def page(rows: Sequence[Row], absent: Sequence[str]) -> Iterator[str]:
    """Facts, the table, the mean, what falls short."""
    yield table.facts(rows[0].result)
    yield ""
    yield "The peak is the tensor cores' as measured; up to 16 rows a copy's bandwidth (bytes read"
    yield "plus written), against which the bytes of B are counted. Ratios above 1: ours is faster."
    yield ""
    yield from HEADER
    yield from (row.line for row in rows)
    yield ""
    ratios = [row.cublas[1].value for row in rows if row.cublas is not None]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        yield f"Geometric mean over {len(ratios)}: {mean:.3f} × cuBLAS (goal {MEAN_GOAL})."
    short = [
        f"- {row.case.name}: {'; '.join(each)}" for row in rows if (each := [*row.shortfalls()])
    ]
    yield "Falls short:" if short or absent else "Nothing falls short."
    yield from (*short, *absent)


def _written(ratio: Ratio) -> str:
    within = "" if ratio.interval is None else f" ± {ratio.value * ratio.interval:.3f}"
    return f"**{ratio.value:.3f}**{within}"


def _peaks(device: str) -> Peaks | None:
    try:
        return peaks.probe(device)
    except AutotuneError as error:
        print(f"no peaks: {error}", flush=True)
        return None


def _is_chosen(case: Case, patterns: str) -> bool:
    return any(fnmatch(case.name, pattern) for pattern in patterns.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = table.parser(
        __doc__.splitlines()[0],
        device="cuda:0",
        db=Path("cuda_matmul.db"),
        time_limit_s=60.0,
        rounds=15,
    )
    parser.add_argument(
        "--shapes",
        default="*",
        metavar="PATTERN,…",
        help="only these, such as 'bfloat16/*' or 'float16/512*'",
    )
    parser.add_argument("--tune-only", action="store_true", help="no race")
    parser.add_argument(
        "--export", type=Path, metavar="DIRECTORY", help="only write the records, a file a shape"
    )
    parser.add_argument("--triton", action="store_true", help="Triton is a rival too")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
