"""Several search spaces as one: everything the templates of an op offer for a workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

import numpy as np
import numpy.typing as npt

from records.errors import InvalidInputError
from records.schedule import Schedule
from search_spaces.sampling import distinct_indices
from search_spaces.space import SearchSpace


@dataclass(frozen=True, init=False, eq=False)
class UnionSpace:
    """The schedules of all `spaces`, one template each; indices follow their order.

    Immutable, and as lazy as its spaces. Methods that take a schedule raise `InvalidInputError`
    if its template is none of these.
    """

    spaces: tuple[SearchSpace, ...]

    def __init__(self, spaces: Sequence[SearchSpace]) -> None:
        object.__setattr__(self, "spaces", tuple(spaces))
        if len(self._by_template) < len(self.spaces):
            raise InvalidInputError("a union needs spaces of different templates")

    @cached_property
    def _by_template(self) -> dict[tuple[str, int], int]:
        return {(space.template, space.version): at for at, space in enumerate(self.spaces)}

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """Index of each space's first schedule, and the size of the union."""
        return tuple(accumulate((space.size for space in self.spaces), initial=0))

    @property
    def size(self) -> int:
        """The exact number of legal schedules."""
        return self._starts[-1]

    def __len__(self) -> int:
        """As `size`; Python raises `OverflowError` above `sys.maxsize`."""
        return self.size

    def __bool__(self) -> bool:
        return self.size > 0

    def at(self, index: int) -> Schedule:
        """The schedule at `index` in the order of iteration, 0 <= index < size."""
        return self.take([index])[0]

    def take(self, indices: Sequence[int]) -> list[Schedule]:
        """The schedules at `indices`; far cheaper than as many calls of `at`."""
        for index in indices:
            if not 0 <= index < self.size:
                raise IndexError(f"index {index} is outside a union of {self.size} schedules")
        found: dict[int, Schedule] = {}
        for space, start in zip(self.spaces, self._starts, strict=False):
            inside = [index for index in indices if start <= index < start + space.size]
            taken = space.take([index - start for index in inside])
            found.update(zip(inside, taken, strict=True))
        return [found[index] for index in indices]

    def index(self, schedule: Schedule) -> int:
        """Inverse of `at`."""
        place = self._place(schedule)
        return self._starts[place] + self.spaces[place].index(schedule)

    def __iter__(self) -> Iterator[Schedule]:
        return chain.from_iterable(self.spaces)

    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]:
        """min(n, size) different schedules, uniform over the union, in random order."""
        return self.take(distinct_indices(self.size, n, rng))

    def space_of(self, schedule: Schedule) -> SearchSpace:
        """The space of the schedule's template, whether or not it holds the schedule."""
        return self.spaces[self._place(schedule)]

    def __contains__(self, schedule: object) -> bool:
        return any(schedule in space for space in self.spaces)

    def neighbours(self, schedule: Schedule, *, repair: bool = False) -> list[Schedule]:
        """Those within the schedule's template, see `SearchSpace.neighbours`."""
        return self.space_of(schedule).neighbours(schedule, repair=repair)

    def mutate(self, schedule: Schedule, rng: np.random.Generator) -> Schedule:
        """A legal change within the schedule's template, see `SearchSpace.mutate`."""
        return self.space_of(schedule).mutate(schedule, rng)

    def crossover(self, a: Schedule, b: Schedule, rng: np.random.Generator) -> Schedule:
        """A legal child of both; of parents with different templates, a mutation of `a`."""
        space = self.space_of(a)
        if self.space_of(b) is not space:
            return space.mutate(a, rng)
        return space.crossover(a, b, rng)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """What each column of `encode` holds: `template` one-hot, then each template's knobs."""
        hot = [f"template={space.template}@{space.version}" for space in self.spaces]
        knobs = [f"{space.template}.{name}" for space in self.spaces for name in space.column_names]
        return (*hot, *knobs)

    def encode(self, schedules: Sequence[Schedule]) -> npt.NDArray[np.float32]:
        """Schedules as rows, shape (schedules, column_names); other templates' knobs are 0."""
        places = np.array([self._place(schedule) for schedule in schedules], dtype=np.int64)
        encoded = np.zeros((len(schedules), len(self.column_names)), dtype=np.float32)
        encoded[np.arange(len(schedules)), places] = 1.0
        start = len(self.spaces)
        for place, space in enumerate(self.spaces):
            rows = np.flatnonzero(places == place).tolist()
            stop = start + len(space.column_names)
            encoded[rows, start:stop] = space.encode([schedules[row] for row in rows])
            start = stop
        return encoded

    def _place(self, schedule: Schedule) -> int:
        place = self._by_template.get((schedule.template, schedule.version))
        if place is None:
            known = ", ".join(f"{name}@{version}" for name, version in self._by_template)
            raise InvalidInputError(
                f"template {schedule.template}@{schedule.version} is not in this union; "
                f"there are: {known or 'none'}"
            )
        return place
