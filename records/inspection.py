"""What a tuning database holds, in numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from records import queries, schema
from records.catalogue import Catalogue
from records.connection import Connection, log_of
from records.match import Match
from records.rows import decode
from records.target import Target
from records.workload import Workload

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class PairInfo:
    """A workload on a target: how many trials, and the best of them if one is usable."""

    workload: Workload
    target: Target
    trials: int
    best: Match | None

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.to_json(),
            "target": self.target.to_json(),
            "trials": self.trials,
            "best": None if self.best is None else self.best.record.to_json(),
        }

    def __str__(self) -> str:
        best = "none usable"
        if self.best is not None:
            best = f"best {1e3 * self.best.time_s:.4g} ms by {self.best.schedule}"
        return f"{self.workload} on {self.target}: {self.trials} trials, {best}"


@dataclass(frozen=True)
class FailureInfo:
    """Trials that failed alike: the same status, the same first line but for its numbers.

    `reason` is that line of the first of them.
    """

    status: str
    reason: str
    trials: int

    def to_json(self) -> dict[str, Any]:
        return {"status": self.status, "reason": self.reason, "trials": self.trials}


@dataclass(frozen=True)
class DatabaseInfo:
    """`bytes` counts the write-ahead log too; `rows` goes by table, `statuses` by trial status.

    `failures`: why trials failed, the most frequent reason first.
    """

    path: Path
    schema_version: int
    bytes: int
    rows: Mapping[str, int]
    statuses: Mapping[str, int]
    pairs: tuple[PairInfo, ...]
    failures: tuple[FailureInfo, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "schema_version": self.schema_version,
            "bytes": self.bytes,
            "rows": dict(self.rows),
            "statuses": dict(self.statuses),
            "pairs": [pair.to_json() for pair in self.pairs],
            "failures": [failure.to_json() for failure in self.failures],
        }

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.path}: schema {self.schema_version}, {self.bytes / 2**20:.1f} MiB",
                ", ".join(f"{count} {table}" for table, count in self.rows.items()),
                "trials: " + _counted(self.statuses),
                *map(str, self.pairs),
            ]
        )


def info(connection: Connection, catalogue: Catalogue) -> DatabaseInfo:
    statuses = connection.rows(
        "SELECT status, count(*) FROM trials GROUP BY status ORDER BY 2 DESC"
    )
    pairs = connection.rows(
        "SELECT workload_id, target_id, count(*) FROM trials GROUP BY 1, 2 ORDER BY min(id)"
    )
    return DatabaseInfo(
        connection.path,
        schema.version_of(connection),
        _bytes(connection.path),
        {table: connection.value(f"SELECT count(*) FROM {table}") for table in schema.TABLES},
        dict(statuses),
        tuple(_pair_info(connection, catalogue, *pair) for pair in pairs),
        _failures(connection),
    )


def _failures(connection: Connection) -> tuple[FailureInfo, ...]:
    """Lines that differ only in numbers (addresses, indices, times) are one reason."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for status, error, trials in connection.rows(
        "SELECT status, error, count(*) FROM trials WHERE status <> 'ok' "
        "GROUP BY 1, 2 ORDER BY min(id)"
    ):
        reason = next(iter(error.strip().splitlines()), "")
        alike = (status, _NUMBER.sub("#", reason))
        counts[alike] += trials
        examples.setdefault(alike, reason)
    return tuple(
        FailureInfo(alike[0], examples[alike], trials) for alike, trials in counts.most_common()
    )


def _pair_info(
    connection: Connection, catalogue: Catalogue, workload: int, target: int, trials: int
) -> PairInfo:
    rows = queries.ranking(connection, queries.Pair(workload, target), None, False)
    fastest = decode(list(islice(rows, 1)), catalogue)
    return PairInfo(
        catalogue.workload(workload),
        catalogue.target(target),
        trials,
        Match(fastest[0]) if fastest else None,
    )


def _bytes(path: Path) -> int:
    files = (path, log_of(path))
    return sum(file.stat().st_size for file in files if file.exists())


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
