"""How it is computed: a template and a value for each of its knobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from records import fields
from records.canonical import Items, Value, canonical_json, freeze


@dataclass(frozen=True)
class Schedule:
    """A point of a search space. Meaningless without the text of its template at `version`."""

    template: str
    version: int
    knobs: Items

    @classmethod
    def of(cls, template: str, version: int, knobs: Mapping[str, object]) -> Schedule:
        return cls(template, version, freeze(knobs))

    @cached_property
    def values(self) -> dict[str, Value]:
        return dict(self.knobs)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @cached_property
    def key(self) -> str:
        return canonical_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {"template": self.template, "version": self.version, "knobs": dict(self.knobs)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schedule:
        return cls.of(
            fields.text(data, "template"),
            fields.integer(data, "version"),
            fields.mapping(data, "knobs"),
        )

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.knobs)
        return f"{self.template}@{self.version}({inside})"
