"""Spaces published whole, as one JSON document.

`params` (name to list of legal values), `configs` (every measured configuration, values in the
order of `params`), `time_ms` (milliseconds of each, null for a failure), and optionally `status`
(index to kind of failure), `restrictions` (Python expressions), `kernel`, `device`, `problem` (its
sizes).
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


def recognises(data: Any) -> bool:
    return isinstance(data, dict) and len({"params", "configs", "time_ms"} & set(data)) >= 2


def recordings(data: Any, path: Path) -> list[RecordedSpace]:
    missing = {"params", "configs", "time_ms"} - set(data)
    if missing:
        raise InvalidInputError(f"it is no recorded space: it lacks {', '.join(sorted(missing))}")
    if len(data["configs"]) != len(data["time_ms"]):
        raise InvalidInputError(
            f"{len(data['configs'])} configurations need as many times, "
            f"found {len(data['time_ms'])} times"
        )
    kernel = str(data.get("kernel", path.name.partition(".")[0]))
    device = str(data.get("device", "unknown"))
    restrictions = data.get("restrictions") or []
    sizes = _sizes(data.get("problem"))
    return [from_table(kernel, device, data["params"], _measured(data), restrictions, sizes)]


def _sizes(problem: Any) -> list[int]:
    """Of `[4096, 4096]` or `"384x3072x1x4096"`; none of anything else."""
    parts = problem.split("x") if isinstance(problem, str) else problem
    try:
        return [int(part) for part in parts]
    except (TypeError, ValueError):
        return []


def _measured(data: Any) -> Iterator[tuple[tuple[Scalar, ...], Measurement]]:
    kinds = data.get("status") or {}
    for place, (config, time_ms) in enumerate(zip(data["configs"], data["time_ms"], strict=True)):
        yield tuple(config), outcome(time_ms, str(kinds.get(str(place), "failed")))
