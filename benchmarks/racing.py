"""How many runs of kernels a search needs, by how often it runs each.

    python benchmarks/racing.py SPACES NOISE --seeds 3 -o racing.md

SPACES is a folder of recorded spaces, NOISE one of the repeats behind their times (see
docs/command-line.md, replay). Prints Markdown tables of optimum / best found, by recorded times,
after so many timed runs of kernels in all, and of the trials made by then. In the second pair of
tables every trial also costs as much as `--overhead` runs, for compiling, checking and warming up;
what is promoted from a heat costs that twice, for it is compiled and checked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from command import COUNT, Benchmark, output_option
from search_spaces_files import find

from autotune.cli.text import counted
from autotune.recorded import RecordedSpace
from autotune.recordings.noise import MeasuredNoise, Repeats
from autotune.replay import Policy, Tally, searched
from autotune.session import TuningOptions
from autotune.timing import TimingPlan
from cost_model import DEFAULT as DEFAULT_MODEL
from records.errors import InvalidInputError

BUDGETS = (70, 175, 350, 700)
"""Runs: 10, 25, 50 and 100 trials of seven."""

DROP_FACTOR = TuningOptions().drop_factor
TUNED = TimingPlan()


@dataclass(frozen=True)
class Way:
    """A strategy, and how its trials are timed; no `drop_factor`: every trial takes all runs."""

    name: str
    strategy: str
    plan: TimingPlan
    drop_factor: float | None = None


def fixed(runs: int) -> TimingPlan:
    return replace(TUNED, min_runs=runs, max_runs=runs)


WAYS = (
    Way("guided, 32 runs each", "guided", fixed(32)),
    Way("guided, 7 runs each", "guided", fixed(7)),
    Way("guided, until the interval is narrow", "guided", TUNED),
    Way("guided, the same, beaten ones stop (the default)", "guided", TUNED, DROP_FACTOR),
    Way("racing", "racing", TUNED, DROP_FACTOR),
    Way("guided, 1 run each", "guided", fixed(1)),
)


@dataclass(frozen=True)
class Point:
    """Where a search stands: trials made, runs timed in all, optimum / best found."""

    trials: int
    measured: int
    runs: int
    fraction: float

    def cost(self, overhead: int) -> int:
        return self.runs + overhead * self.measured


@click.command(help=__doc__, cls=Benchmark)
@click.argument("spaces", type=click.Path(exists=True, path_type=Path))
@click.argument("noise", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seeds", type=COUNT, default=3, show_default=True, help="Searches of each space.")
@click.option(
    "--overhead",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Runs that a trial costs besides.",
)
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="The cost model of all.")
@click.option("--only", default="", help="Files whose folder/name holds this.")
@output_option
def main(
    spaces: Path,
    noise: Path,
    seeds: int,
    overhead: int,
    model: str,
    only: str,
    output: Path | None,
) -> None:
    files = [file for file in find([spaces], only) if file.has_repeats(noise)]
    if not files:
        raise InvalidInputError(f"no space in {spaces} has repeats in {noise}")
    found: dict[str, list[list[Point]]] = {way.name: [] for way in WAYS}
    for file in files:
        recorded = file.load()
        repeats = file.repeats(noise, recorded)
        for way in WAYS:
            for seed in range(seeds):
                points = list(search(way, model, recorded, repeats, seed, overhead))
                found[way.name].append(points)
            click.echo(f"{file.name}: {way.name}", err=True)
    lines = [f"{counted(len(files), 'space')}, {counted(seeds, 'seed')} each, model {model}"]
    for each in (0, overhead):
        lines += table(found, seeds, each)
    click.echo("\n".join(lines))
    if output is not None:
        output.write_text("\n".join(lines) + "\n")


def search(
    way: Way,
    model: str,
    recorded: RecordedSpace,
    noise: MeasuredNoise,
    seed: int,
    overhead: int,
) -> Iterator[Point]:
    """Until the largest budgets are used up."""
    repeats = Repeats(noise, way.plan, way.drop_factor)
    tally, measured, known = Tally(recorded), 0, set()
    policy = Policy(way.strategy, model)
    for record in searched(policy, recorded, recorded.size, seed, noise=repeats):
        tally.count(record)
        known.add(record.schedule)
        measured += 1
        point = Point(len(known), measured, tally.runs, tally.fraction)
        yield point
        if all(point.cost(each) >= budgets(each)[-1] for each in (0, overhead)):
            return


def budgets(overhead: int) -> list[int]:
    """In runs; with overhead, what as many trials of seven runs cost."""
    return [budget * (7 + overhead) // 7 for budget in BUDGETS]


def table(found: dict[str, list[list[Point]]], seeds: int, overhead: int) -> list[str]:
    """The searches of each space stand together, one a seed."""
    limits = budgets(overhead)
    what = f", a trial costing {overhead} besides" if overhead else ""
    head = " | ".join(map(str, limits))
    lines = ["", f"| runs{what} | {head} | trials by then |", "|---|" + "---|" * (len(limits) + 1)]
    for name, searches in found.items():
        ends = [[_last(points, limit, overhead) for points in searches] for limit in limits]
        cells = [_cell([point.fraction for point in each], seeds) for each in ends]
        trials = [f"{np.mean([point.trials for point in each]):.0f}" for each in ends]
        lines.append(f"| {name} | {' | '.join(cells)} | {' / '.join(trials)} |")
    return lines


def _last(points: Sequence[Point], budget: int, overhead: int) -> Point:
    """The last point within the budget."""
    within = [point for point in points if point.cost(overhead) <= budget]
    return within[-1] if within else Point(0, 0, 0, 0.0)


def _cell(fractions: Sequence[float], seeds: int) -> str:
    """The mean, and the standard error that the seeds leave on it."""
    of_seeds = np.reshape(fractions, (-1, seeds)).mean(axis=0)
    error = f" ± {of_seeds.std(ddof=1) / np.sqrt(seeds):.3f}" if seeds > 1 else ""
    return f"{of_seeds.mean():.3f}{error}"


if __name__ == "__main__":
    main()
