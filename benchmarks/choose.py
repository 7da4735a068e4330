"""Which schedule for a shape never seen: the cost model beside PyTorch's own default.

    python benchmarks/choose.py a100_mm.zip flexattention_a100_data.zip -o benchmarks/choose.md

The files hold times of PyTorch's matmul and attention kernels on an A100 for many shapes, 8 to 30
schedules each (AlnisM/autoheuristic-datasets). Sizes are split into five parts, whatever the dtype
and the strides; each part's schedules are chosen by a model that saw the other parts only. A choice
loses the share of the best speed, among the schedules measured for the shape, that it does not
reach; a failure loses all. "Best single" is the schedule that is best on average over the other
parts, where it was measured for the shape, or else the next. PyTorch's default, without autotuning,
is cuBLAS for matmul (among the choices, but in the second table), and for attention a table by
dtype and head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from choose_data import DEFAULTS, LIBRARY, Shape, find_template, read
from command import Benchmark, output_option
from sklearn.model_selection import GroupKFold

from cost_model.xgboost_model import Settings, XGBoostModel
from records.errors import InvalidInputError

SETTINGS = Settings(members=1, rounds=250, depth=8)
FOLDS = 5

Losses = npt.NDArray[np.float64]
Chooser = Callable[[Shape], Sequence[int]]
"""Places of a shape's schedules, the most promising first."""


@dataclass
class Column:
    """What one way to choose loses on every shape: its first choice, and the best of three."""

    first: list[float] = field(default_factory=list)
    third: list[float] = field(default_factory=list)

    def add(self, shape: Shape, places: Sequence[int]) -> None:
        for losses, top in ((self.first, 1), (self.third, 3)):
            losses.append(1.0 - max((shape.shares[place] for place in places[:top]), default=0.0))


@click.command(help=__doc__, cls=Benchmark)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--most", type=click.IntRange(0), default=0, help="Shapes of each kernel, at random; 0 for all."
)
@click.option("--seed", default=0, show_default=True)
@output_option
def main(files: Sequence[Path], most: int, seed: int, output: Path | None) -> None:
    tables = []
    for kernel, shapes in read(files).items():
        shapes = _some(shapes, most, seed)
        tables.append(table(f"{kernel}: {len(shapes):,} shapes", compared(shapes, seed)))
        own = [shape.without(LIBRARY) for shape in shapes]
        own = [shape for shape in own if shape.is_choice]
        if own != shapes:
            title = f"{kernel}, Triton's schedules alone: {len(own):,} shapes"
            tables.append(table(title, compared(own, seed)))
    print(text := "\n\n".join(tables))
    if output is not None:
        output.write_text(f"# {__doc__}\n{text}\n")


def compared(shapes: Sequence[Shape], seed: int = 0) -> dict[str, Column]:
    """Losses of each way to choose, each shape judged by what other shapes taught."""
    if len({shape.sizes for shape in shapes}) < FOLDS:
        raise InvalidInputError(f"need {FOLDS} shapes or more to learn from and to judge by")
    sizes = [str(shape.sizes) for shape in shapes]
    found = {name: Column() for name in ("cost model", "best single", "PyTorch's default")}
    random = Column()
    for known, held_out in GroupKFold(FOLDS).split(sizes, groups=sizes):
        ways = _ways([shapes[place] for place in known], seed)
        for place in held_out:
            for name, way in ways.items():
                found[name].add(shapes[place], way(shapes[place]))
            _add_random(random, shapes[place])
    return {**{name: each for name, each in found.items() if each.first}, "at random": random}


def _ways(known: Sequence[Shape], seed: int) -> Mapping[str, Chooser]:
    model = XGBoostModel(seed, SETTINGS, find_template)
    model.fit([record for shape in known for record in shape.records()])
    ranking = _single(known)

    def predicted(shape: Shape) -> Sequence[int]:
        score = model.predict(shape.workload, shape.target, shape.schedules).score
        order: list[int] = np.argsort(-score, kind="stable").tolist()
        return order

    def single(shape: Shape) -> Sequence[int]:
        return sorted(
            range(len(shape.schedules)), key=lambda place: -ranking.get(shape.choices[place], -1.0)
        )

    ways: dict[str, Chooser] = {"cost model": predicted, "best single": single}
    default = DEFAULTS.get(known[0].kernel)
    if default is not None and all(default(shape) in shape.choices for shape in known):
        ways["PyTorch's default"] = lambda shape: [shape.choices.index(default(shape))]
    return ways


def _single(known: Sequence[Shape]) -> dict[str, float]:
    """Mean share of the best speed of every schedule that a tenth of the shapes or more have."""
    shares: dict[str, list[float]] = {}
    for shape in known:
        for choice, share in zip(shape.choices, shape.shares, strict=True):
            if choice != LIBRARY:
                shares.setdefault(choice, []).append(share)
    enough = len(known) / 10
    return {name: float(np.mean(each)) for name, each in shares.items() if len(each) >= enough}


def _add_random(column: Column, shape: Shape) -> None:
    """What is expected of choices at random."""
    worst_first = np.sort(shape.shares)
    column.first.append(1.0 - float(worst_first.mean()))
    count, top = len(worst_first), min(3, len(worst_first))
    at_most = np.ones(count + 1)
    for drawn in range(top):
        at_most *= np.clip((np.arange(count + 1) - drawn) / (count - drawn), 0.0, 1.0)
    column.third.append(1.0 - float(np.diff(at_most) @ worst_first))


def table(title: str, columns: Mapping[str, Column]) -> str:
    lines = [
        f"**{title}**, {FOLDS} parts by shape. Share of the best speed that is lost:",
        "",
        "| choice | first, mean | 90 % of shapes below | within 5 % | best of three, mean |",
        "|---|---|---|---|---|",
    ]
    for name, column in columns.items():
        first, third = np.array(column.first), np.array(column.third)
        is_one = name == "PyTorch's default"
        lines.append(
            f"| {name} | {first.mean():.1%} | {np.quantile(first, 0.9):.1%} "
            f"| {(first < 0.05).mean():.0%} | {'-' if is_one else f'{third.mean():.1%}'} |"
        )
    return "\n".join(lines)


def _some(shapes: Sequence[Shape], most: int, seed: int) -> list[Shape]:
    if not most or len(shapes) <= most:
        return list(shapes)
    places = np.random.default_rng(seed).permutation(len(shapes))[:most]
    return [shapes[place] for place in places]


if __name__ == "__main__":
    main()
