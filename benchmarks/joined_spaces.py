"""Our search on spaces of a third of a million schedules, made of two recorded ones each.

    python benchmarks/joined_spaces.py SPACES --seeds 10 -o joined_spaces.md

SPACES is the folder of `search.py`'s. A schedule of a joined space is one of the first kernel and
one of the second, and takes what both take, as kernels that run one after the other do; times of
the second are scaled so that the two optima are equal. Of the second there are only those around
its optimum, as many as the size allows. It fails where one of the two does. Prints Markdown tables
of optimum / best found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from command import COUNT, Benchmark, output_option, tell
from search import table
from search_spaces_files import SpaceFile, find

from autotune.cli.text import counted
from autotune.leaderboard import Standing
from autotune.recorded import RecordedSpace, from_table
from autotune.replay import Policy, Replayed, default_policies, replay
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.schedule import Schedule

PAIRS = (
    ("gpu2021/gemm__K20", "gpu2021/pnpoly__TITAN_RTX"),
    ("gpu2021/gemm__P100", "gpu2021/convolution__K20"),
    ("gpu2021/convolution__TITAN_RTX", "gpu2021/pnpoly__P100"),
    ("hub/convolution_milo__A4000", "gpu2021/gemm__MI50"),
    ("tensile/Ailk_Bjlk_HBH_02_96x1024x24x1024__vega20", "hub_old/gemm_clblast__RTX_3090"),
)
MOST = 400_000
"""Schedules of a joined space."""


@click.command(help=__doc__, cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seeds", type=COUNT, default=10, show_default=True, help="Searches of each space.")
@click.option("--trials", type=COUNT, default=200, show_default=True, help="Trials of each search.")
@click.option("--batch", type=COUNT, default=12, show_default=True, help="Proposed at once.")
@click.option("--most", type=COUNT, default=MOST, show_default=True, help="Schedules of a space.")
@click.option(
    "--strategies",
    default=f"{default_policies()[0].name},evolutionary+xgboost,random",
    show_default=True,
    help="As of autotune replay.",
)
@output_option
def main(
    folder: Path,
    seeds: int,
    trials: int,
    batch: int,
    most: int,
    strategies: str,
    output: Path | None,
) -> None:
    files = {file.name: file for file in find([folder], "")}
    missing = [name for pair in PAIRS for name in pair if name not in files]
    if missing:
        raise InvalidInputError(f"{folder} lacks {', '.join(missing)}")
    policies = [Policy.parse(each) for each in strategies.split(",")]
    pairs = [(files[first], files[second]) for first, second in PAIRS]
    tell(_report(pairs, most, policies, seeds, trials, batch), output)


def _report(
    pairs: Sequence[tuple[SpaceFile, SpaceFile]],
    most: int,
    policies: Sequence[Policy],
    seeds: int,
    trials: int,
    batch: int,
) -> Iterator[str]:
    """A table of each joined space, and one of all."""
    found: dict[Policy, list[list[Replayed]]] = {policy: [] for policy in policies}
    for first, second in pairs:
        space = joined(first, second, most)
        for policy in policies:
            searches = [replay(policy, space, trials, seed, batch=batch) for seed in range(seeds)]
            found[policy].append(searches)
        yield from (_about(first, second, space), "")
        yield from table([Standing.of(each.name, found[each][-1:], trials) for each in policies])
        yield ""
    yield from (f"All, {counted(seeds, 'seed')} each:", "")
    yield from table([Standing.of(each.name, found[each], trials) for each in policies])


def joined(first: SpaceFile, second: SpaceFile, most: int) -> RecordedSpace:
    """Of at most `most` schedules, or twice as many as the first has."""
    one, two = first.load(), second.load()
    part = around_optimum(two, max(2, most // one.size))
    params, rules = first.restrictions()
    varying = [name for name in second.restrictions()[0] if len({each[name] for each in part}) > 1]
    more = {f"second_{name}": list(dict.fromkeys(each[name] for each in part)) for name in varying}
    unit = one.optimum_s / two.optimum_s
    measured = (
        ([*(a[name] for name in params), *(b[name] for name in varying)], both(time, beside, unit))
        for a, time in one.measurements.items()
        for b, beside in part.items()
    )
    return from_table("joined", one.target.device, {**params, **more}, measured, rules)


def around_optimum(space: RecordedSpace, most: int) -> dict[Schedule, Measurement]:
    """At most `most` schedules: values of knobs are left out, the rarest first, but for those of
    the fastest."""
    part = dict(space.measurements)
    best = min(part, key=lambda schedule: part[schedule].time_s or math.inf)
    while len(part) > most:
        counts = Counter(knob for each in part for knob in each.knobs if knob not in best.knobs)
        rarest, _ = min(counts.items(), key=lambda item: item[1])
        part = {each: time for each, time in part.items() if rarest not in each.knobs}
    return part


def both(first: Measurement, second: Measurement, unit: float) -> Measurement:
    """One after the other, seconds of the second times `unit`."""
    if first.time_s is None or second.time_s is None:
        return second if first.is_ok else first
    return Measurement.ok((first.time_s + unit * second.time_s,))


def _about(first: SpaceFile, second: SpaceFile, space: RecordedSpace) -> str:
    knobs = len(space.spaces[0].knobs)
    failed = sum(not each.is_ok for each in space.measurements.values())
    return (
        f"{first.name} and {second.name}: {space.size:,} schedules, {knobs} knobs, {failed:,} fail"
    )


if __name__ == "__main__":
    main()
