"""What a strategy asks of the space it searches; `search_spaces.union.UnionSpace` is one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from records.schedule import Schedule
from search_spaces.knobs import Knob


class Region(Protocol):
    """The legal schedules of one template. `nearest` as of `search_spaces.space.SearchSpace`."""

    @property
    def template(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def knobs(self) -> Sequence[Knob]: ...

    @property
    def size(self) -> int: ...

    def __contains__(self, schedule: object) -> bool: ...

    def __iter__(self) -> Iterator[Schedule]: ...

    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]: ...

    def nearest(self, values: Mapping[str, Any], keep: Collection[str] = ()) -> Schedule | None: ...


class SearchableSpace(Protocol):
    """Several templates' schedules as one space.

    `sample` gives at most `n` distinct schedules, uniformly; `space_of` the region of a schedule's
    template; `neighbours` the legal schedules that differ in one knob, with `repair` also those
    that change others too, for one to be legal; `mutate` and `crossover` give legal schedules,
    perhaps a parent.
    """

    @property
    def spaces(self) -> Sequence[Region]: ...

    @property
    def size(self) -> int: ...

    def __contains__(self, schedule: object) -> bool: ...

    def __iter__(self) -> Iterator[Schedule]: ...

    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]: ...

    def space_of(self, schedule: Schedule) -> Region: ...

    def neighbours(self, schedule: Schedule, *, repair: bool = False) -> list[Schedule]: ...

    def mutate(self, schedule: Schedule, rng: np.random.Generator) -> Schedule: ...

    def crossover(self, a: Schedule, b: Schedule, rng: np.random.Generator) -> Schedule: ...
