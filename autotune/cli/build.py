"""`autotune build`."""

from __future__ import annotations

from pathlib import Path

import click

from autotune.cli import text
from autotune.cli.options import database_option, device_option, json_option, stored_target


@click.command("build")
@database_option
@device_option
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory for sources, manifest, header and CMake package.",
)
@click.option("--locked", is_flag=True, help="Refuse if anything differs from the last build.")
@json_option
def command(database: Path, device: str | None, output: Path, locked: bool, as_json: bool) -> None:
    """Write the winners of a device as source, manifest.json and a C header, ready for CMake."""
    from autotune.codegen import build
    from records.store import TuningDatabase

    with TuningDatabase(database, read_only=True) as store:
        target = stored_target(device, store)
        result = build(store, target, output, locked=locked)
    for warning in result.warnings:
        click.echo(f"autotune: warning: {warning}", err=True)
    names = [kernel.name for kernel in result.kernels]
    if as_json:
        text.echo_json({"directory": str(output), "kernels": names, "warnings": result.warnings})
        return
    click.echo(f"{text.counted(len(names), 'kernel')} for {text.device(target)} in {output}")
    for name in names:
        click.echo(f"  {name}")
