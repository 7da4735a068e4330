"""Workloads, targets and environments: stored once, known by number, shared when read back."""

from __future__ import annotations

import json
from collections.abc import Callable

from records.canonical import Items, canonical_json, freeze
from records.connection import Connection
from records.peaks import Peaks, stored_peaks
from records.target import Target
from records.workload import Workload


class Catalogue:
    """Numbers for identities. Rows are never changed, so both directions are cached."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: dict[tuple[str, str], int] = {}
        self._workloads: dict[int, Workload] = {}
        self._targets: dict[int, Target] = {}
        self._environments: dict[int, Items] = {}

    def forget(self) -> None:
        """After a transaction was rolled back its numbers mean nothing."""
        self._ids.clear()

    def find_workload(self, workload: Workload) -> int | None:
        return self._find("workloads", workload.key)

    def find_target(self, target: Target) -> int | None:
        return self._find("targets", target.key)

    def find_environment(self, environment: Items) -> int | None:
        return self._find("environments", canonical_json(dict(environment)))

    def store_workload(self, workload: Workload) -> int:
        return self._store("workloads", workload.key, lambda: _workload_columns(workload))

    def store_target(self, target: Target) -> int:
        return self._store("targets", target.key, lambda: _target_columns(target))

    def store_environment(self, key: str) -> int:
        return self._store("environments", key, dict)

    def workload(self, number: int) -> Workload:
        if number not in self._workloads:
            self._workloads[number] = Workload.from_json(self._key("workloads", number))
        return self._workloads[number]

    def target(self, number: int) -> Target:
        if number not in self._targets:
            self._targets[number] = Target.from_json(self._key("targets", number))
        return self._targets[number]

    def environment(self, number: int) -> Items:
        if number not in self._environments:
            self._environments[number] = freeze(self._key("environments", number))
        return self._environments[number]

    def peaks(self) -> dict[Target, Peaks]:
        """What is no peaks is not known; `records.soundness` tells."""
        rows = self._connection.rows(
            "SELECT id, peaks FROM targets WHERE peaks IS NOT NULL ORDER BY id"
        )
        found = ((number, stored_peaks(text)) for number, text in rows)
        return {self.target(number): peaks for number, peaks in found if peaks is not None}

    def _find(self, table: str, key: str) -> int | None:
        if (table, key) not in self._ids:
            number = self._connection.value(f"SELECT id FROM {table} WHERE key = ?", (key,))
            if number is None:
                return None
            self._ids[table, key] = number
        return self._ids[table, key]

    def _store(self, table: str, key: str, columns: Callable[[], dict[str, str]]) -> int:
        number = self._find(table, key)
        if number is None:
            number = self._connection.insert(table, {"key": key, **columns()})
            self._ids[table, key] = number
        return number

    def _key(self, table: str, number: int) -> dict[str, object]:
        text = self._connection.value(f"SELECT key FROM {table} WHERE id = ?", (number,))
        data: dict[str, object] = json.loads(text)
        return data


def _workload_columns(workload: Workload) -> dict[str, str]:
    return {"op": workload.op, "params": canonical_json(dict(workload.params))}


def _target_columns(target: Target) -> dict[str, str]:
    return target.to_json() | {"limits": canonical_json(dict(target.limits))}
