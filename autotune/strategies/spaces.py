"""What a strategy asks of the space it searches; `search_spaces.union.UnionSpace` is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from records.schedule import Schedule


class Region(Protocol):
    """The legal schedules of one template."""

    @property
    def template(self) -> str: ...

    @property
    def size(self) -> int: ...

    def __contains__(self, schedule: object) -> bool: ...

    def __iter__(self) -> Iterator[Schedule]: ...

    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]: ...


class SearchableSpace(Protocol):
    """Several templates' schedules as one space.

    `sample` gives at most `n` distinct schedules, uniformly; `neighbours` the legal schedules
    that differ in one knob; `mutate` and `crossover` give legal schedules, perhaps a parent.
    """

    @property
    def spaces(self) -> Sequence[Region]: ...

    @property
    def size(self) -> int: ...

    def __contains__(self, schedule: object) -> bool: ...

    def __iter__(self) -> Iterator[Schedule]: ...

    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]: ...

    def neighbours(self, schedule: Schedule) -> list[Schedule]: ...

    def mutate(self, schedule: Schedule, rng: np.random.Generator) -> Schedule: ...

    def crossover(self, a: Schedule, b: Schedule, rng: np.random.Generator) -> Schedule: ...
