"""`docs/command-line.md` and the help texts: whole, and in step with the commands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from command_line import ROOT, Run

from autotune.cli import COMMANDS, autotune

PAGE = (ROOT / "docs" / "command-line.md").read_text()
HELP = {"--help", "-h"}


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that lead to it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, (*path, name))


ALL = dict(commands(autotune))


@pytest.mark.parametrize("path", [path for path in ALL if path], ids=" ".join)
def test_the_page_has_the_command_with_its_options(path: tuple[str, ...]) -> None:
    section = _section(path[0])
    assert f"autotune {' '.join(path)}" in section
    described = {"matmul": "Describing a matmul", "attention": "Describing an attention"}
    shared = _section(described[path[-1]]) if path[-1] in described else ""
    for option in _options(ALL[path]):
        assert re.search(rf"`{re.escape(option)}`", section + shared), f"{option} is not there"


@pytest.mark.parametrize("path", [path for path in ALL if path], ids=" ".join)
def test_every_option_has_a_help_line(path: tuple[str, ...]) -> None:
    assert ALL[path].help
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            sentence = re.sub(r"\s+\[default: .*\]$", "", parameter.help or "")
            assert sentence.endswith("."), parameter.name


def test_every_example_of_the_page_names_options_that_exist() -> None:
    examples = re.findall(r"^    autotune (.*)$", PAGE, re.MULTILINE)
    assert len(examples) >= len(COMMANDS)
    for example in examples:
        words = example.split("|")[0].split()
        path = max((path for path in ALL if list(path) == words[: len(path)]), key=len, default=())
        if words[0] == "COMMAND":
            continue
        assert path, example
        for word in words[len(path) :]:
            if word.startswith("-") and word != "-":
                assert word in _options(ALL[path]), f"{word} of: {example}"


def test_json_fields_of_the_page(run: Run) -> None:
    for row in run("devices", "--all", "--no-probe", "--json").json:
        for field in row:
            assert f"| `{field}` |" in _section("devices")


def test_help_is_quick() -> None:
    """It loads no library that a command needs, so it takes a moment whatever is installed."""
    code = (
        "import sys\nfrom autotune.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'rich', 'xgboost', 'sklearn', 'pyopencl', 'sqlite_utils'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert _printed(code).endswith("[]\n")


def test_help_of_a_command_loads_no_driver_and_no_model() -> None:
    code = (
        "import sys\nfrom autotune.cli import main\n"
        "try:\n    main(['tune', 'matmul', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'xgboost', 'sklearn', 'scipy', 'pyopencl', 'sqlite_utils'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert _printed(code).endswith("[]\n")


def test_the_overview_has_a_whole_line_for_each_command(run: Run) -> None:
    out = run("--help").out
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", out, re.MULTILINE)


def test_version(run: Run) -> None:
    assert re.fullmatch(r"autotune, version [\d.]+\n", run("--version").out)


def _options(command: click.Command) -> list[str]:
    return [
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name not in HELP
    ]


def _section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


def _printed(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
