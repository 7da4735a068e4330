"""`autotune tune`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from autotune.cli import EXIT_INTERRUPTED, text
from autotune.cli.live import LiveView
from autotune.cli.options import Duration, database_option, device_option, json_option, op_group
from autotune.tuner import TuningResult
from records.workload import Workload
from search_spaces import registry


def tune(
    workload: Workload,
    device: str | None,
    database: Path,
    as_json: bool,
    compare: bool,
    **options: Any,
) -> int:
    """Search for the fastest schedule and store every trial.

    Run the same command again to go on where it stopped.
    """
    from autotune import api

    quiet = as_json or not sys.stderr.isatty()
    with LiveView(quiet=quiet) as view:
        result = api.tune(
            workload, device=device, database=database, observer=view, compare=compare, **options
        )
    if as_json:
        text.echo_json(_as_json(result, database))
    else:
        _print(result, database, device)
    if result.outcome == "interrupted":
        return EXIT_INTERRUPTED
    return 0 if result.best else 1


command = op_group(
    "tune",
    tune,
    device_option,
    database_option,
    click.option(
        "--trials", type=int, default=200, show_default=True, help="Schedules in all, resumed too."
    ),
    click.option("--time-limit", "time_limit_s", type=Duration(), help="Such as 90s or 3m."),
    click.option("--strategy", default="evolutionary", show_default=True, help="How to search."),
    click.option("--model", default="xgboost", show_default=True, help="Cost model, or none."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of search and inputs."),
    click.option(
        "--compare/--no-compare", default=True, help="Time the libraries too, for the live view."
    ),
    json_option,
)


def _print(result: TuningResult, database: Path, device: str | None) -> None:
    progress = result.progress
    counts = ", ".join(f"{count} {status}" for status, count in progress.counts.most_common())
    click.echo(f"{text.name(result.workload)} on {result.target.device}: {result.outcome}")
    click.echo(
        f"  trials    {progress.done} of {progress.trials} ({counts or 'none'}), "
        f"{progress.resumed} from before, {text.duration(progress.elapsed_s)} min"
    )
    if result.best is None:
        click.echo("  best      none: no schedule passed; see the reasons with: autotune db info")
        return
    flops = registry.op(result.workload.op).flops(result.workload)
    time_s = result.best.measurement.time_s
    click.echo(f"  best      {text.rate(flops, time_s)}, {text.seconds(time_s)}")
    for library, ratio in result.ratios.items():
        click.echo(f"  {library:9} ours is {text.ratio(ratio)}, interleaved in one run")
    click.echo(f"  schedule  {result.best.schedule}")
    if result.ties:
        click.echo(f"  ties      {len(result.ties)} more that the race could not tell from it")
    click.echo(f"  stored    {database}")


def _as_json(result: TuningResult, database: Path) -> dict[str, Any]:
    return {
        "outcome": result.outcome,
        "database": str(database),
        "trials": result.progress.done,
        "resumed": result.progress.resumed,
        "counts": {str(status): count for status, count in result.progress.counts.items()},
        "elapsed_s": result.progress.elapsed_s,
        "best": text.record_json(result.best) if result.best else None,
        "ties": [text.record_json(record) for record in result.ties],
        "ratios": {name: ratio.value for name, ratio in result.ratios.items()},
    }
