"""Our search on recorded spaces, cold and knowing relatives, beside Kernel Tuner's strategies.

    python benchmarks/search.py SPACES --seeds 20 --kernel-tuner ktenv/bin/python -o search.md

SPACES are folders, or files of spaces published as JSON (see docs/command-line.md, replay).
Prints Markdown tables of optimum / best found after 10 to 200 trials (failures are trials too):
mean over spaces and seeds, and half of its 95 % interval over seeds; then the time of proposals and
of building spaces. Kernel Tuner runs the same files in its simulation mode, in an interpreter of
its own:

    python -m venv ktenv && ktenv/bin/pip install kernel_tuner==1.5.0 pyatf
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import search_rivals
import search_speed
from search_spaces_files import SpaceFile, find, relatives

from autotune.leaderboard import Standing, ranked
from autotune.recorded import RecordedSpace
from autotune.replay import Policy, Replayed, default_policies, replay, searched
from records.errors import AutotuneError
from records.record import TuningRecord

RIVAL = "Kernel Tuner: "
KNOWN_TRIALS = 200
"""Trials of a search on each relative, that a search which knows them has the records of."""

MARGIN = 0.008
"""Differences at 100 trials that 20 seeds do not tell."""


@click.command(help=__doc__)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", default=20, show_default=True, help="Searches of each space.")
@click.option("--trials", default=200, show_default=True, help="Trials of each search.")
@click.option("--batch", default=12, show_default=True, help="Schedules proposed at once.")
@click.option("--only", default="", help="Files whose folder/name holds this.")
@click.option("--strategies", default="", help="As of autotune replay; the default strategy alone.")
@click.option("--all-strategies", is_flag=True, help="All that autotune replay compares.")
@click.option("--kernel-tuner", "python", help="The interpreter that has Kernel Tuner.")
@click.option("--rivals", default="", help="Strategies of Kernel Tuner; all by default.")
@click.option("--transfer/--no-transfer", default=True, help="Searches that know relatives.")
@click.option("--speed/--no-speed", default=True, help="Times of proposals and construction.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The tables as a file too.")
def main(
    paths: Sequence[Path],
    seeds: int,
    trials: int,
    batch: int,
    only: str,
    strategies: str,
    all_strategies: bool,
    python: str | None,
    rivals: str,
    transfer: bool,
    speed: bool,
    output: Path | None,
) -> None:
    try:
        files = find(paths, only)
        if python is not None:
            search_rivals.check(python)
        policies = _policies(strategies, all_strategies)
    except AutotuneError as error:
        raise click.ClickException(str(error)) from error
    lines: list[str] = []
    for line in _report(files, policies, seeds, trials, batch, python, rivals, transfer, speed):
        click.echo(line)
        lines.append(line)
    if output is not None:
        output.write_text("\n".join(lines) + "\n")


def _policies(strategies: str, every: bool) -> list[Policy]:
    if strategies:
        return [Policy.parse(each) for each in strategies.split(",")]
    return default_policies() if every else default_policies()[:1]


def _report(
    files: Sequence[SpaceFile],
    policies: Sequence[Policy],
    seeds: int,
    trials: int,
    batch: int,
    python: str | None,
    rivals: str,
    transfer: bool,
    speed: bool,
) -> Iterator[str]:
    yield f"{len(files)} spaces, {seeds} seeds each, batches of {batch}"
    yield from ("", "## Cold", "")
    runs = Runs(files, seeds, trials, batch)
    standings = [runs.cold(policy) for policy in policies]
    theirs = runs.kernel_tuner(python, rivals) if python is not None else []
    yield from table(ranked([*standings, *theirs]))
    yield from behind(files, standings[0], theirs)
    if transfer:
        yield from ("", "## Knowing relatives", "")
        yield from runs.transfer(policies[0])
    if speed:
        yield from ("", "## Time of proposals", "")
        yield from search_speed.proposal_rows(policies[0], [runs.nearest_to(10_000)], batch)
        yield from ("", "## Construction of spaces, ms", "")
        yield from search_speed.construction_rows(files, python)


class Runs:
    """Searches of some files; a space is loaded, searched and forgotten."""

    def __init__(self, files: Sequence[SpaceFile], seeds: int, trials: int, batch: int) -> None:
        self._files = files
        self._seeds = range(seeds)
        self._trials = trials
        self._batch = batch
        self._sizes: dict[SpaceFile, int] = {}

    def cold(self, policy: Policy) -> Standing:
        found = []
        for file in self._files:
            space = file.load()
            self._sizes[file] = space.size
            found.append(
                [
                    replay(policy, space, self._trials, seed, batch=self._batch)
                    for seed in self._seeds
                ]
            )
        return Standing.of(policy.name, found, self._trials)

    def kernel_tuner(self, python: str, strategies: str) -> list[Standing]:
        """Of each strategy that ran on every file."""
        found: dict[str, list[list[Replayed]]] = {}
        for file in self._files:
            searches = search_rivals.searches(
                python, file.load(), self._trials, len(self._seeds), strategies
            )
            for name, replays in searches:
                if isinstance(replays, str):
                    click.echo(f"{RIVAL}{name} does not run on {file.name}: {replays}", err=True)
                else:
                    found.setdefault(name, []).append(replays)
        return [
            Standing.of(RIVAL + name, replays, self._trials)
            for name, replays in found.items()
            if len(replays) == len(self._files)
        ]

    def transfer(self, policy: Policy) -> Iterator[str]:
        """Tables of the files that have relatives: knowing them, and cold."""
        kin = [file for file in self._files if relatives(file, self._files)]
        if not kin:
            yield "no two files are of one kernel"
            return
        own = Runs(kin, len(self._seeds), self._trials, self._batch)
        warm = Standing.of(
            f"{policy.name}, knowing relatives",
            [own._knowing(policy, file) for file in kin],
            self._trials,
        )
        yield f"{len(kin)} spaces; known: {KNOWN_TRIALS} trials of a search on each relative"
        yield ""
        yield from table([warm, own.cold(policy)])

    def _knowing(self, policy: Policy, file: SpaceFile) -> list[Replayed]:
        space = file.load()
        kin = [each.load() for each in relatives(file, self._files)]
        found = []
        for seed in self._seeds:
            known: list[TuningRecord] = []
            for each in kin:
                known += searched(policy, each, KNOWN_TRIALS, seed, batch=self._batch)
            found.append(
                replay(policy, space, self._trials, seed, batch=self._batch, earlier=known)
            )
        return found

    def nearest_to(self, size: int) -> RecordedSpace:
        return min(self._files, key=lambda file: abs(self._sizes[file] - size)).load()


def table(standings: Sequence[Standing]) -> Iterator[str]:
    marks = standings[0].marks
    yield f"| search | {' | '.join(map(str, marks))} | trials to 95 % | ms a trial |"
    yield "|---|" + "---|" * (len(marks) + 2)
    for each in standings:
        cells = []
        for mark in marks:
            low, high = each.interval(mark)
            cells.append(f"{each.mean(mark):.3f} ± {(high - low) / 2:.3f}")
        to = each.trials_to(0.95)
        cells += ["-" if to is None else f"{to:.0f}", f"{each.s_per_trial * 1e3:.1f}"]
        yield f"| {each.name} | {' | '.join(cells)} |"


def behind(files: Sequence[SpaceFile], ours: Standing, theirs: Sequence[Standing]) -> Iterator[str]:
    """The spaces on which a strategy of Kernel Tuner is ahead after 100 trials."""
    if not theirs or 100 not in ours.marks:
        return
    yield ""
    own = ours.mean_by_space(100)
    first = max(theirs, key=lambda each: each.mean(100))
    fixed = first.mean_by_space(100)
    by_space = zip(*(each.mean_by_space(100) for each in theirs), strict=True)
    each_best = [max(means) for means in by_space]
    for name, rival in ((first.name, fixed), (f"the best of {len(theirs)} on each", each_best)):
        lost = [at for at in range(len(files)) if own[at] < rival[at] - MARGIN]
        yield f"- behind {name} by more than {MARGIN} after 100 trials: {len(lost)} of {len(files)}"
        yield from (f"  - {files[at].name}: {own[at]:.3f}, {rival[at]:.3f}" for at in lost)


if __name__ == "__main__":
    main()
