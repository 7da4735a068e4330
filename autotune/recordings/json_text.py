"""Text of a recording as JSON: one document, or a line each; perhaps cut off at its end."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from records.errors import InvalidInputError

_SQLITE = b"SQLite format 3\0"


def is_binary(path: Path) -> bool:
    """Whether it is a SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}; name another file") from error


def parsed(path: Path) -> Any:
    """The document, or the list of those of several lines."""
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            text = file.read()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}; name another file") from error
    for attempt in (json.loads, _lines, _completed):
        try:
            return attempt(text)
        except ValueError:
            continue
    raise InvalidInputError(f"{path}: is neither JSON nor lines of JSON; name another file")


def _lines(text: str) -> list[Any]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        raise ValueError("one line is no list of lines")
    return [json.loads(line) for line in lines]


def _completed(text: str) -> Any:
    """A document to which a program appended until it was stopped: an entry a line.

    Such a file lacks its closing braces and perhaps the end of its last line.
    """
    text = text.rstrip()
    for body in (text, text.rpartition("\n")[0]):
        for closing in ("", "}", "}}"):
            try:
                return json.loads(body.rstrip().rstrip(",") + closing)
            except ValueError:
                continue
    raise ValueError("not JSON")
