"""A search space: knobs, constraints with reasons, and exact questions about both."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from records.canonical import Scalar
from records.errors import InvalidInputError
from records.schedule import Schedule
from search_spaces import diagnosis, moves
from search_spaces.assignments import Assignments
from search_spaces.constraints import Constraint
from search_spaces.diagram import Ints
from search_spaces.knobs import Knob, boolean, choice, power_of_two, split
from search_spaces.relation import Relation
from search_spaces.sampling import distinct_indices

__all__ = ["Constraint", "Knob", "SearchSpace", "boolean", "choice", "power_of_two", "split"]

_PAGE = 4096  # schedules unranked at a time when iterating


@dataclass(frozen=True, init=False, eq=False, repr=False)
class SearchSpace:
    """Every legal schedule of one template for one workload on one target.

    Immutable. Building one is free; the first question that needs the legal schedules as a whole
    (all but `in`, `violations` of complete values and `encode`) builds a decision diagram of
    them. That calls each constraint at most once for each combination of its own knobs,
    whatever the product of all knobs is. A space without knobs has one schedule. Pickles if its
    constraints do; the diagram is left behind.

    Raises `InvalidInputError` for two knobs of one name and for constraints over unknown knobs;
    later, for a constraint that raises.
    """

    template: str
    version: int
    knobs: tuple[Knob, ...]
    constraints: tuple[Constraint, ...]

    def __init__(
        self, template: str, version: int, knobs: Sequence[Knob], constraints: Sequence[Constraint]
    ) -> None:
        object.__setattr__(self, "template", template)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "knobs", tuple(knobs))
        object.__setattr__(self, "constraints", tuple(constraints))
        if len(self._places) < len(self.knobs):
            raise InvalidInputError(f"space of {template!r} has two knobs of one name")
        for constraint in self.constraints:
            unknown = [name for name in constraint.knobs if name not in self._places]
            if unknown:
                raise InvalidInputError(
                    f"constraint {constraint.reason!r} reads unknown knobs {', '.join(unknown)}; "
                    f"space of {template!r} has: {', '.join(self._places)}"
                )

    def __reduce__(self) -> tuple[type[SearchSpace], tuple[Any, ...]]:
        return type(self), (self.template, self.version, self.knobs, self.constraints)

    def __repr__(self) -> str:
        return (
            f"SearchSpace({self.template!r}, {self.version}, {len(self.knobs)} knobs, "
            f"{len(self.constraints)} constraints)"
        )

    @cached_property
    def _places(self) -> dict[str, int]:
        return {knob.name: at for at, knob in enumerate(self.knobs)}

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(len(knob.values) for knob in self.knobs)

    @cached_property
    def _relations(self) -> tuple[Relation, ...]:
        return tuple(Relation(constraint, self.knobs) for constraint in self.constraints)

    @cached_property
    def _legal(self) -> Assignments:
        return Assignments.of(self._sizes, self._relations)

    # Size and order

    @property
    def product(self) -> int:
        """How many combinations there are before constraints."""
        return math.prod(self._sizes)

    @property
    def size(self) -> int:
        """The exact number of legal schedules."""
        return self._legal.size

    def __len__(self) -> int:
        """As `size`; Python raises `OverflowError` above `sys.maxsize`."""
        return self.size

    def __bool__(self) -> bool:
        return self.size > 0

    def at(self, index: int) -> Schedule:
        """The schedule at `index` in the fixed order of iteration, 0 <= index < size.

        The order follows from knobs and constraints alone and is the same in every process, but
        another version of this package may choose another: store schedules, not indices.
        """
        return self.take([index])[0]

    def take(self, indices: Sequence[int]) -> list[Schedule]:
        """The schedules at `indices`; far cheaper than as many calls of `at`."""
        if len(indices) == 0:
            return []
        for index in (min(indices), max(indices)):
            if not 0 <= index < self.size:
                raise IndexError(f"index {index} is outside a space of {self.size} schedules")
        return self._schedules(self._legal.unrank(indices))

    def index(self, schedule: Schedule) -> int:
        """Inverse of `at`; `InvalidInputError` for a schedule that is not in the space."""
        return self._legal.rank(self._positions(schedule))

    def __iter__(self) -> Iterator[Schedule]:
        for start in range(0, self.size, _PAGE):
            page = np.arange(start, min(start + _PAGE, self.size))
            yield from self._schedules(self._legal.unrank(page))

    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]:
        """min(n, size) different schedules, uniform, in random order."""
        return self.take(distinct_indices(self.size, n, rng))

    # Membership

    def __contains__(self, schedule: object) -> bool:
        return isinstance(schedule, Schedule) and not self._objections(schedule)

    def violations(self, values: Mapping[str, Any]) -> list[str]:
        """What stands against `values`, in words; empty if they are legal.

        Names unknown knobs, values that are not legal (with those that are), and the reasons of
        broken constraints. If some knobs are left out and nothing else is wrong, says why no
        schedule has these values, if none has.
        """
        messages, known = [], {}
        for name, value in values.items():
            if name not in self._places:
                messages.append(f"there is no knob {name!r}; knobs: {', '.join(self._places)}")
            elif self.knobs[self._places[name]].position(value) is None:
                listed = self.knobs[self._places[name]].listed
                messages.append(f"{name}={value} is not legal; legal values: {listed}")
            else:
                known[name] = value
        messages += [
            constraint.explain(known)
            for constraint in self.constraints
            if all(name in known for name in constraint.knobs)
            and not constraint.check(known[name] for name in constraint.knobs)
        ]
        if not messages and len(known) < len(self.knobs):
            return self.fixed(known).why_empty()
        return messages

    def _objections(self, schedule: Schedule) -> list[str]:
        if (schedule.template, schedule.version) != (self.template, self.version):
            return [
                f"it is of template {schedule.template}@{schedule.version}, "
                f"the space of {self.template}@{self.version}"
            ]
        missing = [name for name in self._places if name not in schedule.values]
        if missing:
            return [f"it has no value for {', '.join(missing)}"]
        return self.violations(schedule.values)

    def fixed(self, values: Mapping[str, Scalar]) -> SearchSpace:
        """The part of this space in which knobs named in `values` have that value."""
        knobs = []
        for knob in self.knobs:
            if knob.name in values and knob.position(values[knob.name]) is None:
                raise InvalidInputError("; ".join(self.violations(values)))
            chosen = (values[knob.name],) if knob.name in values else knob.values
            knobs.append(Knob(knob.name, chosen, knob.help))
        return SearchSpace(self.template, self.version, knobs, self.constraints)

    # Steps

    def neighbours(self, schedule: Schedule, *, repair: bool = False) -> list[Schedule]:
        """The legal schedules that differ from `schedule`, which must be legal, in one knob.

        With `repair`, also for each single change that is not legal by itself the nearest legal
        schedule that keeps it: fewest other knobs changed, then fewest steps along their values.
        """
        rows = moves.neighbours(self._legal, self._positions(schedule), self._sizes, repair)
        return [self._schedule(row) for row in rows]

    def mutate(self, schedule: Schedule, rng: np.random.Generator) -> Schedule:
        """One random knob set to another random value, and what must follow for it to be legal.

        Gives a legal schedule other than `schedule`, unless that is the only one.
        """
        row = moves.mutated(self._legal, self._positions(schedule), self._sizes, rng)
        return self._schedule(row)

    def crossover(self, a: Schedule, b: Schedule, rng: np.random.Generator) -> Schedule:
        """A legal schedule with each knob's value from `a` or from `b`, both legal."""
        pair = self._positions(a), self._positions(b)
        return self._schedule(moves.crossed(self._legal, *pair, self._sizes, rng))

    def nearest(self, values: Mapping[str, Any], keep: Collection[str] = ()) -> Schedule | None:
        """The legal schedule nearest to `values` that has those of the knobs in `keep`.

        Nearest: fewest knobs changed, then fewest steps along their values. Knobs left out, and
        values that are not a knob's, may become anything. `None` if no legal schedule has the
        kept values.
        """
        costs = []
        for knob, size in zip(self.knobs, self._sizes, strict=True):
            position = knob.position(values[knob.name]) if knob.name in values else None
            if position is None and knob.name in keep:
                return None
            if position is None:
                costs.append(np.zeros(size, dtype=np.int64))
            elif knob.name in keep:
                costs.append(moves.only(position, size))
            else:
                costs.append(moves.distance(position, size))
        row = self._legal.cheapest(costs)
        return None if row is None else self._schedule(row)

    # Numbers

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """What each column of `encode` holds: knobs in order, see `Knob.codes`."""
        return tuple(name for knob in self.knobs for name in knob.column_names)

    def encode(self, schedules: Sequence[Schedule]) -> npt.NDArray[np.float32]:
        """Schedules as rows of numbers, shape (schedules, column_names).

        They need legal values for all knobs, but may break constraints.
        """
        rows = np.array([self._places_of(schedule) for schedule in schedules], dtype=np.int64)
        rows = rows.reshape(len(schedules), len(self.knobs))
        blocks = [knob.codes[rows[:, at]] for at, knob in enumerate(self.knobs)]
        return np.hstack([np.empty((len(schedules), 0), dtype=np.float32), *blocks])

    # Constraints

    def removed(self) -> list[tuple[Constraint, int]]:
        """For each constraint, how many combinations of the whole product it removes by itself.

        Calls each constraint for every combination of its own knobs not asked before;
        `InvalidInputError` where those are too many.
        """
        return diagnosis.removed_by_each(self._relations, self.product)

    def removed_only(self) -> list[tuple[Constraint, int]]:
        """For each constraint, how many schedules it removes that no other one does.

        Costs a diagram for each constraint: about as many times as long as `size` the first time.
        """
        return diagnosis.removed_only_by(self._relations, self._sizes, self.size)

    def why_empty(self) -> list[str]:
        """If nothing is legal, the constraints that make it so, in words; else `[]`.

        Names every constraint that no combination meets, or else some that contradict each
        other and would not without any one of them.
        """
        if self.size > 0:
            return []
        known = {knob.name: knob.values[0] for knob in self.knobs if len(knob.values) == 1}
        return diagnosis.contradiction(self._relations, self._sizes, known)

    # Between schedules and positions

    @cached_property
    def _pairs(self) -> list[tuple[int, npt.NDArray[Any]]]:
        """The place and the (name, value) pairs of each knob, in the order of names."""
        return [
            (at, _objects([(name, value) for value in self.knobs[at].values]))
            for name, at in sorted(self._places.items())
        ]

    def _schedules(self, rows: Ints) -> list[Schedule]:
        """A column at a time; schedules share their pairs."""
        columns = [pairs[rows[:, at]].tolist() for at, pairs in self._pairs]
        chosen = zip(*columns, strict=True) if columns else repeat((), len(rows))
        return list(map(Schedule, repeat(self.template), repeat(self.version), chosen))

    def _schedule(self, row: Ints) -> Schedule:
        at = row.tolist()
        knobs = tuple(pairs[at[place]] for place, pairs in self._pairs)
        return Schedule(self.template, self.version, knobs)

    def _positions(self, schedule: Schedule) -> Ints:
        objections = self._objections(schedule)
        if objections:
            raise InvalidInputError(f"{schedule} is not in the space: {'; '.join(objections)}")
        return np.array(self._places_of(schedule), dtype=np.int64)

    def _places_of(self, schedule: Schedule) -> list[int]:
        positions = [knob.position(schedule.values.get(knob.name)) for knob in self.knobs]
        legal = [position for position in positions if position is not None]
        if len(legal) < len(positions):
            raise InvalidInputError(
                f"{schedule} cannot be encoded: {'; '.join(self._objections(schedule))}"
            )
        return legal


def _objects(values: Sequence[tuple[str, Scalar]]) -> npt.NDArray[Any]:
    """As they are: numpy would make two columns of pairs."""
    objects = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        objects[at] = value
    return objects
