"""How many trials until a search has a kernel as fast as the library.

    python benchmarks/trials_to_library.py --write benchmarks/trials_to_library.md

Each search begins with an empty database, has the library timed first (numpy's BLAS, by default)
and ends with the first trial that is as fast, or so many `--times` as fast. The shapes are none
that the shipped model was trained on. Trials of one schedule scatter by a few percent: several
seeds, and the middle one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median_low
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import matmul_table as table

import autotune
from autotune.session import Context, Progress, SilentObserver
from records.record import TuningRecord
from records.workload import Workload

SHAPES = ((768, 768, 768), (1536, 1024, 512), (1200, 1200, 1200), (2048, 512, 2048))

SEARCHES: dict[str, dict[str, Any]] = {
    "evolutionary, XGBoost (the default before)": {"strategy": "evolutionary", "model": "xgboost"},
    "guided, nothing known": {},
    "guided, with the shipped model (the default)": {},
}
UNPRIMED = "guided, nothing known"


class UntilAsFast(SilentObserver):
    """Ends the session, as Ctrl-C does. `reached`: the trial that was so fast, from 1."""

    def __init__(self, library: str, times: float) -> None:
        self._library = library
        self._times = times
        self._time_s = 0.0
        self.reached: int | None = None

    def started(self, context: Context, progress: Progress) -> None:
        if self._library not in context.libraries:
            raise SystemExit(f"{self._library} was not timed; there are: {[*context.libraries]}")
        self._time_s = context.libraries[self._library] / self._times

    def trial(self, record: TuningRecord, progress: Progress) -> None:
        time_s = record.measurement.time_s
        if time_s is not None and time_s <= self._time_s:
            self.reached = progress.done
            raise KeyboardInterrupt


def main() -> None:
    options = _parser().parse_args()
    shapes = [autotune.matmul(m=m, n=n, k=k) for m, n, k in SHAPES]
    lines = [*_rows(shapes, options)]
    title = f"Trials until {options.times:g} times as fast as {options.library}"
    table.write(options.write, title, lines)


def _rows(shapes: Sequence[Workload], options: argparse.Namespace) -> Iterator[str]:
    seeds = range(options.seeds)
    yield f"| m×n×k | {' | '.join(SEARCHES)} |"
    yield "|---|" + "---|" * len(SEARCHES)
    for workload in shapes:
        found: dict[str, list[int | None]] = {name: [] for name in SEARCHES}
        for seed in seeds:
            for name in SEARCHES:
                found[name].append(_trials(workload, name, seed, options))
        cells = [_cell(trials, options.trials) for trials in found.values()]
        yield f"| {table.shape(workload)} | {' | '.join(cells)} |"
        print(table.shape(workload), found, flush=True)


def _trials(workload: Workload, search: str, seed: int, options: argparse.Namespace) -> int | None:
    observer = UntilAsFast(options.library, options.times)
    with TemporaryDirectory() as folder, _without_prior(search == UNPRIMED):
        autotune.tune(
            workload,
            device=options.device,
            database=Path(folder) / "tuning.db",
            trials=options.trials,
            seed=seed,
            observer=observer,
            **SEARCHES[search],
        )
    return observer.reached


def _without_prior(wanted: bool) -> AbstractContextManager[object]:
    """Nobody would search so: it tells what the shipped model is worth."""
    if not wanted:
        return nullcontext()
    return patch("autotune.api.primed", lambda strategy, *_, **__: strategy)


def _cell(trials: Sequence[int | None], most: int) -> str:
    """The middle, and all: a search that was not as fast counts as one trial more."""
    told = [f"more than {most}" if each is None else str(each) for each in trials]
    middle = median_low([most + 1 if each is None else each for each in trials])
    return f"**{'more' if middle > most else middle}** ({', '.join(told)})"


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="opencl:cpu")
    parser.add_argument("--library", default="numpy")
    parser.add_argument("--times", type=float, default=1.0, help="as fast as the library, at least")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=100, help="at most, of a search")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there")
    return parser


if __name__ == "__main__":
    main()
