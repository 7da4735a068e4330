"""What is computed: an operation and its sizes and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from records import fields
from records.canonical import Items, Value, canonical_json, freeze


@dataclass(frozen=True)
class Workload:
    """An operation with every parameter that decides what is computed.

    Sizes count elements, types go by name (`"float32"`). The canonical JSON of `op` and `params`
    is the identity. Build one through an op's own constructor, such as `autotune.matmul(...)`,
    which refuses nonsense and fills in defaults; this class only carries it.
    """

    op: str
    params: Items

    @classmethod
    def of(cls, op: str, params: Mapping[str, object]) -> Workload:
        return cls(op, freeze(params))

    @cached_property
    def values(self) -> dict[str, Value]:
        return dict(self.params)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @cached_property
    def key(self) -> str:
        """Canonical JSON; equal workloads have equal keys, in every process and version."""
        return canonical_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {"op": self.op, "params": dict(self.params)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Workload:
        return cls.of(fields.text(data, "op"), fields.mapping(data, "params"))

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.params)
        return f"{self.op}({inside})"
