"""Files that recorded search spaces come in. One line a format; modules are imported when used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from autotune.recorded import RecordedSpace
from autotune.recordings.json_text import is_binary, parsed
from records.errors import InvalidInputError

FORMATS = {
    "recorded space": "autotune.recordings.whole_space",
    "Kernel Tuner cache": "autotune.recordings.kernel_tuner",
    "T4 results": "autotune.recordings.t4",
    "autotune export": "autotune.recordings.exports",
}
"""Modules with `recognises(data)` and `recordings(data, path)`, `data` being parsed JSON.

A tuning database is told by its first bytes, for it is no text.
"""


def read(path: str | Path) -> list[RecordedSpace]:
    """Every recording in a file; compressed ones end in `.gz`.

    `InvalidInputError` says what is wrong with a file that cannot be used.
    """
    path = Path(path)
    if is_binary(path):
        from autotune.recordings.exports import from_database

        return from_database(path)
    data = parsed(path)
    for format, module in zip(FORMATS, map(import_module, FORMATS.values()), strict=True):
        if module.recognises(data):
            try:
                found: list[RecordedSpace] = module.recordings(data, path)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise InvalidInputError(f"{path}: {_in_words(error, format)}") from error
            return found
    raise InvalidInputError(
        f"{path} is no recording; there are: a tuning database, {', '.join(FORMATS)}"
    )


def _in_words(error: Exception, format: str) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, (AttributeError, TypeError)):
        return f"it is no {format}, though it looks like one ({error}); name another file"
    return str(error)
