"""`autotune replay`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from autotune.cli import EXIT_INTERRUPTED, screen, text
from autotune.cli.interrupts import second_ends_at_once
from autotune.cli.option_types import NewFile
from autotune.cli.options import json_option
from records.errors import InvalidInputError

if TYPE_CHECKING:
    from autotune.leaderboard import Standing
    from autotune.recorded import RecordedSpace
    from autotune.recordings.noise import MeasuredNoise
    from autotune.replay import Policy, Replayed

_ENDINGS = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".db")


@click.command("replay")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--strategies",
    metavar="LIST",
    help="Separated by commas; strategy+model for one with another cost model than tune has.  "
    "[default: that of tune, Bayesian ones, and all that need no model]",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    metavar="N",
    default=200,
    show_default=True,
    help="Schedules tried in each search.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    metavar="N",
    default=5,
    show_default=True,
    help="Searches of each space with each strategy.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Schedules proposed at once.  [default: as tune does on a CPU]",
)
@click.option(
    "--noise",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the repeats behind the times: answers are drawn from them.",
)
@click.option("--plot", type=NewFile(), metavar="FILE", help="A page of curves.")
@click.option(
    "-o",
    "--output",
    type=NewFile(),
    metavar="FILE",
    help="Keep the leaderboard, as --json prints it.",
)
@json_option
def command(
    files: Sequence[Path],
    strategies: str | None,
    trials: int,
    seeds: int,
    batch: int | None,
    noise: Path | None,
    plot: Path | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Compare strategies on recorded spaces: a leaderboard, without any device.

    FILE is a tuning database, what db export wrote, a space published as JSON, a Kernel Tuner
    cache, T4 results, or a folder of such files.
    """
    from autotune import leaderboard, leaderboard_plot
    from autotune.session import BATCH

    if plot is not None:
        leaderboard_plot.required()
    policies = _policies(strategies)
    batch = batch or BATCH
    paths = list(_listed(files))
    _check(paths, noise)
    spaces: list[dict[str, Any]] = []
    replays: list[list[list[Replayed]]] = []
    interrupted = False
    with second_ends_at_once(), _progress(len(paths)) as progress:
        try:
            for space, found in _compared(paths, policies, trials, seeds, batch, noise, progress):
                spaces.append(space)
                replays.append(found)
        except KeyboardInterrupt:
            if not replays:
                raise
            interrupted = True
    standings = leaderboard.ranked(
        leaderboard.Standing.of(policy.name, found, trials)
        for policy, found in zip(policies, zip(*replays, strict=True), strict=True)
    )
    result = leaderboard.as_json(
        spaces,
        standings,
        trials=trials,
        seeds=seeds,
        batch=batch,
        noise=noise is not None,
        interrupted=interrupted,
    )
    title = f"{text.counted(len(spaces), 'space')}, {text.counted(seeds, 'seed')} each"
    title += ", interrupted" if interrupted else ""
    _keep(result, standings, title, output, plot)
    if as_json:
        text.echo_json(result)
    else:
        _print(standings, title, seeds)
    return EXIT_INTERRUPTED if interrupted else 0


def _compared(
    paths: Sequence[Path],
    policies: Sequence[Policy],
    trials: int,
    seeds: int,
    batch: int,
    noise: Path | None,
    progress: _Bar,
) -> Iterator[tuple[dict[str, Any], list[list[Replayed]]]]:
    """Each space, and every policy's searches of it."""
    from autotune.replay import warm_up

    warm: set[str] = set()
    for path in paths:
        recordings = list(_recordings(path, noise))
        for recorded, repeats in recordings:
            found = []
            for policy in policies:
                progress.tell(f"{policy.name}: {recorded.name}")
                if policy.name not in warm:
                    warm_up(policy, recorded)
                    warm.add(policy.name)
                found.append(_searches(policy, recorded, trials, seeds, batch, repeats))
                progress.advance(1.0 / len(recordings) / len(policies))
            yield _space_json(recorded), found


def _policies(listed: str | None) -> list[Policy]:
    from autotune.replay import Policy, default_policies

    if listed is None:
        return default_policies()
    return [Policy.parse(each) for each in dict.fromkeys(listed.split(","))]


def _listed(files: Sequence[Path]) -> Iterator[Path]:
    """Files, and those of folders whose names end as a recording's does."""
    for path in files:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(each for each in path.rglob("*") if each.name.endswith(_ENDINGS))
        if not inside:
            raise InvalidInputError(f"{path}: no file in it ends in {', '.join(_ENDINGS)}")
        yield from inside


def _check(paths: Sequence[Path], noise: Path | None) -> None:
    """A file that cannot be used is told before the others are searched, which may take hours."""
    if len(paths) > 1:
        for path in paths:
            for _ in _recordings(path, noise):
                pass


def _recordings(
    path: Path, noise: Path | None
) -> Iterator[tuple[RecordedSpace, MeasuredNoise | None]]:
    from autotune.recordings import read
    from autotune.recordings.noise import MeasuredNoise, find

    found = read(path)
    if noise is not None and len(found) > 1:
        raise InvalidInputError(f"{path}: repeats are known only of files of one recording")
    for recorded in found:
        if noise is None:
            yield recorded, None
        else:
            yield recorded, MeasuredNoise.load(find(noise, path), recorded)


class _Bar:
    """How far it is, on stderr, where that is a terminal."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)

    def tell(self, what: str) -> None:
        self._bar.update(self._task, description=what)

    def advance(self, files: float) -> None:
        self._bar.advance(self._task, files)


@contextmanager
def _progress(total: int) -> Iterator[_Bar]:
    console = Console(stderr=True, markup=False)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        yield _Bar(bar, total)


def _searches(
    policy: Policy,
    recorded: RecordedSpace,
    trials: int,
    seeds: int,
    batch: int,
    noise: MeasuredNoise | None,
) -> list[Replayed]:
    from autotune.replay import replay

    return [
        replay(policy, recorded, trials, seed, batch=batch, noise=noise) for seed in range(seeds)
    ]


def _space_json(recorded: RecordedSpace) -> dict[str, Any]:
    failed = sum(not measurement.is_ok for measurement in recorded.measurements.values())
    return {
        "name": recorded.name,
        "schedules": recorded.size,
        "failed": failed,
        "optimum_s": recorded.optimum_s,
    }


def _keep(
    result: dict[str, Any],
    standings: Sequence[Standing],
    title: str,
    output: Path | None,
    plot: Path | None,
) -> None:
    if output is not None:
        try:
            output.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise InvalidInputError(
                f"{output}: cannot be written: {error}; name another file"
            ) from error
    if plot is not None:
        from autotune import leaderboard_plot

        leaderboard_plot.write(standings, plot, title)


def _print(standings: Sequence[Standing], title: str, seeds: int) -> None:
    from autotune import leaderboard

    screen.show(title)
    interval = "; ± 95 % over seeds, the widest" if seeds > 1 else ""
    for heading, rows in (
        (f"mean fraction of the optimum after so many trials{interval}", leaderboard.fractions),
        ("trials until half of the searches were so near the optimum", leaderboard.efforts),
    ):
        headings, *cells = rows(standings)
        screen.show("", heading, screen.table(headings, cells, right=headings[1:]))
