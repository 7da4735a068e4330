"""Cache files of Kernel Tuner: https://kerneltuner.github.io/kernel_tuner/stable/cache_files.html.

It appends an entry a trial, so the closing braces may be missing. A failed configuration has the
name of an error class where the time would be or under `__error__`, in old versions 1e20.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotune.recorded import RecordedSpace, from_table
from autotune.recordings.failures import outcome
from records.canonical import Scalar
from records.errors import InvalidInputError
from records.measurement import Measurement

_OBJECTIVE = "time"
_ERROR = "__error__"


def recognises(data: Any) -> bool:
    return isinstance(data, dict) and "tune_params_keys" in data and "cache" in data


def recordings(data: Any, path: Path) -> list[RecordedSpace]:
    if data.get("objective", _OBJECTIVE) != _OBJECTIVE:
        raise InvalidInputError(
            f"its objective is {data['objective']!r}; need one of {_OBJECTIVE!r}"
        )
    params = {name: data["tune_params"][name] for name in data["tune_params_keys"]}
    measured = _measured(data["cache"], list(params))
    return [from_table(str(data["kernel_name"]), str(data["device_name"]), params, measured)]


def _measured(cache: Any, names: list[str]) -> Iterator[tuple[tuple[Scalar, ...], Measurement]]:
    for entry in cache.values():
        told = entry.get(_ERROR) or entry[_OBJECTIVE]
        yield tuple(entry[name] for name in names), outcome(told)
