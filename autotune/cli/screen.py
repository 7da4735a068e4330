"""Tables and text on stdout: columns fit a terminal, and are as wide as they need elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_UNLIMITED_COLUMNS = 10_000


def show(*parts: RenderableType) -> None:
    """Print texts and tables. Plain strings are printed as they are: nothing is markup."""
    is_terminal = sys.stdout.isatty()
    console = Console(
        markup=False,
        emoji=False,
        highlight=False,
        width=None if is_terminal else _UNLIMITED_COLUMNS,
        soft_wrap=False,
    )
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    for line in captured.get().splitlines():
        click.echo(line if is_terminal else line.rstrip())


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> Table:
    """Rows under headings, indented; the columns named in `right` are aligned there."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Labels and what they stand for, one a line, indented."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for label, value in pairs:
        made.add_row(Text(f"  {label}"), Text(value))
    return made
