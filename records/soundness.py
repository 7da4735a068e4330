"""Everything that can be wrong with a tuning database, found and said in words."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from records import schema
from records.canonical import canonical_json
from records.connection import Connection
from records.errors import DatabaseError
from records.measurement import Status
from records.peaks import stored_peaks
from records.record import Kind
from records.rows import schedule_key
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload

MOST_PROBLEMS = 200  # a damaged file has one for each row; nobody reads them all

_TRIALS = """
    SELECT id, template, template_version, knobs, schedule_key, kind, status, time_s, times_s,
        compile_s, details, created_at
    FROM trials ORDER BY id
"""


def check(connection: Connection) -> list[str]:
    """Problems in words, at most `MOST_PROBLEMS` of them; `[]` if the file is sound."""
    problems: list[str] = []
    try:
        for problem in islice(_problems(connection), MOST_PROBLEMS):
            problems.append(problem)
    except DatabaseError as error:  # too damaged to be read any further
        problems.append(str(error))
    return problems


def _problems(connection: Connection) -> Iterator[str]:
    for (text,) in connection.rows("PRAGMA integrity_check"):
        if text != "ok":
            yield f"file: {text}"
    parts = {name for (name,) in connection.rows("SELECT name FROM sqlite_master")}
    for name in (*schema.TABLES, *schema.INDEXES, *schema.VIEWS):
        if name not in parts:
            yield f"file: {name} is missing; export what is left into a new database"
    for table, row, parent, _ in connection.rows("PRAGMA foreign_key_check"):
        yield f"{table} {row}: refers to a row of {parent} that does not exist"
    yield from _identity_problems(connection)
    for number, options in connection.rows("SELECT id, options FROM sessions"):
        if not _is_object(options):
            yield f"session {number}: its options are not JSON: {options!r}"
    for row in connection.stream(_TRIALS):
        for problem in _trial_problems(row[1:]):
            yield f"trial {row[0]}: {problem}"


def _identity_problems(connection: Connection) -> Iterator[str]:
    for number, key, op, params in connection.rows("SELECT id, key, op, params FROM workloads"):
        stored = {"op": op, "params": _json(params)}
        if _key_of(Workload, key) != key or canonical_json(stored) != key:
            yield f"workload {number}: its columns and its key differ: {key!r}"
    for number, key, *columns, limits in connection.rows(
        "SELECT id, key, backend, device, arch, limits FROM targets"
    ):
        stored = dict(zip(("backend", "device", "arch"), columns, strict=True))
        if _key_of(Target, key) != key or canonical_json(stored | {"limits": _json(limits)}) != key:
            yield f"target {number}: its columns and its key differ: {key!r}"
    for number, peaks in connection.rows("SELECT id, peaks FROM targets WHERE peaks IS NOT NULL"):
        if stored_peaks(peaks) is None:
            yield f"target {number}: its peaks are not positive rates: {peaks!r}"
    for number, key in connection.rows("SELECT id, key FROM environments"):
        if not _is_object(key) or canonical_json(_json(key)) != key:
            yield f"environment {number}: not a canonical JSON object: {key!r}"


def _trial_problems(row: tuple[Any, ...]) -> Iterator[str]:
    template, version, knobs, key, kind, status, time_s, times_s, compile_s, details, at = row
    if not _is_object(knobs):
        yield f"its knobs are not a JSON object: {knobs!r}"
    elif schedule_key(Schedule.of(template, version, _json(knobs))) != key:
        yield f"its schedule key is not that of its schedule: {key!r}"
    if not _is_object(details):
        yield f"its details are not a JSON object: {details!r}"
    if kind not in set(Kind):
        yield f"unknown kind {kind!r}"
    if status not in set(Status):
        yield f"unknown status {status!r}"
    if not isinstance(compile_s, float) or compile_s < 0.0:
        yield f"its compile time is {compile_s!r}, need seconds"
    if not _is_time(at):
        yield f"created at {at!r}, need ISO 8601"
    yield from _time_problems(status, time_s, _json(times_s))


def _time_problems(status: str, time_s: object, times_s: object) -> Iterator[str]:
    if not isinstance(times_s, list) or not all(_is_positive(time) for time in times_s):
        yield f"its times are not positive seconds: {times_s!r}"
    elif status == "ok" and not times_s:
        yield "ok without times"
    elif status == "ok" and time_s != statistics.median(times_s):
        yield f"its time is {time_s!r}, and not the median of its times"
    elif status != "ok" and time_s is not None:
        yield f"{status}, and yet a time of {time_s!r} s"


def _json(text: str) -> Any:
    """The value, or `None` where the text is no JSON."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def _is_object(text: str) -> bool:
    return isinstance(_json(text), dict)


def _key_of(kind: type[Workload] | type[Target], key: str) -> str:
    try:
        return kind.from_json(json.loads(key)).key
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""


def _is_positive(time: object) -> bool:
    return isinstance(time, (int, float)) and math.isfinite(time) and time > 0


def _is_time(text: object) -> bool:
    try:
        datetime.fromisoformat(str(text))
    except ValueError:
        return False
    return True
