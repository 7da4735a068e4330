"""Records as lines of JSON: a header that names the format, then one record a line.

The header has the peaks of the records' targets too, where they are known.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from records import fields
from records.canonical import canonical_json
from records.errors import InvalidInputError
from records.peaks import NO_PEAKS, Peaks, PeaksOf
from records.record import TuningRecord
from records.target import Target

FORMAT = "autotune-records"
VERSION = 1


@dataclass
class ImportReport:
    """What an import did.

    `skipped`: records that were there already, equal in everything. `broken`: what is wrong
    with each line that is no record.
    """

    added: int = 0
    skipped: int = 0
    broken: list[str] = field(default_factory=list)

    def count(self, was_new: bool) -> None:
        self.added += was_new
        self.skipped += not was_new


@dataclass(frozen=True)
class Line:
    """A line that should be a record; `place` names source and line number."""

    place: str
    text: str

    def record(self) -> TuningRecord:
        """`InvalidInputError` if it is none."""
        try:
            return TuningRecord.from_json(json.loads(self.text))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"not a tuning record: {error}") from error


@dataclass(frozen=True)
class Export:
    """What `read` finds: the lines, empty ones skipped, and what the header says."""

    peaks: PeaksOf
    lines: Iterator[Line]


def write(records: Iterable[TuningRecord], stream: TextIO, peaks: PeaksOf = NO_PEAKS) -> int:
    """Write header and records to a text stream; returns the number of records."""
    stream.write(canonical_json(_header(peaks)) + "\n")
    count = 0
    for record in records:
        stream.write(canonical_json(record.to_json()) + "\n")
        count += 1
    return count


def read(lines: Iterable[str], name: str) -> Export:
    """`name` is the source in messages.

    `InvalidInputError` if the first line is not the header of a version that is known.
    """
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    header = _checked_header(next(numbered, (1, ""))[1], name)
    found = (Line(f"{name}, line {number}", text) for number, text in numbered)
    return Export(_peaks(header, name), found)


def write_file(path: Path, records: Iterable[TuningRecord], peaks: PeaksOf = NO_PEAKS) -> int:
    """`write` to a file, compressed if its name ends in `.gz`; whole or not at all."""
    try:
        with _whole_or_nothing(path) as file, _open(file, "wt", path) as stream:
            return write(records, stream, peaks)
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be written: {error}; name another file") from error


@contextmanager
def open_file(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a file that `write_file` wrote."""
    try:
        with _open(path, "rt", path) as stream:
            yield iter(stream)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}; name another file") from error


def _header(peaks: PeaksOf) -> dict[str, Any]:
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if peaks:
        header["peaks"] = [
            {"target": target.to_json(), "peaks": each.to_json()} for target, each in peaks.items()
        ]
    return header


def _peaks(header: Mapping[str, Any], name: str) -> dict[Target, Peaks]:
    try:
        return {
            Target.from_json(fields.mapping(each, "target")): Peaks.from_json(
                fields.mapping(each, "peaks")
            )
            for each in header.get("peaks", ())
        }
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{name}: the peaks of its first line are none: {error}; "
            "take them out, or export it again"
        ) from error


def _checked_header(line: str, name: str) -> Mapping[str, Any]:
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
    return header


def _open(file: Path, mode: str, named: Path) -> Any:
    if named.suffix == ".gz":
        return gzip.open(file, mode, encoding="utf-8", newline="\n")
    return open(file, mode, encoding="utf-8", newline="\n")


@contextmanager
def _whole_or_nothing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place if all goes well, and is gone if not.

    Pipes and devices cannot be replaced and are written as they are.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
