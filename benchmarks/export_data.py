"""Tuning databases as the data that the shipped cost model is trained from: a file a workload.

    python benchmarks/export_data.py tuning.db other.db

Writes `benchmarks/data/<device>/<workload>.jsonl.gz`. Left out are what is no trial of a search
(races, libraries), records of templates that changed since or that are not known, schedules that
are outside of today's space, and pairs with fewer than `ENOUGH` schedules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from autotune import record_files
from autotune.api import search_space
from autotune.cli import text
from records import exchange
from records.errors import InvalidInputError
from records.record import Kind, TuningRecord
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload

DATA = Path(__file__).parent / "data"
ENOUGH = 40

Pairs = dict[tuple[Workload, Target], list[TuningRecord]]


@click.command(help=__doc__)
@click.argument("databases", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", default=DATA, type=click.Path(path_type=Path), help="The folder.")
def main(databases: Sequence[Path], output: Path) -> None:
    pairs: Pairs = {}
    peaks = record_files.read_peaks(databases)
    for path in databases:
        with TuningDatabase(path, read_only=True) as store:
            for record in store.records(kinds={Kind.SEARCH}):
                pairs.setdefault((record.workload, record.target), []).append(record)
    for (workload, target), records in pairs.items():
        kept = _current(workload, target, records)
        if len({record.schedule for record in kept}) >= ENOUGH:
            path = output / _slug(target.device, f"{target.limit('units', 1)} units")
            path.mkdir(parents=True, exist_ok=True)
            path /= f"{_slug(text.name(workload))}.jsonl.gz"
            known = {target: peaks[target]} if target in peaks else {}
            print(f"{path}: {exchange.write_file(path, kept, known)} records")


def _current(
    workload: Workload, target: Target, records: Sequence[TuningRecord]
) -> list[TuningRecord]:
    try:
        space = search_space(workload, target)
    except InvalidInputError:
        return []
    return [record for record in records if record.schedule in space]


def _slug(*words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower().replace("×", "x")).strip("-")


if __name__ == "__main__":
    main()
