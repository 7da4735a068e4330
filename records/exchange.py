"""Records as lines of JSON: a header that names the format, then one record a line."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TextIO

from records.canonical import canonical_json
from records.errors import InvalidInputError
from records.record import TuningRecord

FORMAT = "autotune-records"
VERSION = 1


@dataclass
class ImportReport:
    """What an import did. `broken`: a sentence for each line that was skipped."""

    added: int = 0
    duplicates: int = 0
    broken: list[str] = field(default_factory=list)

    def count(self, was_new: bool) -> None:
        self.added += was_new
        self.duplicates += not was_new


def write(records: Iterable[TuningRecord], stream: TextIO) -> int:
    """Write header and records to a text stream; returns the number of records."""
    stream.write(canonical_json({"format": FORMAT, "version": VERSION}) + "\n")
    count = 0
    for record in records:
        stream.write(canonical_json(record.to_json()) + "\n")
        count += 1
    return count


def read(lines: Iterable[str], name: str) -> Iterator[TuningRecord | str]:
    """Records in order; for a line that is none, a sentence with its number.

    `name` stands for the source in messages. `InvalidInputError` if the first line is not the
    header of a version that is known. Empty lines are skipped.
    """
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    _check_header(next(numbered, (1, ""))[1], name)
    for number, line in numbered:
        try:
            yield TuningRecord.from_json(json.loads(line))
        except (TypeError, ValueError) as error:
            yield f"{name}, line {number}: not a tuning record ({error})"


def write_file(path: Path, records: Iterable[TuningRecord]) -> int:
    """`write` to a file, compressed if its name ends in `.gz`; whole or not at all."""
    if not path.parent.is_dir():
        raise InvalidInputError(f"{path}: its directory does not exist; make it first")
    with _replacing(path) as partial:
        with _open(partial, "wt", compressed=path.suffix == ".gz") as stream:
            return write(records, stream)


@contextmanager
def open_file(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a file that `write_file` wrote."""
    try:
        with _open(path, "rt", compressed=path.suffix == ".gz") as stream:
            yield iter(stream)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}") from error


def _check_header(line: str, name: str) -> None:
    try:
        header: Any = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InvalidInputError(
            f'{name}: need a first line {{"format":"{FORMAT}","version":{VERSION}}}; '
            "name a file that `autotune db export` wrote"
        )
    if header.get("version") != VERSION:
        raise InvalidInputError(
            f"{name}: format version {header.get('version')}, this autotune reads {VERSION}; "
            "upgrade with: pip install --upgrade autotune-kernels"
        )


def _open(path: Path, mode: str, *, compressed: bool) -> Any:
    if compressed:
        return gzip.open(path, mode, encoding="utf-8", newline="\n")
    return open(path, mode, encoding="utf-8", newline="\n")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` that takes its place if all goes well, and is gone if not."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        partial = Path(file.name)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
