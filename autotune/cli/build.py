"""`autotune build`."""

from __future__ import annotations

from pathlib import Path

import click

from autotune.cli.options import database_option, device_option


@click.command("build")
@database_option
@device_option
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory for sources, manifest, header and CMake package.",
)
@click.option("--locked", is_flag=True, help="Refuse if anything differs from the last build.")
def command(database: Path, device: str | None, output: Path, locked: bool) -> None:
    """Write the winners as source, manifest.json and a C header, ready for CMake."""
    from autotune.codegen import build
    from autotune.device_names import resolve
    from records.store import TuningDatabase

    target = resolve(device).target
    assert target is not None, "resolve gives usable devices"
    with TuningDatabase(database, read_only=True) as store:
        result = build(store, target, output, locked=locked)
    for warning in result.warnings:
        click.echo(f"autotune: warning: {warning}", err=True)
    click.echo(f"{len(result.kernels)} kernels in {output}")
