"""A search space: knobs, constraints with reasons, and exact questions about both.

Placeholder of the interface; the owner of this file keeps these names and signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from records.canonical import Scalar
from records.schedule import Schedule


@dataclass(frozen=True)
class Knob:
    """A named choice. `values` are legal values in order; `help` says what it does, one line."""

    name: str
    values: tuple[Scalar, ...]
    help: str = ""


def choice(name: str, values: Sequence[Scalar], help: str = "") -> Knob: ...
def boolean(name: str, help: str = "") -> Knob: ...
def power_of_two(name: str, low: int, high: int, help: str = "") -> Knob: ...
def split(name: str, extent: int, help: str = "", low: int = 1, high: int | None = None) -> Knob:
    """Divisors of `extent` between `low` and `high`."""


@dataclass(frozen=True)
class Constraint:
    """A rule over some knobs with its physical reason in words.

    `holds(*values)` takes the values of `knobs`, in that order. `reason` is a sentence; it may
    hold `{knob}` fields filled from the schedule.
    """

    knobs: tuple[str, ...]
    holds: Callable[..., bool]
    reason: str


class SearchSpace:
    """Every legal schedule of one template for one workload on one target."""

    def __init__(
        self, template: str, version: int, knobs: Sequence[Knob], constraints: Sequence[Constraint]
    ) -> None: ...

    template: str
    version: int
    knobs: tuple[Knob, ...]
    constraints: tuple[Constraint, ...]

    @property
    def product(self) -> int: ...  # size before constraints
    def __len__(self) -> int: ...  # exact number of legal schedules
    @property
    def size(self) -> int: ...  # the same, also above sys.maxsize
    def __contains__(self, schedule: object) -> bool: ...
    def __iter__(self) -> Iterator[Schedule]: ...  # lazily, in a fixed order
    def at(self, index: int) -> Schedule: ...  # unrank, 0 <= index < size
    def index(self, schedule: Schedule) -> int: ...  # rank
    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]: ...  # distinct, uniform
    def neighbours(self, schedule: Schedule) -> list[Schedule]: ...  # legal, one knob changed
    def mutate(self, schedule: Schedule, rng: np.random.Generator) -> Schedule: ...
    def crossover(self, a: Schedule, b: Schedule, rng: np.random.Generator) -> Schedule: ...
    def encode(self, schedules: Sequence[Schedule]) -> npt.NDArray[np.float32]: ...
    def violations(self, values: Mapping[str, Any]) -> list[str]: ...  # reasons in words
    def removed(self) -> list[tuple[Constraint, int]]: ...  # schedules that each one removes
