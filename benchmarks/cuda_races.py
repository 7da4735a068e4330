"""What the benchmarks on an NVIDIA GPU share: cases tuned and raced, pages, exported records.

Every case is tuned, then each is raced: stored best and libraries, interleaved in one run, the L2
flushed before each launch, times by the device. What the libraries took is stored too. With
`--deadline` the seconds are shared out, and whatever is done by then is kept: a trial is a row of
the database when it ends, and the table is written after each race.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import matmul_table as table
from shares import Shares

import autotune
from autotune import peaks
from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Ring
from autotune.device_names import resolve
from autotune.local_runner import LocalRunner
from autotune.peaks import Peaks
from autotune.problem_files import ProblemFiles
from autotune.rivals import library_record
from autotune.session import INTERRUPTED
from autotune.timing import TimingPlan, default_plan
from records.errors import AutotuneError
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces import registry

MEAN_GOAL = 1.05  # of the ratios to rivals
TUNING_SHARE = 0.6  # of a deadline for both
LEAST_TUNING_S = 8.0  # inputs, reference, and a few trials
LEAST_RACE_S = 6.0  # of a case of weight 1, its processes running

_PROBLEMS_KEPT = 64
_WEIGHTY_ELEMENTS = 2**27  # take as long as everything else about a shape
_WEIGHTY_FLOPS = 2e12  # of attention: its reference takes them in float64; BLAS hides a matmul's


@dataclass(frozen=True)
class Case:
    """A workload and the name by which `--shapes` chooses it."""

    name: str
    workload: Workload

    @property
    def weight(self) -> float:
        """Of its share of the time: arrays are drawn, copied and compared with a reference."""
        op = registry.op(self.workload.op)
        elements = sum(math.prod(array.shape) for array in op.arrays(self.workload))
        flops = op.flops(self.workload) if self.workload.op == "attention" else 0.0
        return 1.0 + elements / _WEIGHTY_ELEMENTS + flops / _WEIGHTY_FLOPS


class Row(Protocol):
    """A race of a case and what it is compared with, as a row of the table.

    `ratio` is against the rivals that the mean is taken over, `None` without one; `shortfalls`
    are the goals that it misses, in words.
    """

    @property
    def case(self) -> Case: ...

    @property
    def result(self) -> BenchResult: ...

    @property
    def line(self) -> str: ...

    @property
    def ratio(self) -> Ratio | None: ...

    def shortfalls(self) -> Iterator[str]: ...


@dataclass(frozen=True)
class Table:
    """What is raced and how it is shown.

    `row(case, trials, result, peaks)`; `notes` and `header` stand above the rows; `rival` names
    what ratios are against. `on_request`: rivals that take minutes, by the option that asks for
    them.
    """

    title: str
    cases: Sequence[Case]
    row: Callable[[Case, int, BenchResult, Peaks | None], Any]
    notes: Sequence[str]
    header: Sequence[str]
    rival: str
    on_request: Mapping[str, str]


def page(shown: Table, rows: Sequence[Row], absent: Sequence[str]) -> Iterator[str]:
    """Facts, the table, the mean, what falls short."""
    yield table.facts(rows[0].result)
    yield ""
    yield from shown.notes
    yield ""
    yield from shown.header
    yield from (row.line for row in rows)
    yield ""
    ratios = [row.ratio.value for row in rows if row.ratio is not None]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        yield f"Geometric mean over {len(ratios)}: {mean:.3f} × {shown.rival} (goal {MEAN_GOAL})."
    short = [
        f"- {row.case.name}: {'; '.join(each)}" for row in rows if (each := [*row.shortfalls()])
    ]
    yield "Falls short:" if short or absent else "Nothing falls short."
    yield from (*short, *absent)


def written(ratio: Ratio) -> str:
    within = "" if ratio.interval is None else f" ± {ratio.value * ratio.interval:.3f}"
    return f"**{ratio.value:.3f}**{within}"


def run(shown: Table, options: argparse.Namespace) -> int:
    """Exit status 1 where nothing could be measured."""
    chosen = [case for case in shown.cases if is_chosen(case, options.shapes)]
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
    return int(not race(shown, chosen, trials, options, racing_s))


def tune(
    cases: Sequence[Case], options: argparse.Namespace, limit_s: float
) -> Iterator[tuple[str, int]]:
    """Each case and how many trials it has; all in the same processes."""
    info = resolve(options.device)
    assert info.target is not None, "resolve gives usable devices"
    plan = _plan(info.target)
    shares = Shares(limit_s, [case.weight for case in cases], least_s=LEAST_TUNING_S)
    with LocalRunner(info.name, problem_files=_problem_files(options)) as runner:
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
    shown: Table,
    cases: Sequence[Case],
    trials: dict[str, int],
    options: argparse.Namespace,
    limit_s: float,
) -> list[Row]:
    """A row for each that could be raced; the page is written anew after each."""
    shares = Shares(limit_s, [case.weight for case in cases])
    device_peaks = _peaks(options.device)
    rows: list[Row] = []
    absent: list[str] = []
    files = _problem_files(options)
    with Ring(resolve(options.device).name, problem_files=files) as ring:
        for case, share_s in zip(cases, shares, strict=True):
            try:
                if not share_s or shares.left_s < LEAST_RACE_S * case.weight:
                    raise AutotuneError("no time left")
                result = _raced(shown, case, options, ring)
                rows.append(shown.row(case, trials.get(case.name, 0), result, device_peaks))
                print(rows[-1].line, flush=True)
            except AutotuneError as error:  # nothing stored, a lost contest
                absent.append(f"- {case.name}: not measured: {error}")
                print(absent[-1], flush=True)
            if rows:
                table.write(options.write, shown.title, [*page(shown, rows, absent)])
    if rows:
        print("\n".join(["", *page(shown, rows, absent)]))
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


def _raced(shown: Table, case: Case, options: argparse.Namespace, ring: Ring) -> BenchResult:
    """The race; what the libraries took is stored."""
    result = autotune.bench(
        case.workload,
        device=options.device,
        database=options.db,
        rounds=options.rounds,
        on_request=[name for name in shown.on_request if getattr(options, name)],
        ring=ring,
    )
    flush_bytes = default_plan(result.target).flush_bytes
    with TuningDatabase(options.db) as store:
        for standing, _ in result.rivals:
            store.add(library_record(case.workload, result.target, standing, flush_bytes))
    return result


def _problem_files(options: argparse.Namespace) -> ProblemFiles | None:
    if options.problems is None:
        return None
    options.problems.mkdir(parents=True, exist_ok=True)
    return ProblemFiles(options.problems, most=_PROBLEMS_KEPT)


def _plan(target: Target) -> TimingPlan:
    """Shorter than by default: more schedules in the time there is, the device being warm."""
    return replace(default_plan(target), warmup_s=0.02, budget_s=0.2)


def _peaks(device: str) -> Peaks | None:
    try:
        return peaks.probe(device)
    except AutotuneError as error:
        print(f"no peaks: {error}", flush=True)
        return None


def is_chosen(case: Case, patterns: str) -> bool:
    return any(fnmatch(case.name, pattern) for pattern in patterns.split(","))


def parser(shown: Table, description: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options; `defaults` are those of `matmul_table.parser`."""
    options = table.parser(description, device="cuda:0", rounds=15, **defaults)
    options.add_argument(
        "--shapes",
        default="*",
        metavar="PATTERN,…",
        help=f"only these, such as '{shown.cases[0].name.partition('/')[0]}/*'",
    )
    options.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="for everything; shared out by size"
    )
    options.add_argument(
        "--problems",
        type=Path,
        metavar="DIRECTORY",
        help="keep inputs and references there for the next command: up to 1.5 GB a shape",
    )
    options.add_argument("--tune-only", action="store_true", help="no race")
    options.add_argument(
        "--export", type=Path, metavar="DIRECTORY", help="only write the records, a file a shape"
    )
    for name, meaning in shown.on_request.items():
        options.add_argument(f"--{name}", action="store_true", help=meaning)
    return options
