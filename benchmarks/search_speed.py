"""How long proposals and the construction of spaces take; both are parts of `search.py`.

    python benchmarks/search_speed.py SPACES --kernel-tuner ktenv/bin/python

prints the table of construction alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import search_rivals
from command import Benchmark
from search_spaces_files import SpaceFile, find

from autotune.recorded import RecordedSpace
from autotune.replay import Policy, make_proposer
from records.measurement import Measurement
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.expressions import constraint
from search_spaces.kernel import KernelStats
from search_spaces.knobs import Knob
from search_spaces.space import SearchSpace
from search_spaces.union import UnionSpace

SCRIPT = Path(__file__).absolute().with_name("space_construction.py")
REPEATS = 9


@click.command(help=__doc__, cls=Benchmark)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--kernel-tuner", "python", help="The interpreter that has Kernel Tuner and pyATF.")
def main(paths: Sequence[Path], python: str | None) -> None:
    if python is not None:
        search_rivals.check(python)
    for line in construction_rows(find(paths), python):
        click.echo(line)


class MadeUpSpace(UnionSpace):
    """`values` ** `knobs` schedules of a made-up kernel: smooth, with pairs that interact."""

    version = 1
    workload = Workload.of("made_up", {})
    target = Target.of("recorded", "made up", "made up", {})

    def __init__(self, values: int, knobs: int) -> None:
        rng = np.random.default_rng(0)
        self.__dict__["_centre"] = rng.integers(values, size=knobs)
        self.__dict__["_weight"] = rng.random((knobs, knobs)) * 0.05
        named = [
            Knob(f"k{at}", tuple(1 << value for value in range(values))) for at in range(knobs)
        ]
        super().__init__([SearchSpace("made_up", 1, named, [])])

    def measure(self, schedule: Schedule) -> Measurement:
        logs = np.array([np.log2(float(str(value))) for _, value in schedule.knobs])
        off = logs - self.__dict__["_centre"]
        return Measurement.ok((1.0 + float(abs(off @ self.__dict__["_weight"] @ off)) * 1e-3,))

    def find_template(self, op: str, name: str) -> MadeUpSpace:
        return self

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        return KernelStats()


def batches_s(
    policy: Policy, space: RecordedSpace | MadeUpSpace, trials: int, batch: int, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """Of each batch the number of trials, and the seconds that proposing and learning took."""
    proposer = make_proposer(policy, space, seed)
    done = 0
    while done < trials:
        started_s = time.perf_counter()
        chosen = proposer.next(min(batch, trials - done))
        spent_s = time.perf_counter() - started_s
        if not chosen:
            return
        told = [space.measure(schedule) for schedule in chosen]
        started_s = time.perf_counter()
        for schedule, measurement in zip(chosen, told, strict=True):
            proposer.tell(schedule, measurement)
        proposer.refit()
        done += len(chosen)
        yield len(chosen), spent_s + time.perf_counter() - started_s


def proposal_rows(policy: Policy, space: RecordedSpace, batch: int) -> Iterator[str]:
    """A Markdown table: of that space, and of one of 10^7 schedules."""
    yield "| space | schedules | ms a trial | longest batch, s |"
    yield "|---|---|---|---|"
    named: list[tuple[str, RecordedSpace | MadeUpSpace]] = [
        (space.name, space),
        ("made up", MadeUpSpace(10, 7)),
    ]
    for name, each in named:
        told = list(batches_s(policy, each, 200, batch))
        mean_s = sum(spent for _, spent in told) / sum(trials for trials, _ in told)
        longest_s = max(spent for _, spent in told)
        yield f"| {name} | {each.size:,} | {mean_s * 1e3:.1f} | {longest_s:.2f} |"


def construction_rows(files: Sequence[SpaceFile], python: str | None) -> Iterator[str]:
    """A Markdown table: milliseconds from parameters and rules to a space that can be sampled.

    The shortest of `REPEATS`; one file of each kernel that has rules.
    """
    chosen = {file.family: file for file in files if file.restrictions()[1]}
    rivals = _rivals(list(chosen.values()), python)
    yield "| space | schedules | ours | with every schedule listed | Kernel Tuner | pyATF |"
    yield "|---|---|---|---|---|---|"
    for file, theirs in zip(chosen.values(), rivals, strict=False):
        size, built_s, listed_s = ours(*file.restrictions())
        times = [_cell(theirs, tool, size) for tool in ("kernel_tuner", "pyatf")]
        own = f"{built_s * 1e3:.2f} | {listed_s * 1e3:.2f}"
        yield f"| {file.name} | {size:,} | {own} | {' | '.join(times)} |"


def ours(params: dict[str, list[Any]], rules: Sequence[str]) -> tuple[int, float, float]:
    """Size, seconds to build, and seconds to build and write down every schedule's values."""

    def build() -> SearchSpace:
        knobs = [Knob(name, tuple(values)) for name, values in params.items()]
        space = SearchSpace("space", 1, knobs, [constraint(rule, list(params)) for rule in rules])
        assert space.size > 0
        return space

    return build().size, _shortest_s(build), _shortest_s(lambda: list(build()))


def _shortest_s(call: Callable[[], object]) -> float:
    """As `space_construction.py` times the others: the first is not counted."""
    call()
    times_s = []
    for _ in range(REPEATS):
        started_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - started_s)
    return min(times_s)


def _rivals(files: Sequence[SpaceFile], python: str | None) -> Iterator[dict[str, Any]]:
    if python is None:
        return ({} for _ in count())
    spaces = [
        dict(zip(("params", "restrictions"), file.restrictions(), strict=True)) for file in files
    ]
    words = [os.path.abspath(shutil.which(python) or python), str(SCRIPT)]
    with TemporaryDirectory() as folder:  # pyATF makes itself a cache where it runs
        done = subprocess.run(
            words, input=json.dumps(spaces), capture_output=True, text=True, check=True, cwd=folder
        )
    return iter([json.loads(line) for line in done.stdout.splitlines()])


def _cell(theirs: dict[str, Any], tool: str, size: int) -> str:
    told = theirs.get(tool, {"error": "not asked"})
    if "error" in told:
        return "-"
    differs = "" if told["size"] == size else f" ({told['size']:,} schedules)"
    return f"{told['s'] * 1e3:.2f}{differs}"


if __name__ == "__main__":
    main()
