"""The command line. `main` is the entry point of `autotune`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from records.errors import AutotuneError

EXIT_FAILED_CHECK = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "bench": ("autotune.cli.bench", "Measure the stored best against the libraries."),
    "best": ("autotune.cli.best", "Show the best stored schedules of a workload."),
    "build": ("autotune.cli.build", "Write the winners as sources, manifest and C header."),
    "db": ("autotune.cli.database", "Look into, check and exchange a database."),
    "devices": ("autotune.cli.devices", "List devices, their limits and measured peaks."),
    "model": ("autotune.cli.model", "Train, judge and show cost models."),
    "replay": ("autotune.cli.replay", "Compare strategies on recorded spaces."),
    "space": ("autotune.cli.space", "Show knobs, constraints and number of schedules."),
    "tune": ("autotune.cli.tune", "Search for the fastest schedule; store every trial."),
}
"""Each command's module, which has it as `command`, and its line in `autotune --help`."""


class CommandGroup(click.Group):
    """A group that says which names there are when it is given another one."""

    noun = "command"

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            there = ", ".join(self.list_commands(ctx))
            ctx.fail(f"no {self.noun} {args[0]!r}; there are: {there}")
        return super().resolve_command(ctx, args)


class _LazyGroup(CommandGroup):
    """Imports a command's module when that command runs, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output went away: not our failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="autotune-kernels", prog_name="autotune")
def autotune() -> None:
    """Find the fastest kernel for a computation on a device, and keep it.

    Exit codes: 0 done, 1 a check failed, 2 bad input or a missing component, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of ours become one line on stderr and exit code 2."""
    try:
        code = autotune.main(arguments, prog_name="autotune", standalone_mode=False)
    except click.ClickException as error:
        _fail(_in_words(error))
    except AutotuneError as error:
        _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        click.echo("autotune: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    click.echo(f"autotune: {message}" if message else "", err=True, nl=bool(message))
    sys.exit(EXIT_BAD_INPUT)


def _in_words(error: click.ClickException) -> str:
    """One line that names the command's help; a group without a command shows that help."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return ""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see: {context.command_path} --help" if context else message
