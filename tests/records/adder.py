"""A child process that adds records until it is killed and prints each number once stored."""

from __future__ import annotations

import sys
from pathlib import Path

from record_samples import TARGET, WORKLOAD, record

from records.store import TuningDatabase


def main(path: Path, first: int) -> None:
    with TuningDatabase(path) as database:
        session = database.start_session(WORKLOAD, TARGET, strategy="random", seed=0, options={})
        for tile in range(first, first + 1_000_000):
            print(database.add(record(tile), session), tile, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
