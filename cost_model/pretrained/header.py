"""What a model file says of itself: the first line, readable by any program and by people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cost_model.table import FindTemplate
from cost_model.trust import BETTER_THAN_GUESSING
from records.errors import InvalidInputError
from records.target import Target
from records.workload import Workload
from search_spaces.dtypes import DTYPES
from search_spaces.filled import filled

FORMAT = "autotune-cost-model"
VERSION = 1
"""Of the file and of what its features mean: raised when either changes."""

HELPS = 0.75
"""A model helps where what it loses is at most this part of what choices at random lose."""


@dataclass(frozen=True)
class Judged:
    """How right predictions were for what was held out, on average over so many `groups`.

    `accuracy`: pairs in order; `loss` and `random_loss`: the share of the best speed that is not
    reached by the best predicted, the best of five and the best of ten, on average over these
    three, and by as many at random.
    """

    groups: int
    accuracy: float
    loss: float
    random_loss: float

    @property
    def helps(self) -> bool:
        return self.accuracy >= BETTER_THAN_GUESSING and self.loss <= HELPS * self.random_loss


@dataclass(frozen=True)
class Header:
    """Of what, and by what, a model was trained.

    `features`: the columns, in order. `templates`: versions by op and name. `targets`: backend,
    device and arch. `workloads`: how many of each op. `records`: how many, `digest`: of them all
    (SHA-256). `judged`: by op, and by what was held out: "workload" or "device". `sha256`: of the
    trees, so that damage is seen before anything reads them.
    """

    features: tuple[str, ...]
    templates: Mapping[str, Mapping[str, int]]
    targets: tuple[tuple[str, str, str], ...]
    workloads: Mapping[str, int]
    records: int
    digest: str
    made_by: str
    rounds: int
    judged: Mapping[str, Mapping[str, Judged]] = field(default_factory=dict)
    sha256: str = ""

    def knows(self, target: Target) -> bool:
        return (target.backend, target.device, target.arch) in self.targets

    def why_not(self, workload: Workload, target: Target) -> str:
        """Why this model should not be asked about the workload on the target; `""`: it may."""
        judged = self.judged.get(workload.op)
        if judged is None:
            return f"it knows nothing of {workload.op}"
        unseen = self._unseen_dtypes(workload)
        if unseen:
            return f"it was trained on no {workload.op} with {' and '.join(unseen)}"
        held_out = "workload" if self.knows(target) else "device"
        found = judged.get(held_out)
        if found is None:
            return f"it was not judged on a {held_out} that it had not seen"
        if not found.helps:
            return (
                f"on a {held_out} that it had not seen its choices were hardly better than random"
            )
        return ""

    def _unseen_dtypes(self, workload: Workload) -> list[str]:
        return [
            f"{name}={value}"
            for name, value in filled(workload).items()
            if str(value) in DTYPES and f"workload.{name}={value}" not in self.features
        ]

    def why_outdated(self, find_template: FindTemplate) -> str:
        """Which template changed since; `""`: none."""
        for op, templates in self.templates.items():
            for name, version in templates.items():
                try:
                    present = find_template(op, name).version
                except InvalidInputError:
                    return f"its template {name} of {op} is not known here"
                if present != version:
                    return f"template {name} of {op} is at version {present}, it knows {version}"
        return ""

    def to_line(self) -> bytes:
        text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)})
        return text.encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes, name: str) -> Header:
        """`InvalidInputError` for what is no header, or of another version."""
        data = _parsed(line)
        if data.get("format") != FORMAT:
            raise InvalidInputError(
                f"{name}: no cost model; name a file that `autotune model train` wrote"
            )
        if data.get("version") != VERSION:
            raise InvalidInputError(
                f"{name}: version {data.get('version')} of the format, this autotune reads "
                f"{VERSION}; train it again: autotune model train"
            )
        try:
            return cls._from_json(data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{name}: its header is damaged ({error}); train it again"
            ) from error

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Header:
        judged = {
            op: {held_out: Judged(**each) for held_out, each in found.items()}
            for op, found in data["judged"].items()
        }
        return cls(
            features=tuple(map(str, data["features"])),
            templates={op: dict(each) for op, each in data["templates"].items()},
            targets=tuple((str(a), str(b), str(c)) for a, b, c in data["targets"]),
            workloads=dict(data["workloads"]),
            records=int(data["records"]),
            digest=str(data["digest"]),
            made_by=str(data["made_by"]),
            rounds=int(data["rounds"]),
            judged=judged,
            sha256=str(data["sha256"]),
        )


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
