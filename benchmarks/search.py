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
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean

import click
import search_rivals
import search_speed
from command import COUNT, Benchmark, output_option, tell
from search_runs import Rivals, Runs
from search_spaces_files import SpaceFile, families, find, relatives

from autotune.cli.text import counted
from autotune.leaderboard import Standing, ranked
from autotune.replay import Policy, default_policies

SIZE = 10_000
"""Schedules of the space, nearly, on which proposals are timed."""

JUDGED = 100
"""Trials after which spaces are compared one by one."""

MARGIN = 0.008
"""Differences then that 20 seeds do not tell."""


@click.command(help=__doc__, cls=Benchmark)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", type=COUNT, default=20, show_default=True, help="Searches of each space.")
@click.option("--trials", type=COUNT, default=200, show_default=True, help="Trials of each search.")
@click.option(
    "--batch", type=COUNT, default=12, show_default=True, help="Schedules proposed at once."
)
@click.option("--only", default="", help="Files whose folder/name holds this.")
@click.option("--strategies", default="", help="As of autotune replay; the default strategy alone.")
@click.option("--all-strategies", is_flag=True, help="All that autotune replay compares.")
@click.option("--kernel-tuner", "python", help="The interpreter that has Kernel Tuner.")
@click.option("--rivals", default="", help="Strategies of Kernel Tuner; all by default.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for Kernel Tuner's searches, which are not made again.",
)
@click.option(
    "--noise",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of repeats, as of autotune replay: searches of the files that have some.",
)
@click.option("--transfer/--no-transfer", default=True, help="Searches that know relatives.")
@click.option("--speed/--no-speed", default=True, help="Times of proposals and construction.")
@click.option(
    "--processes",
    type=COUNT,
    default=1,
    show_default=True,
    help="That search at once, a file each; more distort the milliseconds a trial.",
)
@output_option
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
    keep: Path | None,
    noise: Path | None,
    transfer: bool,
    speed: bool,
    processes: int,
    output: Path | None,
) -> None:
    files = find(paths, only)
    if python is not None:
        search_rivals.check(python)
    policies = _policies(strategies, all_strategies)
    runs = Runs(files, seeds, trials, batch, processes)
    report = chain(
        [f"{counted(len(files), 'space')}, {counted(seeds, 'seed')} each, batches of {batch}"],
        _cold(runs, policies, Rivals(python, rivals, keep) if python is not None else None),
        _noisy(runs, policies[0], noise) if noise is not None else (),
        _transfer(runs, policies[0]) if transfer else (),
        _speed(runs, policies[0], python) if speed else (),
    )
    tell(report, output)


def _policies(strategies: str, every: bool) -> list[Policy]:
    if strategies:
        return [Policy.parse(each) for each in strategies.split(",")]
    return default_policies() if every else default_policies()[:1]


def _cold(runs: Runs, policies: Sequence[Policy], rivals: Rivals | None) -> Iterator[str]:
    yield from ("", "## Cold", "")
    standings = [runs.cold(policy) for policy in policies]
    theirs = runs.kernel_tuner(rivals) if rivals is not None else []
    yield from table(ranked([*standings, *theirs]))
    yield from behind(runs.files, standings[0], theirs)


def _noisy(runs: Runs, policy: Policy, noise: Path) -> Iterator[str]:
    """With the repeats behind the means, and without, where there are some."""
    yield from ("", "## With the noise that was measured", "")
    files = [file for file in runs.files if file.has_repeats(noise)]
    if not files:
        yield f"no space has repeats in {noise}"
        return
    some = replace(runs, files=files)
    noisy = replace(some.cold(policy, noise), name=f"{policy.name}, with noise")
    spaces = counted(len(files), "space")
    yield f"{spaces}; the best is what seems so, and counts with its recorded time"
    yield ""
    yield from table([noisy, some.cold(policy)])


def _transfer(runs: Runs, policy: Policy) -> Iterator[str]:
    """Of the files that have relatives: knowing them, and cold."""
    yield from ("", "## Knowing relatives", "")
    kin = [file for file in runs.files if relatives(file, runs.files)]
    if not kin:
        yield "no two files are of one kernel"
        return
    some = replace(runs, files=kin)
    spaces, trials = counted(len(kin), "space"), counted(runs.trials, "trial")
    yield f"{spaces}; known: the {trials} of a cold search on each relative"
    yield ""
    knowing, cold = some.knowing_relatives(policy), some.cold(policy)
    yield from table([knowing, cold])
    yield from by_kernel(kin, cold, knowing)


def _speed(runs: Runs, policy: Policy, python: str | None) -> Iterator[str]:
    yield from ("", "## Time of proposals", "")
    nearest = min(runs.files, key=lambda file: abs(file.size - SIZE))
    yield from search_speed.proposal_rows(policy, nearest.load(), runs.batch)
    yield from ("", "## Construction of spaces, ms", "")
    yield from search_speed.construction_rows(runs.files, python)


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


def by_kernel(files: Sequence[SpaceFile], cold: Standing, knowing: Standing) -> Iterator[str]:
    """Each kernel's means, and the spaces on which knowing relatives did harm."""
    marks = cold.marks
    before, after = ([each.mean_by_space(mark) for mark in marks] for each in (cold, knowing))
    yield from ("", f"| kernel of, cold → knowing | spaces | {' | '.join(map(str, marks))} |")
    yield "|---|" + "---|" * (len(marks) + 1)
    for family in families(files):
        places = [files.index(file) for file in family]
        cells = [
            f"{fmean(was[at] for at in places):.3f} → {fmean(now[at] for at in places):.3f}"
            for was, now in zip(before, after, strict=True)
        ]
        yield f"| {family[0].name} | {len(family)} | {' | '.join(cells)} |"
    if JUDGED in marks:
        at = marks.index(JUDGED)
        yield ""
        yield from lost("cold", files, after[at], before[at])


def behind(files: Sequence[SpaceFile], ours: Standing, theirs: Sequence[Standing]) -> Iterator[str]:
    """The spaces on which a strategy of Kernel Tuner is ahead."""
    if not theirs or JUDGED not in ours.marks:
        return
    yield ""
    own = ours.mean_by_space(JUDGED)
    first = max(theirs, key=lambda each: each.mean(JUDGED))
    by_space = zip(*(each.mean_by_space(JUDGED) for each in theirs), strict=True)
    yield from lost(first.name, files, own, first.mean_by_space(JUDGED))
    best = f"the best of {len(theirs)} on each"
    yield from lost(best, files, own, [max(means) for means in by_space])


def lost(
    rival: str, files: Sequence[SpaceFile], own: Sequence[float], theirs: Sequence[float]
) -> Iterator[str]:
    """The spaces on which our searches are behind, with both fractions."""
    places = [at for at in range(len(files)) if own[at] < theirs[at] - MARGIN]
    count = f"{len(places)} of {len(files)}"
    yield f"- behind {rival} by more than {MARGIN} after {JUDGED} trials: {count}"
    yield from (f"  - {files[at].name}: {own[at]:.3f}, {theirs[at]:.3f}" for at in places)


if __name__ == "__main__":
    main()
