"""Options that several commands share, and one subcommand an op."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from records.workload import Workload
from search_spaces import registry

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

MATMUL_OPTIONS: tuple[Decorator, ...] = (
    click.option("-m", "m", type=int, required=True, help="Rows of A and C."),
    click.option("-n", "n", type=int, required=True, help="Columns of B and C."),
    click.option("-k", "k", type=int, required=True, help="Columns of A, rows of B."),
    click.option("--batch", type=int, default=1, show_default=True, help="Products side by side."),
    click.option("--dtype", default="float32", show_default=True, help="Type of A, B and C."),
    click.option("--accumulate", default=None, help="Type of the sums.  [default: by dtype]"),
    click.option(
        "--layout", default="nn", show_default=True, help="nn, nt, tn, tt: A, B stored transposed."
    ),
    click.option(
        "--epilogue",
        default="",
        metavar="STEPS",
        help="Steps on the result, in order: alpha, beta, bias, relu, gelu, gelu_tanh, silu, "
        "residual; with commas between.",
    ),
)

OP_OPTIONS: dict[str, tuple[Decorator, ...]] = {
    "matmul": MATMUL_OPTIONS,
}

device_option = click.option(
    "--device",
    metavar="NAME",
    help="opencl:<part of its name>, opencl:<platform>:<device>, cuda:<index>, sim:<name>.  "
    "[default: the fastest usable one]",
)
database_option = click.option(
    "--db",
    "database",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("tuning.db"),
    show_default=True,
    help="The tuning database.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on stdout.")


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
        if match is None:
            self.fail(f"{value!r} is no duration; write 90s, 3m or 1h", param, ctx)
        return float(match[1]) * self._units[match[2]]


def op_group(name: str, callback: Callable[..., Any], *options: Decorator) -> click.Group:
    """A group with one subcommand an op: `autotune NAME matmul -m …`.

    `callback(workload, **options)` runs with the validated workload; its docstring is the help.
    """
    group = click.Group(name, help=callback.__doc__)
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
