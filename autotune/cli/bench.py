"""`autotune bench`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from autotune.cli import screen, text
from autotune.cli.options import database_option, device_option, json_option, op_group
from records.workload import Workload

if TYPE_CHECKING:
    from autotune.benchmark import BenchResult
    from autotune.contest import Standing


def bench(workload: Workload, database: Path, as_json: bool, **options: Any) -> None:
    """Measure the stored best and the libraries, interleaved in one run.

    The libraries run in a process without OPENBLAS_*, MKL_* and OMP_* settings.
    """
    from autotune.benchmark import bench as run

    result = run(workload, database=database, **options)
    if as_json:
        text.echo_json(_as_json(result))
        return
    screen.show(
        Text(f"{text.name(workload)} on {text.device(result.target)}", "bold"),
        screen.table(("", "rate", "time", "ours is", ""), _rows(result), right=("rate", "time")),
    )


command = op_group(
    "bench",
    bench,
    device_option,
    database_option,
    click.option(
        "--rounds",
        type=click.IntRange(1),
        metavar="N",
        default=15,
        show_default=True,
        help="Samples of each, taken in turn.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        metavar="N",
        default=0,
        show_default=True,
        help="Of the inputs.",
    ),
    json_option,
)


def _rows(result: BenchResult) -> Iterator[tuple[str, str, str, str, str]]:
    yield (*_cells(result.workload, result.ours), "", text.knobs(result.record.schedule))
    for standing, ratio in result.rivals:
        facts = ", ".join(f"{name} {value}" for name, value in standing.details.items())
        yield (*_cells(result.workload, standing), text.ratio(ratio), facts)
    for name, reason in result.absent:
        yield (f"  {name}", "-", "-", "-", f"not compared: {reason}")


def _cells(workload: Workload, standing: Standing) -> tuple[str, str, str]:
    time_s = standing.time_s
    return f"  {standing.name}", text.rate(workload, time_s), text.seconds(time_s)


def _as_json(result: BenchResult) -> dict[str, Any]:
    rivals = [
        {**dataclasses.asdict(standing), "time_s": standing.time_s, **text.ratio_json(ratio)}
        for standing, ratio in result.rivals
    ]
    return {
        "workload": result.workload.to_json(),
        "target": result.target.to_json(),
        "record": text.record_json(result.record),
        "ours": {**dataclasses.asdict(result.ours), "time_s": result.ours.time_s},
        "rivals": rivals,
        "absent": dict(result.absent),
    }
