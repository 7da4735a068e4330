"""What the benchmarks of matmul share: options, tuning within a budget, facts, the page."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import autotune
from autotune.benchmark import BenchResult
from autotune.session import TuningResult
from records.workload import Workload


def parser(
    description: str, *, device: str, db: Path, time_limit_s: float, rounds: int
) -> argparse.ArgumentParser:
    """The options of every table; the arguments are their defaults."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--device", default=device)
    options.add_argument("--db", type=Path, default=db)
    options.add_argument("--trials", type=int, default=200, help="in all, of each shape")
    options.add_argument(
        "--time-limit", type=float, default=time_limit_s, help="seconds of tuning a shape"
    )
    options.add_argument("--rounds", type=int, default=rounds)
    options.add_argument("--bench-only", action="store_true", help="race what is stored")
    options.add_argument("--write", type=Path, metavar="FILE", help="write the table there")
    return options


def tune(workload: Workload, options: argparse.Namespace, **settings: Any) -> TuningResult | None:
    """`None` with `--bench-only`. `settings` are those of `autotune.tune`, before the options."""
    if options.bench_only:
        return None
    given = {"trials": options.trials, "time_limit_s": options.time_limit, **settings}
    return autotune.tune(workload, device=options.device, database=options.db, **given)


def shape(workload: Workload) -> str:
    return "×".join(str(workload[extent]) for extent in "mnk")


def facts(result: BenchResult) -> str:
    """The device and what ran beside us."""
    rivals = "; ".join(
        ", ".join(f"{name} {value}" for name, value in standing.details.items())
        for standing, _ in result.rivals
    )
    return (
        f"{result.target.device}, {result.target.limit('units')} units, {result.target.arch}, "
        f"{platform.system()} {platform.machine()}. Rivals: {rivals or 'none'}."
    )


def write(path: Path | None, title: str, lines: Sequence[str]) -> None:
    """A page with the command that made it, where a file is asked for."""
    if path is not None:
        command = f"    python {' '.join(sys.argv)}"
        path.write_text("\n".join([f"# {title}", "", command, "", *lines, ""]))
