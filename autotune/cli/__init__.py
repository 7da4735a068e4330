"""The command line. `main` is the entry point of `autotune`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from records.errors import AutotuneError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "bench": "autotune.cli.bench",
    "best": "autotune.cli.best",
    "build": "autotune.cli.build",
    "db": "autotune.cli.database",
    "devices": "autotune.cli.devices",
    "space": "autotune.cli.space",
    "tune": "autotune.cli.tune",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used, so that `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        import importlib

        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
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
        error.show()
        sys.exit(EXIT_BAD_INPUT)
    except AutotuneError as error:
        click.echo(f"autotune: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away: not our failure
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
