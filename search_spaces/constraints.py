"""Constraints: rules over some knobs, each with its physical reason in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from records.canonical import Scalar
from records.errors import InvalidInputError

_FIELD = re.compile(r"\{(\w+)(:[^{}]*)?\}")


@dataclass(frozen=True)
class Constraint:
    """A rule over some knobs with its physical reason in words.

    `holds(*values)` takes the values of `knobs`, in that order. It must be pure, for answers are
    remembered, and answer for all values of its knobs, also those that other constraints rule
    out (`tile % vector == 0` must not meet a zero). `reason` is a sentence; it may hold `{knob}`
    fields filled from the schedule.
    """

    knobs: tuple[str, ...]
    holds: Callable[..., bool]
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "knobs", tuple(self.knobs))
        if not self.knobs or len(set(self.knobs)) < len(self.knobs):
            raise InvalidInputError(
                f"constraint {self.reason!r} needs one or more different knobs, got {self.knobs}"
            )

    def check(self, arguments: Iterable[Scalar]) -> bool:
        """Whether it holds for values of `knobs`, in that order.

        An exception inside `holds` becomes an `InvalidInputError` that names this constraint.
        """
        values = tuple(arguments)
        try:
            return bool(self.holds(*values))
        except Exception as error:
            given = ", ".join(f"{k}={v}" for k, v in zip(self.knobs, values, strict=True))
            raise InvalidInputError(
                f"constraint {self.reason!r} cannot be evaluated for {given}: "
                f"{type(error).__name__}: {error}; make it total over its knobs' values"
            ) from error

    def explain(self, values: Mapping[str, object]) -> str:
        """`reason` with its `{knob}` fields filled from `values`; never raises.

        A field without a value becomes its bare name, so that `explain({})` states the rule.
        """

        def fill(field: re.Match[str]) -> str:
            name, layout = field[1], (field[2] or ":")[1:]
            if name not in values:
                return name
            try:
                return format(values[name], layout)
            except (TypeError, ValueError):
                return str(values[name])

        return _FIELD.sub(fill, self.reason)
