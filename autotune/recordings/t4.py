"""T4 results of the FAIR autotuning formats: https://github.com/odgaard/TuningSchema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotune.recorded import RecordedSpace, from_table
from autotune.recordings.failures import failure, outcome
from records.canonical import Scalar
from records.errors import InvalidInputError
from records.measurement import Measurement

_SECONDS = {"s": 1.0, "mil": 1e-3, "ms": 1e-3, "mic": 1e-6, "us": 1e-6, "n": 1e-9}
"""By how a unit begins: files in use say "miliseconds"."""


def recognises(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("results"), list)


def recordings(data: Any, path: Path) -> list[RecordedSpace]:
    results = data["results"]
    if not results:
        raise InvalidInputError("it has no results")
    names = list(results[0]["configuration"])
    params = {name: _values(results, name) for name in names}
    scale_s = _scale_s(str(data.get("metadata", {}).get("timeunit", "milliseconds")))
    metadata = data.get("metadata", {})
    kernel = str(metadata.get("kernel_name", path.name.partition(".")[0]))
    device = str(metadata.get("device_name", "unknown"))
    return [from_table(kernel, device, params, _measured(results, names, scale_s))]


def _values(results: list[Any], name: str) -> list[Scalar]:
    values: dict[Any, None] = dict.fromkeys(each["configuration"][name] for each in results)
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else list(values)


def _scale_s(unit: str) -> float:
    for start, seconds in _SECONDS.items():
        if unit.lower().startswith(start):
            return seconds
    raise InvalidInputError(f"its time unit is {unit!r}; need seconds, milli-, micro- or nano-")


def _measured(
    results: list[Any], names: list[str], scale_s: float
) -> Iterator[tuple[tuple[Scalar, ...], Measurement]]:
    for each in results:
        values = tuple(each["configuration"][name] for name in names)
        times = [one["value"] for one in each["measurements"] if one["name"] == "time"]
        if each["invalidity"] != "correct" or not times or isinstance(times[0], str):
            yield values, failure(each["invalidity"])
        else:
            yield values, outcome(times[0] * scale_s * 1e3)
