"""`autotune bench`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from autotune.benchmark import BenchResult
from autotune.cli import text
from autotune.cli.options import database_option, device_option, json_option, op_group
from autotune.contest import Standing
from records.workload import Workload
from search_spaces import registry


def bench(workload: Workload, database: Path, as_json: bool, **options: Any) -> None:
    """Measure the stored best and the libraries, interleaved in one run.

    The libraries run in a process without OPENBLAS_*, MKL_* and OMP_* settings.
    """
    from autotune.benchmark import bench as run

    result = run(workload, database=database, **options)
    if as_json:
        text.echo_json(_as_json(result))
    else:
        _print(result)


command = op_group(
    "bench",
    bench,
    device_option,
    database_option,
    click.option("--rounds", type=click.IntRange(1), default=15, show_default=True),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the inputs."),
    json_option,
)


def _print(result: BenchResult) -> None:
    flops = registry.op(result.workload.op).flops(result.workload)
    click.echo(f"{text.name(result.workload)} on {result.target.device}")
    click.echo(_line(result.ours, flops))
    for standing, ratio in result.rivals:
        facts = ", ".join(f"{name} {value}" for name, value in standing.details.items())
        click.echo(f"{_line(standing, flops)}  ours is {text.ratio(ratio)}  ({facts})")
    for name, reason in result.absent:
        click.echo(f"  {name:10} not compared: {reason}")


def _line(standing: Standing, flops: float) -> str:
    time_s = standing.time_s
    return f"  {standing.name:10} {text.rate(flops, time_s):>16}  {text.seconds(time_s):>8}"


def _as_json(result: BenchResult) -> dict[str, Any]:
    rivals = [
        {**dataclasses.asdict(standing), "time_s": standing.time_s, "ratio": ratio.value,
         "ratio_interval": ratio.interval}
        for standing, ratio in result.rivals
    ]  # fmt: skip
    return {
        "workload": result.workload.to_json(),
        "target": result.target.to_json(),
        "record": text.record_json(result.record),
        "ours": {**dataclasses.asdict(result.ours), "time_s": result.ours.time_s},
        "rivals": rivals,
        "absent": dict(result.absent),
    }
