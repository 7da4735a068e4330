"""`autotune db`: look into, check and exchange a tuning database."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from autotune.cli import EXIT_FAILED_CHECK, CommandGroup, screen, text
from autotune.cli.options import database_option, json_option
from records.errors import SchemaError

if TYPE_CHECKING:
    from records.inspection import DatabaseInfo

_SHOWN_REASONS = 10
_REASON_WIDTH = 120
_PIPE = Path("-")


@click.group("db", cls=CommandGroup)
def command() -> None:
    """Look into, check and exchange a tuning database."""


@command.command("info")
@database_option
@json_option
def info(database: Path, as_json: bool) -> None:
    """Show what is in it: trials by outcome, reasons of failures, the best of each workload."""
    from records.store import TuningDatabase

    with TuningDatabase(database, read_only=True) as store:
        found = store.info()
    if as_json:
        text.echo_json(found.to_json())
    else:
        _print(found)


@command.command("check")
@database_option
@json_option
def check(database: Path, as_json: bool) -> int:
    """Look for damage; exit code 1 if there is any."""
    from records.store import TuningDatabase

    try:
        with TuningDatabase(database, read_only=True) as store:
            problems = store.check()
    except SchemaError as error:
        problems = [str(error)]
    if as_json:
        text.echo_json({"path": str(database), "problems": problems})
    else:
        for line in problems or [f"{database}: sound"]:
            click.echo(line)
    return EXIT_FAILED_CHECK if problems else 0


@command.command("export")
@database_option
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def export(database: Path, file: Path) -> None:
    """Write every record to FILE as JSON lines; - is stdout, and *.gz is compressed."""
    from records import exchange
    from records.store import TuningDatabase

    with TuningDatabase(database, read_only=True) as store:
        if file == _PIPE:
            exchange.write(store.records(), sys.stdout, store.peaks())
            sys.stdout.flush()
            return
        count = store.export(file)
    click.echo(f"{text.counted(count, 'record')} written to {file}")


@command.command("import")
@database_option
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@json_option
def import_(database: Path, file: Path, as_json: bool) -> None:
    """Add the records of FILE, as export writes it; - is stdin. Those there are skipped."""
    from records.store import TuningDatabase

    with TuningDatabase(database) as store:
        if file == _PIPE:
            report = store.import_lines(sys.stdin, "stdin")
        else:
            report = store.import_(file)
    if as_json:
        text.echo_json({"added": report.added, "skipped": report.skipped})
    else:
        click.echo(f"{text.counted(report.added, 'record')} added, {report.skipped:,} there before")


def _print(found: DatabaseInfo) -> None:
    counts = ", ".join(text.counted(count, table[:-1]) for table, count in found.rows.items())
    screen.show(
        Text(str(found.path), "bold"),
        f"  schema {found.schema_version}, {text.size(found.bytes)}: {counts}",
    )
    if found.statuses:
        by_status = ((f"  {count:,}", status) for status, count in found.statuses.items())
        screen.show("", screen.table(("  trials", "outcome"), by_status, right=("  trials",)))
    if found.failures:
        _show_failures(found)
    if found.pairs:
        headings = ("  workload", "device", "trials", "best", "rate", "template")
        best = screen.table(headings, _best_rows(found), right=("trials", "best", "rate"))
        screen.show("", best)


def _show_failures(found: DatabaseInfo) -> None:
    rows = (
        (f"  {failure.trials:,}", failure.status, _shortened(failure.reason))
        for failure in found.failures[:_SHOWN_REASONS]
    )
    screen.show("", screen.table(("  failed", "outcome", "such as"), rows, right=("  failed",)))
    more = len(found.failures) - _SHOWN_REASONS
    if more > 0:
        screen.show(f"  and {text.counted(more, 'reason')} more, all listed by --json")


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _REASON_WIDTH else f"{reason[: _REASON_WIDTH - 1]}…"


def _best_rows(found: DatabaseInfo) -> Iterator[tuple[str, ...]]:
    for pair in found.pairs:
        time_s = pair.best.time_s if pair.best else None
        yield (
            f"  {text.name(pair.workload)}",
            text.device(pair.target),
            f"{pair.trials:,}",
            text.seconds(time_s),
            text.rate(pair.workload, time_s),
            pair.best.schedule.template if pair.best else "none usable",
        )
