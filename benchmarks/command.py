"""What the command lines of benchmarks share."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from autotune.cli.option_types import NewFile
from records.errors import AutotuneError

COUNT = click.IntRange(1)

output_option = click.option("-o", "--output", type=NewFile(), help="The tables as a file too.")


def tell(lines: Iterable[str], output: Path | None) -> None:
    """Each line as soon as it is there, on stdout and in the file."""
    with output.open("w") if output is not None else nullcontext() as file:
        for line in lines:
            click.echo(line)
            if file is not None:
                print(line, file=file, flush=True)


class Benchmark(click.Command):
    """Our errors are a line on stderr and exit code 2, as those of `autotune` are."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AutotuneError as error:
            raise _Refused(str(error)) from error


class _Refused(click.ClickException):
    exit_code = 2
