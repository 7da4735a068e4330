"""`autotune best`."""

from __future__ import annotations

from pathlib import Path

import click

from autotune.cli import text
from autotune.cli.options import database_option, device_option, json_option, op_group
from records.workload import Workload
from search_spaces import registry


def best(workload: Workload, device: str | None, database: Path, top: int, as_json: bool) -> int:
    """Show the best schedules that the database has for a workload on a device."""
    from autotune.device_names import resolve
    from records.store import TuningDatabase

    target = resolve(device).target
    assert target is not None, "resolve gives usable devices"
    with TuningDatabase(database, read_only=True) as store:
        store.best(workload, target)  # says how to tune where there is nothing
        matches = store.ranking(workload, target, top)
    if as_json:
        found = [{**text.record_json(match.record), "how": match.how} for match in matches]
        text.echo_json(found[0] if top == 1 else found)
        return 0
    flops = registry.op(workload.op).flops(workload)
    click.echo(f"{text.name(workload)} on {target.device}")
    for match in matches:
        time_s = match.record.measurement.time_s
        click.echo(
            f"  {text.rate(flops, time_s):>16}  {text.seconds(time_s):>8}  {match.record.schedule}"
        )
    return 0


command = op_group(
    "best",
    best,
    device_option,
    database_option,
    click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="How many."),
    json_option,
)
