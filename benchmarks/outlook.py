"""What a search expects of going on beside what came of it, and what stopping by it saves.

    python benchmarks/outlook.py SPACES --seeds 2 -o outlook.md

SPACES are folders, or files of spaces published as JSON (see docs/command-line.md, replay). Each
search is the default one to the end of its trials; before each batch it says what it expects of 50
trials more. Prints Markdown tables. Where a search would have stopped follows from what it said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import click
from command import COUNT, Benchmark, output_option
from search_spaces_files import SpaceFile, find

from autotune.model_report import ModelReport
from autotune.proposer import FURTHER_TRIALS
from autotune.recorded import RecordedSpace
from autotune.replay import Policy, default_policies, make_proposer
from autotune.session import BATCH
from autotune.stopping import StoppingRule
from cost_model.outlook import FASTER

AT = (50, 100)
"""Trials after which expectations are compared."""

GAINS = (0.001, 0.0025, 0.005, 0.01, 0.02)
SHOWN = 0.005
"""Thresholds of the stopping rule, and the one whose spaces are shown."""

CHANCES = (0.0, 0.1, 0.3, 0.6, 1.0)


@dataclass(frozen=True)
class Moment:
    """Before a batch: what is said of the model, and whether something faster is left in truth."""

    trials: int
    report: ModelReport
    left: bool


@dataclass(frozen=True)
class Search:
    """`fractions`: optimum over best found after 1, 2, … trials."""

    name: str
    fractions: tuple[float, ...]
    moments: tuple[Moment, ...]

    def gained(self, trials: int) -> float:
        """By which share the best became faster in as many trials as are looked ahead."""
        later = min(trials + FURTHER_TRIALS, len(self.fractions))
        return self.fractions[later - 1] / self.fractions[trials - 1] - 1.0

    @cached_property
    def judged(self) -> list[Moment]:
        """Those with an expectation whose trials were made."""
        most = len(self.fractions) - FURTHER_TRIALS
        return [each for each in self.moments if each.report.outlook and each.trials <= most]

    def stops_at(self, gain: float) -> int:
        """Trials after which the stopping rule would have ended it."""
        rule = StoppingRule(gain)
        met = (each.trials for each in self.moments if rule.is_met(each.report, each.trials))
        return next(met, len(self.fractions))

    def lost(self, trials: int) -> float:
        """Fraction of the optimum that stopping there costs."""
        return self.fractions[-1] - self.fractions[min(trials, len(self.fractions)) - 1]


def search(policy: Policy, name: str, recorded: RecordedSpace, trials: int, seed: int) -> Search:
    """As the tuner searches, asking for a report before each batch."""
    proposer = make_proposer(policy, recorded, seed)
    known: dict[object, float] = {}
    fractions: list[float] = []
    moments: list[Moment] = []
    while len(known) < trials and (chosen := proposer.next(min(BATCH, trials - len(known)))):
        report = proposer.report()
        if report is not None:
            best_s = min(known.values())
            left = any(
                (measured.time_s or best_s) * (1.0 + FASTER) < best_s
                for schedule, measured in recorded.measurements.items()
                if schedule not in known
            )
            moments.append(Moment(len(known), report, left))
        for schedule in chosen:
            measurement = recorded.measure(schedule)
            proposer.tell(schedule, measurement)
            known[schedule] = measurement.time_s or float("inf")
            fractions.append(recorded.optimum_s / min(known.values()))
        proposer.refit()
    return Search(name, tuple(fractions), tuple(moments))


@click.command(help=__doc__, cls=Benchmark)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", type=COUNT, default=2, show_default=True, help="Searches of each space.")
@click.option("--trials", type=COUNT, default=200, show_default=True, help="Trials of each search.")
@output_option
def main(paths: Sequence[Path], seeds: int, trials: int, output: Path | None) -> None:
    files = find(paths)
    searches = [each for file in files for each in _searches(file, seeds, trials)]
    lines = [f"spaces: {len(files)}; searches of each: {seeds}; trials of each: {trials}", ""]
    for table in (_calibration, _expected, _by_space, _chances, _stopping, _stopping_by_space):
        lines += [*table(searches), ""]
    click.echo("\n".join(lines))
    if output is not None:
        output.write_text("\n".join(lines))


def _searches(file: SpaceFile, seeds: int, trials: int) -> Iterator[Search]:
    recorded, [policy, *_] = file.load(), default_policies()
    for seed in range(seeds):
        yield search(policy, file.name, recorded, trials, seed)


def _calibration(searches: Sequence[Search]) -> Iterator[str]:
    yield "| after trials | pairs in order | recall | in 50 % intervals | in 90 % intervals |"
    yield "|---|---|---|---|---|"
    for trials in (*AT, 150):
        reports = [moment.report for moment in _at(searches, trials)]
        met = sum(each.recall.met for each in reports)
        foreseen = sum(each.recall.foreseen for each in reports)
        shares = (
            _mean(reports, lambda each: each.accuracy),
            f"{foreseen} of {met}",
            _mean(reports, lambda each: each.within_50),
            _mean(reports, lambda each: each.within_90),
        )
        yield f"| {trials} | {' | '.join(shares)} |"


def _expected(searches: Sequence[Search]) -> Iterator[str]:
    yield "| trials | judgements | gain expected | gained | faster left, expected | in truth |"
    yield "|---|---|---|---|---|---|"
    for low, high in ((24, 45), (45, 70), (70, 100), (100, 1000)):
        pairs = [
            (each, moment)
            for each in searches
            for moment in each.judged
            if low <= moment.trials < high
        ]
        if pairs:
            last = max(moment.trials for _, moment in pairs)
            yield f"| {low} to {last} | {len(pairs)} | {_compared(pairs)} |"


def _by_space(searches: Sequence[Search]) -> Iterator[str]:
    heads = "".join(f" after {trials}: expected | gained |" for trials in AT)
    yield f"| space |{heads}"
    yield "|---|" + "---|" * 2 * len(AT)
    for name, own in _groups(searches).items():
        cells = []
        for trials in AT:
            pairs = [(each, moment) for each in own for moment in _at([each], trials)]
            outlooks = [moment.report.outlook for _, moment in pairs if moment.report.outlook]
            cells.append(_share([each.gain for each in outlooks]))
            cells.append(_share([each.gained(moment.trials) for each, moment in pairs]))
        yield f"| {name} | {' | '.join(cells)} |"


def _chances(searches: Sequence[Search]) -> Iterator[str]:
    yield f"| chance given that one more than {FASTER:.0%} faster is left | judgements | was left |"
    yield "|---|---|---|"
    judged = [moment for each in searches for moment in each.judged if moment.trials >= 40]
    for low, high in zip(CHANCES, CHANCES[1:], strict=False):
        left = [
            each.left
            for each in judged
            if each.report.outlook and low <= each.report.outlook.left < high + (high == 1.0)
        ]
        if left:
            yield f"| {low:.0%} to {high:.0%} | {len(left)} | {fmean(left):.0%} |"


def _stopping(searches: Sequence[Search]) -> Iterator[str]:
    yield "| stop below | trials | saved | lost, mean | lost, most | lost with as many for all |"
    yield "|---|---|---|---|---|---|"
    for gain in GAINS:
        ends = [each.stops_at(gain) for each in searches]
        lost = [each.lost(end) for each, end in zip(searches, ends, strict=True)]
        saved = 1.0 - sum(ends) / sum(len(each.fractions) for each in searches)
        fixed = fmean(each.lost(round(fmean(ends))) for each in searches)
        yield (
            f"| {gain:.2%} | {fmean(ends):.0f} | {saved:.0%} | {fmean(lost):.4f} | {max(lost):.3f} "
            f"| {fixed:.4f} |"
        )


def _stopping_by_space(searches: Sequence[Search]) -> Iterator[str]:
    yield f"| space | trials at {SHOWN:.1%} | fraction found there | at the end |"
    yield "|---|---|---|---|"
    for name, own in _groups(searches).items():
        ends = [each.stops_at(SHOWN) for each in own]
        there = fmean(each.fractions[end - 1] for each, end in zip(own, ends, strict=True))
        last = fmean(each.fractions[-1] for each in own)
        yield f"| {name} | {', '.join(map(str, ends))} | {there:.3f} | {last:.3f} |"


def _groups(searches: Sequence[Search]) -> dict[str, list[Search]]:
    found: dict[str, list[Search]] = {}
    for each in searches:
        found.setdefault(each.name, []).append(each)
    return found


def _at(searches: Sequence[Search], trials: int) -> list[Moment]:
    """Of each search the first judgement after so many trials, where there is one."""
    found = (
        next((moment for moment in each.moments if moment.trials >= trials), None)
        for each in searches
    )
    return [moment for moment in found if moment is not None]


def _compared(pairs: Sequence[tuple[Search, Moment]]) -> str:
    outlooks = [moment.report.outlook for _, moment in pairs if moment.report.outlook]
    gained = fmean(each.gained(moment.trials) for each, moment in pairs)
    return (
        f"{fmean(each.gain for each in outlooks):.2%} | {gained:.2%} "
        f"| {fmean(each.left for each in outlooks):.0%} "
        f"| {fmean(moment.left for _, moment in pairs):.0%}"
    )


def _mean(reports: Sequence[ModelReport], share: Callable[[ModelReport], float | None]) -> str:
    known = [found for each in reports if (found := share(each)) is not None]
    return f"{fmean(known):.0%}" if known else ""


def _share(values: Sequence[float]) -> str:
    return f"{fmean(values):.2%}" if values else ""


if __name__ == "__main__":
    main()
