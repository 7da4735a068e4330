"""`autotune db`: look into, check and exchange a tuning database."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from autotune.cli import text
from autotune.cli.options import database_option, json_option
from records.store import TuningDatabase


@click.group("db")
def command() -> None:
    """Look into, check and exchange a tuning database."""


@command.command("info")
@database_option
@json_option
def info(database: Path, as_json: bool) -> None:
    """What the database holds: counts by table and status, and the best of each workload."""
    with TuningDatabase(database, read_only=True) as store:
        found = store.info()
    if as_json:
        text.echo_json(dataclasses.asdict(found) | {"path": str(found.path)})
        return
    click.echo(str(found))


@command.command("check")
@database_option
def check(database: Path) -> int:
    """Look for damage; exit code 1 if there is any."""
    with TuningDatabase(database, read_only=True) as store:
        problems = store.check()
    for problem in problems:
        click.echo(problem)
    if not problems:
        click.echo(f"{database}: sound")
    return 1 if problems else 0


@command.command("export")
@database_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(database: Path, file: Path) -> None:
    """Write every record to FILE as JSON lines."""
    with TuningDatabase(database, read_only=True) as store:
        count = store.export(file)
    click.echo(f"{count} records written to {file}")


@command.command("import")
@database_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(database: Path, file: Path) -> None:
    """Add the records of FILE (JSON lines, as export writes them); those there are skipped."""
    with TuningDatabase(database) as store:
        outcome = store.import_(file)
    click.echo(f"{outcome.added} records added, {outcome.skipped} there already")
