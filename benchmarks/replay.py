"""Strategies and the cost model on recorded search spaces: how near the optimum, how soon.

    python benchmarks/replay.py SPACE.json.gz … [--seeds 5] [--evaluations 200]

prints a Markdown table: optimum / best found after 25, 50, 100 and 200 evaluations, averaged over
the spaces and seeds (failures are evaluations too).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from autotune.recorded import RecordedSpace
from autotune.replay import Policy, default_policies, mean_at, replay

POLICIES = (
    Policy("random"),
    Policy("local"),
    Policy("evolutionary"),
    Policy("random", "xgboost"),
    Policy("evolutionary", "xgboost"),
    *default_policies()[:1],
)
MARKS = (25, 50, 100, 200)


@click.command(help=__doc__)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", default=5, show_default=True, help="Searches of each space.")
@click.option("--evaluations", default=200, show_default=True)
@click.option("--only", default="", help="Policies whose name starts so.")
def main(paths: Sequence[Path], seeds: int, evaluations: int, only: str) -> None:
    spaces = [RecordedSpace.load(path) for path in paths]
    marks = [mark for mark in MARKS if mark <= evaluations]
    click.echo(f"{len(spaces)} spaces, {seeds} seeds each\n")
    click.echo("| policy | " + " | ".join(map(str, marks)) + " | CPU s a search |")
    click.echo("|---|" + "---|" * (len(marks) + 1))
    for policy in POLICIES:
        if not policy.name.startswith(only):
            continue
        started_s = time.process_time()
        curves = [
            replay(policy, space, evaluations, seed).fractions
            for space in spaces
            for seed in range(seeds)
        ]
        spent_s = (time.process_time() - started_s) / len(curves)
        means = " | ".join(f"{mean_at(curves, mark):.3f}" for mark in marks)
        click.echo(f"| {policy.name} | {means} | {spent_s:.2f} |")


if __name__ == "__main__":
    main()
