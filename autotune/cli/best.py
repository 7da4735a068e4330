"""`autotune best`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from autotune.cli import screen, text
from autotune.cli.options import (
    database_option,
    device_option,
    json_option,
    op_group,
    stored_target,
)
from records.match import Match
from records.record import Kind
from records.workload import Workload


def best(
    workload: Workload, device: str | None, database: Path, top: int | None, as_json: bool
) -> None:
    """Show the best schedules that the database has for a workload on a device."""
    from records.store import TuningDatabase

    with TuningDatabase(database, read_only=True) as store:
        target = stored_target(device, store)
        store.best(workload, target)  # says how to tune where there is nothing
        matches = store.ranking(workload, target, top or 1)
    if as_json:
        found = [text.record_json(match.record) for match in matches]
        text.echo_json(found[0] if top is None else found)
        return
    screen.show(Text(f"{text.name(workload)} on {text.device(target)}", "bold"))
    if top is None:
        screen.show(screen.facts(_facts(workload, matches[0])))
    else:
        screen.show(_table(workload, matches))


command = op_group(
    "best",
    best,
    device_option,
    database_option,
    click.option("--top", type=click.IntRange(1), metavar="N", help="List the N fastest."),
    json_option,
)


def _facts(workload: Workload, match: Match) -> Iterator[tuple[str, str]]:
    measurement, schedule = match.record.measurement, match.schedule
    yield "best", f"{text.rate(workload, match.time_s)}, {text.seconds(match.time_s)}"
    runs = text.counted(len(measurement.times_s), "run")
    raced = "raced against other finalists" if match.record.kind is Kind.FINAL else "in the search"
    yield "measured", f"{match.record.created_at[:16].replace('T', ' ')} UTC, {runs}, {raced}"
    yield "template", f"{schedule.template}, version {schedule.version}"
    yield "knobs", text.knobs(schedule)


def _table(workload: Workload, matches: list[Match]) -> Table:
    rows = (
        (
            text.rate(workload, match.time_s),
            text.seconds(match.time_s),
            match.schedule.template,
            text.knobs(match.schedule),
        )
        for match in matches
    )
    return screen.table(("rate", "time", "template", "knobs"), rows, right=("rate", "time"))
