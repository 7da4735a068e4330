"""A tuning record as a row of `trials`, and back."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any

from records.canonical import Items, canonical_json, digest, freeze
from records.catalogue import Catalogue
from records.connection import Row
from records.errors import InvalidInputError
from records.measurement import Measurement, Status
from records.record import Kind, TuningRecord
from records.schedule import Schedule

COLUMNS = (
    "workload_id",
    "target_id",
    "environment_id",
    "template",
    "template_version",
    "knobs",
    "kind",
    "status",
    "times_s",
    "error",
    "compile_s",
    "details",
    "created_at",
)
"""What makes a record, in the order that `decode` takes; rows equal in all are the same trial."""

UTC_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?)?")


def schedule_key(schedule: Schedule) -> str:
    return digest(schedule.key)


def encode(record: TuningRecord) -> dict[str, Any]:
    """Columns of `trials` but for the numbers; `InvalidInputError` if it cannot be a fact."""
    problem = _problem(record)
    if problem:
        raise InvalidInputError(f"cannot store {record.schedule}: {problem}")
    schedule, measurement = record.schedule, record.measurement
    try:
        return {
            "template": schedule.template,
            "template_version": schedule.version,
            "knobs": canonical_json(dict(schedule.knobs)),
            "schedule_key": schedule_key(schedule),
            "kind": str(record.kind),
            "status": str(measurement.status),
            "time_s": measurement.time_s if measurement.is_ok else None,
            "times_s": canonical_json(measurement.times_s),
            "error": _utf8(measurement.error),
            "compile_s": float(measurement.compile_s),
            "details": canonical_json(dict(measurement.details)),
            "created_at": record.created_at,
        }
    except ValueError as error:
        raise InvalidInputError(f"cannot store {record.schedule}: {error}") from error


def decode(row: Row, catalogue: Catalogue) -> TuningRecord:
    """The record of a row of `COLUMNS`."""
    workload, target, environment = row[:3]
    template, version, knobs, kind = row[3:7]
    return TuningRecord(
        catalogue.workload(workload),
        catalogue.target(target),
        Schedule(template, version, items(knobs)),
        decode_measurement(row[7:12], catalogue.environment(environment)),
        row[12],
        _KINDS[kind],
    )


def decode_measurement(row: Row, environment: Items) -> Measurement:
    """The measurement of a row of (status, times_s, error, compile_s, details)."""
    status, times_s, error, compile_s, details = row
    return Measurement(
        _STATUSES[status],
        tuple(json.loads(times_s)),
        error,
        compile_s,
        _shared_items(details),
        environment,
    )


def items(text: str) -> Items:
    """Items of canonical JSON, which is sorted already; only sequences need freezing."""
    values = json.loads(text)
    return freeze(values) if "[" in text else tuple(values.items())


_shared_items = lru_cache(maxsize=1024)(items)
_KINDS = {str(kind): kind for kind in Kind}
_STATUSES = {str(status): status for status in Status}


def _problem(record: TuningRecord) -> str:
    measurement = record.measurement
    times_s = measurement.times_s
    if measurement.is_ok and not times_s:
        return "status ok needs at least one time; a failure needs its own status"
    if not all(time_s > 0.0 and math.isfinite(time_s) for time_s in times_s):
        return f"times must be positive and finite seconds, got {times_s}"
    if not UTC_TIME.fullmatch(record.created_at):
        return (
            "created_at must be UTC in ISO 8601, such as 2030-01-31T12:00:00+00:00, "
            f"got {record.created_at!r}"
        )
    return ""


def _utf8(text: str) -> str:
    """Compilers and drivers write bytes that are no text; keep what they can be read as."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
