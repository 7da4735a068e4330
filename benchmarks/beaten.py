"""What stopping beaten trials would have saved in sessions that timed every trial in full.

    python benchmarks/beaten.py benchmarks/data

Reads exported search trials, a session a file, and stops each where `TimingPlan` would now, beside
the best until the batch before. Prints, by session: seconds timed, the share of them and of the
session that would not have been spent, and by how much slower, in its full trial, the schedule is
that would have led.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import click
from command import Benchmark

from autotune import record_files
from autotune.session import BATCH, TuningOptions
from autotune.timing import TimingPlan, Verdict
from records.errors import InvalidInputError
from records.record import TuningRecord

DROP_FACTOR = TuningOptions().drop_factor
PAUSE_S = 20.0
"""Longer ones between two trials are between two sessions."""


@dataclass(frozen=True)
class Saved:
    """Of one session: seconds, and the time of its leader over the fastest."""

    timed_s: float
    saved_s: float
    session_s: float
    slowdown: float


@click.command(help=__doc__, cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    found = {path: saved(record_files.read([path])) for path in sorted(folder.rglob("*.jsonl.gz"))}
    if not found:
        raise InvalidInputError(f"{folder}: no file in it ends in .jsonl.gz")
    click.echo("| session | timed, s | saved of it | of the session | leader slower by |")
    click.echo("|---|---|---|---|---|")
    for path, each in found.items():
        click.echo(row(path.name.partition(".")[0], [each]))
    click.echo(row("all", list(found.values())))


def row(name: str, sessions: Sequence[Saved]) -> str:
    timed_s = sum(each.timed_s for each in sessions)
    saved_s = sum(each.saved_s for each in sessions)
    session_s = sum(each.session_s for each in sessions)
    slowdown = statistics.mean(each.slowdown for each in sessions) - 1.0
    return (
        f"| {name} | {timed_s:.0f} | {saved_s / timed_s:.0%} | {saved_s / session_s:.0%} "
        f"| {slowdown:.1%} |"
    )


def saved(records: Sequence[TuningRecord]) -> Saved:
    """`records` in the order measured."""
    timed_s = saved_s = 0.0
    leader: tuple[float, float] | None = None  # as it would have been timed, and as it was
    fastest_s = float("inf")
    for start in range(0, len(records), BATCH):
        plan = TimingPlan().against(leader[0] if leader else None, DROP_FACTOR)
        for measurement in (each.measurement for each in records[start : start + BATCH]):
            if measurement.time_s is None:
                continue
            runs = needed(plan, measurement.times_s)
            launches = measurement.detail("launches_per_run", 1)
            timed_s += launches * sum(measurement.times_s)
            saved_s += launches * sum(measurement.times_s[runs:])
            told = statistics.median(measurement.times_s[:runs]), measurement.time_s
            leader = min(leader or told, told)
            fastest_s = min(fastest_s, measurement.time_s)
    assert leader is not None, "a session of which something worked"
    return Saved(timed_s, saved_s, sum(_pauses_s(records)), leader[1] / fastest_s)


def needed(plan: TimingPlan, times_s: Sequence[float]) -> int:
    """After how many of the runs the plan would have stopped."""
    counts = range(1, len(times_s) + 1)
    done = (runs for runs in counts if plan.verdict(times_s[:runs]) is not Verdict.OPEN)
    return next(done, len(times_s))


def _pauses_s(records: Sequence[TuningRecord]) -> Iterator[float]:
    """Seconds from trial to trial, compiling and checking included."""
    times = [datetime.fromisoformat(record.created_at) for record in records]
    for before, after in pairwise(times):
        pause_s = (after - before).total_seconds()
        if 0.0 < pause_s < PAUSE_S:
            yield pause_s


if __name__ == "__main__":
    main()
