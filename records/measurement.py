"""What the device said: a status, and times where there are any."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from records import fields
from records.canonical import Items, canonical_json, freeze


class Status(StrEnum):
    """How a trial ended. Everything but `OK` is a result too, with its reason kept."""

    OK = "ok"
    INVALID = "invalid"  # breaks a constraint, or the device's limits; never compiled
    COMPILE_ERROR = "compile_error"  # the compiler refused it, crashed or took too long
    LAUNCH_ERROR = "launch_error"  # the driver refused the launch
    WRONG_RESULT = "wrong_result"  # an element is off, or a guard band was written
    TIMEOUT = "timeout"  # had to be killed
    CRASHED = "crashed"  # took its process, or its context, down


@dataclass(frozen=True)
class Measurement:
    """The outcome of one trial.

    `times_s`: seconds of each timed run of the whole computation (all launches), in order;
    positive and at least one if ok, none for a failure (`ValueError` otherwise).
    `error`: the reason of a failure, kept as the compiler, driver or check gave it.
    `compile_s`: seconds the compiler took; 0.0 where it did not run.
    `details`: facts of this binary and run, such as registers, spill bytes, largest error,
    early drop. `environment`: the circumstances (driver, compiler, clocks, timing plan, our
    version): the same silicon under another environment must be measured again.
    """

    status: Status
    times_s: tuple[float, ...] = ()
    error: str = ""
    compile_s: float = 0.0
    details: Items = field(default=())
    environment: Items = field(default=())

    def __post_init__(self) -> None:
        if self.is_ok != bool(self.times_s) or not all(
            0.0 < time_s < math.inf for time_s in self.times_s
        ):
            raise ValueError(
                "an ok measurement needs positive finite times and a failure none, "
                f"got {self.status} with {self.times_s!r}"
            )

    @classmethod
    def ok(
        cls,
        times_s: tuple[float, ...],
        *,
        compile_s: float = 0.0,
        details: Mapping[str, object] | None = None,
        environment: Mapping[str, object] | None = None,
    ) -> Measurement:
        return cls(
            Status.OK, times_s, "", compile_s, _facts(details or {}), freeze(environment or {})
        )

    @classmethod
    def failed(
        cls,
        status: Status,
        error: str,
        *,
        compile_s: float = 0.0,
        details: Mapping[str, object] | None = None,
        environment: Mapping[str, object] | None = None,
    ) -> Measurement:
        return cls(status, (), error, compile_s, _facts(details or {}), freeze(environment or {}))

    @property
    def is_ok(self) -> bool:
        return self.status is Status.OK

    @cached_property
    def time_s(self) -> float | None:
        """Median of the timed runs, seconds; `None` for a failure: never a made-up time."""
        return statistics.median(self.times_s) if self.times_s else None

    def detail(self, name: str, default: Any = None) -> Any:
        return dict(self.details).get(name, default)

    @cached_property
    def environment_key(self) -> str:
        return canonical_json(dict(self.environment))

    def to_json(self) -> dict[str, Any]:
        return {
            "status": str(self.status),
            "times_s": list(self.times_s),
            "error": self.error,
            "compile_s": self.compile_s,
            "details": dict(self.details),
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        return cls(
            Status(fields.text(data, "status")),
            fields.numbers(data, "times_s"),
            fields.text(data, "error"),
            fields.number(data, "compile_s"),
            freeze(fields.mapping(data, "details")),
            freeze(fields.mapping(data, "environment")),
        )


def _facts(details: Mapping[str, object]) -> Items:
    """Frozen details. A largest error may be infinite or NaN: kept as text, JSON has neither."""
    return freeze(
        {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in details.items()
        }
    )
