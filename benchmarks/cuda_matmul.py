"""Tune matmuls on an NVIDIA GPU and race the winners against cuBLAS, cuBLASLt and others.

    python benchmarks/cuda_matmul.py --write benchmarks/cuda_matmul.md
    python benchmarks/cuda_matmul.py --shapes 'bfloat16/*,float16/512*' --triton
    python benchmarks/cuda_matmul.py --tune-only --deadline 400
    python benchmarks/cuda_matmul.py --export benchmarks/data

Every shape is tuned, then each is raced: stored best and libraries, interleaved in one run, the L2
flushed before each launch, times by the device. What the libraries took is stored too. The
libraries need PyTorch; `--triton` lets Inductor tune a Triton matmul for each shape, which takes
minutes. Layout nt: both operands have k as the fast axis. With `--deadline` the seconds are shared
out, and whatever is done by then is kept: a trial is a row of the database when it ends, and the
table is written after each race.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import matmul_table as table
from cuda_rows import Case, Row, page
from shares import Shares

import autotune
from autotune import peaks
from autotune.benchmark import BenchResult
from autotune.contest import Ring
from autotune.device_names import resolve
from autotune.local_runner import LocalRunner
from autotune.peaks import Peaks
from autotune.rivals import library_record
from autotune.session import INTERRUPTED
from autotune.timing import TimingPlan, default_plan
from records.errors import AutotuneError
from records.store import TuningDatabase
from records.target import Target

TUNING_SHARE = 0.6  # of a deadline for both
LEAST_TUNING_S = 8.0  # inputs, reference, and a few trials
LEAST_RACE_S = 6.0  # of a case of weight 1, its processes running

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
    both = not (options.tune_only or options.bench_only)
    limit_s = options.deadline or float("inf")
    trials: dict[str, int] = {}
    if not options.bench_only:
        tuning_s = limit_s * TUNING_SHARE if both else limit_s
        trials = dict(tune(chosen, options, tuning_s))
    if options.tune_only:
        return int(not any(trials.values()))
    racing_s = limit_s * (1.0 - TUNING_SHARE) if both else limit_s
    return int(not race(chosen, trials, options, racing_s))


def tune(
    cases: Sequence[Case], options: argparse.Namespace, limit_s: float
) -> Iterator[tuple[str, int]]:
    """Each case and how many trials it has; all in the same processes."""
    info = resolve(options.device)
    assert info.target is not None, "resolve gives usable devices"
    plan = _plan(info.target)
    shares = Shares(limit_s, [case.weight for case in cases], least_s=LEAST_TUNING_S)
    with LocalRunner(info.name) as runner:
        for case, share_s in zip(cases, shares, strict=True):
            if not share_s:
                print(f"{case.name}: no time left", flush=True)
                continue
            settings = {"time_limit_s": min(options.time_limit, share_s), "plan": plan}
            try:
                found = table.tune(case.workload, options, compare=False, runner=runner, **settings)
            except AutotuneError as error:  # no template, a lost device
                print(f"{case.name}: not tuned: {error}", flush=True)
                continue
            assert found is not None, "tuning was asked for"
            done = found.progress.done
            print(f"{case.name}: {done} trials, {found.progress.elapsed_s:.0f} s", flush=True)
            yield case.name, done
            if found.outcome == INTERRUPTED:
                raise KeyboardInterrupt


def race(
    cases: Sequence[Case], trials: dict[str, int], options: argparse.Namespace, limit_s: float
) -> list[Row]:
    """A row for each that could be raced; the page is written anew after each."""
    shares = Shares(limit_s, [case.weight for case in cases])
    device_peaks = _peaks(options.device)
    rows: list[Row] = []
    absent: list[str] = []
    with Ring(resolve(options.device).name) as ring:
        for case, share_s in zip(cases, shares, strict=True):
            try:
                if not share_s or shares.left_s < LEAST_RACE_S * case.weight:
                    raise AutotuneError("no time left")
                result = _raced(case, options, ring)
                rows.append(Row(case, trials.get(case.name, 0), result, device_peaks))
                print(rows[-1].line, flush=True)
            except AutotuneError as error:  # nothing stored, a lost contest
                absent.append(f"- {case.name}: not measured: {error}")
                print(absent[-1], flush=True)
            if rows:
                table.write(options.write, "Matmul on an NVIDIA GPU", [*page(rows, absent)])
    if rows:
        print("\n".join(["", *page(rows, absent)]))
    return rows


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


def _raced(case: Case, options: argparse.Namespace, ring: Ring) -> BenchResult:
    """The race; what the libraries took is stored."""
    result = autotune.bench(
        case.workload,
        device=options.device,
        database=options.db,
        rounds=options.rounds,
        on_request=("triton",) if options.triton else (),
        ring=ring,
    )
    flush_bytes = default_plan(result.target).flush_bytes
    with TuningDatabase(options.db) as store:
        for standing, _ in result.rivals:
            store.add(library_record(case.workload, result.target, standing, flush_bytes))
    return result


def _plan(target: Target) -> TimingPlan:
    """Shorter than by default: more schedules in the time there is, the device being warm."""
    return replace(default_plan(target), warmup_s=0.02, budget_s=0.2)


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
    parser.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="for everything; shared out by size"
    )
    parser.add_argument("--tune-only", action="store_true", help="no race")
    parser.add_argument(
        "--export", type=Path, metavar="DIRECTORY", help="only write the records, a file a shape"
    )
    parser.add_argument("--triton", action="store_true", help="Triton is a rival too")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
