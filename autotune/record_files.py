"""Tuning records out of files: databases, and what `db export` wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from autotune.recordings.json_text import is_binary
from records import exchange
from records.errors import InvalidInputError
from records.peaks import Peaks, PeaksOf
from records.record import TuningRecord
from records.target import Target

ENDINGS = (".db", ".jsonl", ".jsonl.gz")


def read(paths: Iterable[Path]) -> list[TuningRecord]:
    """Every record of the files, and of those in folders whose names end in one of `ENDINGS`.

    In the order of the paths, sorted within a folder. `InvalidInputError` for a file that is
    neither, or a folder without any.
    """
    return [record for path in paths for file in _files(path) for record in _records(file)]


def read_peaks(paths: Iterable[Path]) -> dict[Target, Peaks]:
    """Of the targets of which these files know them; of several, the first file's."""
    found: dict[Target, Peaks] = {}
    for path in paths:
        for file in _files(path):
            found = {**_peaks(file), **found}
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.rglob("*") if each.name.endswith(ENDINGS))
    if not found:
        raise InvalidInputError(f"{path}: no file in it ends in {', '.join(ENDINGS)}")
    return found


def _records(path: Path) -> Iterator[TuningRecord]:
    if is_binary(path):
        from records.store import TuningDatabase

        with TuningDatabase(path, read_only=True) as store:
            yield from store.records()
        return
    with exchange.open_file(path) as lines:
        for line in exchange.read(lines, str(path)).lines:
            try:
                yield line.record()
            except InvalidInputError as error:
                raise InvalidInputError(f"{line.place}: {error}") from error


def _peaks(path: Path) -> PeaksOf:
    if is_binary(path):
        from records.store import TuningDatabase

        with TuningDatabase(path, read_only=True) as store:
            return store.peaks()
    with exchange.open_file(path) as lines:
        return exchange.read(lines, str(path)).peaks
