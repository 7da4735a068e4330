"""Options that several commands share, and one subcommand an op."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autotune.cli import CommandGroup
from autotune.cli.attention_options import ATTENTION_OPTIONS
from autotune.cli.matmul_options import MATMUL_OPTIONS
from autotune.cli.option_types import Decorator
from records.errors import InvalidInputError, MissingComponentError
from records.target import Target
from records.workload import Workload
from search_spaces import registry

if TYPE_CHECKING:
    from records.store import TuningDatabase

OP_OPTIONS: dict[str, tuple[Decorator, ...]] = {
    "matmul": MATMUL_OPTIONS,
    "attention": ATTENTION_OPTIONS,
}

device_option = click.option(
    "--device",
    metavar="NAME",
    help="opencl:<part of its name>, opencl:<platform>:<device>, cuda:<index> or sim:<name>.  "
    "[default: the fastest usable one]",
)
database_option = click.option(
    "--db",
    "database",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=Path("tuning.db"),
    show_default=True,
    help="The tuning database.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on stdout.")


def present_target(device: str | None) -> Target:
    """The target of the device of this machine that `--device` means."""
    from autotune.device_names import resolve

    target = resolve(device).target
    assert target is not None, "resolve gives usable devices"
    return target


def stored_target(device: str | None, database: TuningDatabase) -> Target:
    """The same, or else the one that the database knows by that name.

    So the results of a machine can be asked for, and built, on another.
    """
    try:
        return present_target(device)
    except (InvalidInputError, MissingComponentError) as error:
        known = database.targets()
        matching = [target for target in known if _is_named(target, device)]
        if len(matching) == 1:
            return matching[0]
        names = ", ".join(f"{target.backend}:{target.device}" for target in matching or known)
        raise InvalidInputError(f"{error}; {database.path} knows: {names or 'none'}") from None


def _is_named(target: Target, device: str | None) -> bool:
    backend, _, part = (device or "").lower().strip().partition(":")
    named = part in target.device.lower() or part == target.limit("kind", "")
    return backend in ("", target.backend) and named


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, as `90`, `90s`, `3m` or `1h`."""

    name = "duration"
    _units = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value).strip())
        if match is None or not float(match[1]):
            self.fail(f"{value!r} is no duration; write 90s, 3m or 1h", param, ctx)
        return float(match[1]) * self._units[match[2]]


class Percentage(click.ParamType):  # type: ignore[type-arg]
    """A share, written as `0.5%`: a number alone might be either."""

    name = "percentage"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(value).strip())
        if match is None or not float(match[1]):
            self.fail(f"{value!r} is no percentage above 0; write 0.5%", param, ctx)
        return float(match[1]) / 100.0


class _OpGroup(CommandGroup):
    noun = "op"


def op_group(name: str, callback: Callable[..., Any], *options: Decorator) -> click.Group:
    """A group with one subcommand an op: `autotune NAME matmul -m …`.

    `callback(workload, **options)` runs with the validated workload; its docstring is the help.
    """
    group = _OpGroup(
        name, help=callback.__doc__, options_metavar="", subcommand_metavar="OP [OPTIONS]"
    )
    for op_name, op_options in OP_OPTIONS.items():
        group.add_command(_op_command(op_name, callback, (*op_options, *options)))
    return group


def _op_command(
    op_name: str, callback: Callable[..., Any], options: tuple[Decorator, ...]
) -> click.Command:
    def run(**values: Any) -> Any:
        names = {option.name for option in _declared(OP_OPTIONS[op_name])}
        params = {name: values.pop(name) for name in names}
        params = {name: value for name, value in params.items() if value is not None}
        workload: Workload = registry.op(op_name).workload(**params)
        return callback(workload, **values)

    run.__doc__ = callback.__doc__
    decorated: Callable[..., Any] = run
    for option in reversed(options):
        decorated = option(decorated)
    return click.command(op_name)(decorated)


def _declared(options: tuple[Decorator, ...]) -> list[click.Parameter]:
    def nothing() -> None: ...

    for option in options:
        option(nothing)
    declared: list[click.Parameter] = getattr(nothing, "__click_params__", [])
    return declared
