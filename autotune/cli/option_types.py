"""Values of options that several ops have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


class Counts(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers, as `128,0,64`; `name` says of what."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        try:
            return tuple(int(count) for count in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no {self.name}; write 128,0,64", param, ctx)


class NewFile(click.ParamType):  # type: ignore[type-arg]
    """Where to write: what cannot be written is told before the work, not after it."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.is_dir():
            self.fail(f"{path} is a directory; name a file in it", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"{path.parent} does not exist; make it: mkdir -p {path.parent}", param, ctx)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"{path} cannot be written; name another file", param, ctx)
        return path
