"""What a model trained beforehand is worth to a search that knows nothing else.

    python benchmarks/prior.py --seeds 10 -o benchmarks/prior.md

Searches are replayed on the tunings of `benchmarks/data`, alone and beginning with the choices of a
model that was trained on the other workloads: mean over searches of optimum / best found. These
spaces hold only what earlier searches tried, a few hundred schedules, good ones most of them, so
that they are easier than whole ones, and say little of devices other than these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from command import COUNT, Benchmark, output_option

from autotune import record_files
from autotune.cli import text
from autotune.proposer import Proposer
from autotune.recorded import RecordedSpace, from_records
from autotune.strategies import DEFAULT, make_strategy
from autotune.strategies.base import SearchStrategy
from autotune.strategies.primed import Primed
from cost_model import DEFAULT as DEFAULT_MODEL
from cost_model import make_model
from cost_model.groups import Group
from cost_model.pretrained.model import PretrainedModel
from cost_model.pretrained.training import train, usable
from cost_model.trust import Trust
from records.schedule import Schedule

DATA = Path(__file__).parent / "data"
AFTER = (4, 8, 12, 16, 24)
BATCH = 12

Fractions = npt.NDArray[np.float64]


@click.command(help=__doc__, cls=Benchmark)
@click.option("--data", default=DATA, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--seeds", type=COUNT, default=10, show_default=True, help="Searches of each workload."
)
@output_option
def main(data: Path, seeds: int, output: Path | None) -> None:
    groups = usable(record_files.read([data]))
    rows = []
    alone, begun = [], []
    for group in groups:
        others = [each for each in groups if each.workload != group.workload]
        model = train(others)
        alone.append(np.mean([searched(group, None, seed) for seed in range(seeds)], axis=0))
        begun.append(np.mean([searched(group, model, seed) for seed in range(seeds)], axis=0))
        rows.append(_row(text.name(group.workload), alone[-1], begun[-1]))
    rows.append(_row("mean", np.mean(alone, axis=0), np.mean(begun, axis=0)))
    print(table := _table(rows, seeds))
    if output is not None:
        output.write_text(f"# {__doc__}\n{table}\n")


def searched(group: Group, prior: PretrainedModel | None, seed: int) -> Fractions:
    """Optimum / best found after each of `AFTER` trials."""
    space = from_records(
        group.workload, group.target, dict(zip(group.schedules, group.measurements, strict=True))
    )
    strategy = make_strategy(DEFAULT, space, seed)
    if prior is not None:
        strategy = _primed(strategy, group, space, prior, seed)
    model = make_model(DEFAULT_MODEL, seed, space.find_template)
    proposer = Proposer(strategy, model, Trust(), group.workload, group.target, seed=seed)
    found: list[float] = []
    while len(found) < AFTER[-1] and (batch := proposer.next(min(BATCH, AFTER[-1] - len(found)))):
        for schedule in batch:
            measured = space.measure(schedule)
            proposer.tell(schedule, measured)
            share = space.optimum_s / measured.time_s if measured.time_s else 0.0
            found.append(max([share, *found[-1:]]))
        proposer.refit()
    return np.array([found[min(trials, len(found)) - 1] for trials in AFTER])


def _primed(
    strategy: SearchStrategy,
    group: Group,
    space: RecordedSpace,
    prior: PretrainedModel,
    seed: int,
) -> SearchStrategy:
    def expectation(schedules: Sequence[Schedule]) -> Fractions:
        return prior.predict(group.workload, group.target, schedules).score

    return Primed(strategy, space, expectation, seed, print)


def _row(name: str, alone: Fractions, begun: Fractions) -> str:
    cells = (f"{one:.3f} → {other:.3f}" for one, other in zip(alone, begun, strict=True))
    return f"| {name} | {' | '.join(cells)} |"


def _table(rows: Sequence[str], seeds: int) -> str:
    head = f"| alone → beginning with the model, {seeds} seeds | "
    head += " | ".join(f"after {trials}" for trials in AFTER) + " |"
    return "\n".join([head, "|---" * (len(AFTER) + 1) + "|", *rows])


if __name__ == "__main__":
    main()
