"""Values of options that several ops have."""

from __future__ import annotations

from collections.abc import Callable
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
