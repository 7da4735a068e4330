"""`autotune best`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from records.record import Kind, TuningRecord
from records.workload import Workload


def best(
    workload: Workload,
    device: str | None,
    database: Path,
    top: int | None,
    libraries: bool,
    as_json: bool,
) -> None:
    """Show the best schedules that the database has for a workload on a device."""
    from records.store import TuningDatabase

    with TuningDatabase(database, read_only=True) as store:
        target = stored_target(device, store)
        # Says how to tune where there is nothing.
        store.best(workload, target, include_libraries=libraries)
        matches = store.ranking(workload, target, top or 1, include_libraries=libraries)
        known = store.library(workload, target)
    if as_json:
        found = [text.record_json(match.record) for match in matches]
        text.echo_json(found[0] if top is None else found)
        return
    screen.show(Text(f"{text.name(workload)} on {text.device(target)}", "bold"))
    if top is None:
        screen.show(screen.facts(_facts(workload, matches[0], known)))
    else:
        screen.show(_table(workload, matches))


command = op_group(
    "best",
    best,
    device_option,
    database_option,
    click.option("--top", type=click.IntRange(1), metavar="N", help="List the N fastest."),
    click.option("--libraries", is_flag=True, help="The answer may be a vendor's library."),
    json_option,
)


_OCCASIONS = {
    Kind.SEARCH: "in the search",
    Kind.HEAT: "in a heat of the search",
    Kind.FINAL: "raced against other finalists",
    Kind.LIBRARY: "in a contest with our kernels, or before",
}


def _facts(
    workload: Workload, match: Match, libraries: Sequence[TuningRecord]
) -> Iterator[tuple[str, str]]:
    measurement, schedule = match.record.measurement, match.schedule
    yield "best", f"{text.rate(workload, match.time_s)}, {text.seconds(match.time_s)}"
    runs = text.counted(len(measurement.times_s), "run")
    when = match.record.created_at[:16].replace("T", " ")
    yield "measured", f"{when} UTC, {runs}, {_OCCASIONS[match.record.kind]}"
    if match.record.kind is Kind.LIBRARY:
        yield "library", schedule.template
        return
    yield "template", f"{schedule.template}, version {schedule.version}"
    yield "knobs", text.knobs(schedule)
    if libraries and (library_s := libraries[0].measurement.time_s) is not None:
        wins = "; the library wins here" if library_s < match.time_s else ""
        rate = f"{text.rate(workload, library_s)}, {text.seconds(library_s)}"
        yield libraries[0].schedule.template, f"{rate}{wins}"


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
