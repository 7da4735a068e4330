"""A tuning record as a row of `trials`, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from records.canonical import Items, canonical_json, digest, freeze
from records.catalogue import Catalogue
from records.connection import Row
from records.errors import InvalidInputError, SchemaError
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
    if not UTC_TIME.fullmatch(record.created_at):
        raise InvalidInputError(
            f"created_at={record.created_at!r}: need UTC in ISO 8601, such as "
            "2030-01-31T12:00:00.000+00:00; use records.record.utc_now()"
        )
    schedule, measurement = record.schedule, record.measurement
    try:
        return {
            "template": schedule.template,
            "template_version": schedule.version,
            "knobs": canonical_json(dict(schedule.knobs)),
            "schedule_key": schedule_key(schedule),
            "kind": str(record.kind),
            "status": str(measurement.status),
            "time_s": measurement.time_s,
            "times_s": canonical_json(measurement.times_s),
            "error": _utf8(measurement.error),
            "compile_s": float(measurement.compile_s),
            "details": canonical_json(dict(measurement.details)),
            "created_at": record.created_at,
        }
    except ValueError as error:
        raise InvalidInputError(f"cannot store {record.schedule}: {error}") from error


@contextmanager
def _damage_in_words() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SchemaError(
            f"a row of the tuning database cannot be read: {error!r}; "
            "`autotune db check` says which, and what else is wrong"
        ) from error


@_damage_in_words()
def decode(rows: Sequence[Row], catalogue: Catalogue) -> list[TuningRecord]:
    """The records of rows of `COLUMNS`."""
    return [
        TuningRecord(
            catalogue.workload(row[0]),
            catalogue.target(row[1]),
            schedule,
            measurement,
            row[12],
            _KINDS[row[6]],
        )
        for row, schedule, measurement in zip(
            rows,
            decode_schedules([row[3:6] for row in rows]),
            decode_measurements(
                [row[7:12] for row in rows], [catalogue.environment(row[2]) for row in rows]
            ),
            strict=True,
        )
    ]


@_damage_in_words()
def decode_schedules(rows: Sequence[Row]) -> list[Schedule]:
    """The schedules of rows of (template, version, knobs)."""
    knobs = _parse_all([row[2] for row in rows])
    return [
        Schedule(row[0], row[1], _items(values)) for row, values in zip(rows, knobs, strict=True)
    ]


@_damage_in_words()
def decode_measurements(rows: Sequence[Row], environments: Iterable[Items]) -> list[Measurement]:
    """The measurements of rows of (status, times_s, error, compile_s, details)."""
    times_s = _parse_all([row[1] for row in rows])
    return [
        Measurement(_STATUSES[row[0]], tuple(times), row[2], row[3], _details(row[4]), environment)
        for row, times, environment in zip(rows, times_s, environments, strict=True)
    ]


def _parse_all(texts: Sequence[str]) -> list[Any]:
    """Many JSON values in one pass: quicker, and names that recur are one string in memory."""
    values: list[Any] = json.loads(f"[{','.join(texts)}]")
    return values


def _items(values: Mapping[str, Any]) -> Items:
    """Items of parsed canonical JSON, which is sorted already; only sequences need freezing."""
    if list in map(type, values.values()):
        return freeze(values)
    return tuple(values.items())


@lru_cache(maxsize=1024)
def _details(text: str) -> Items:
    """Binaries of one template often tell the same."""
    return _items(json.loads(text))


_KINDS = {str(kind): kind for kind in Kind}
_STATUSES = {str(status): status for status in Status}


def _utf8(text: str) -> str:
    """Compilers and drivers write bytes that are no text; keep what they can be read as."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
