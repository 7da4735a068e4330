"""Search spaces that were measured whole: they stand in for a device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cost_model.table import StatsSource
from records.canonical import Scalar
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.expressions import constraint
from search_spaces.kernel import KernelStats
from search_spaces.knobs import Knob
from search_spaces.listed import ListedSpace, listed_space
from search_spaces.quantities import Quantity, computed_by
from search_spaces.space import SearchSpace
from search_spaces.union import UnionSpace

VERSION = 1
"""Of the template that a recording from elsewhere is said to be of."""


@dataclass(frozen=True, init=False, eq=False, repr=False)
class RecordedSpace(UnionSpace):
    """A workload's schedules on a target as one search space, and what each of them measured.

    `spaces` hold exactly the schedules of `measurements`, which keep the order in which they were
    read. `name` tells it from other recordings; `quantities` are what the rules of its kernel
    compute. It keeps no state between searches.
    """

    name: str
    workload: Workload
    target: Target
    measurements: Mapping[Schedule, Measurement]
    quantities: tuple[Quantity, ...]

    def __init__(
        self,
        name: str,
        workload: Workload,
        target: Target,
        spaces: Sequence[SearchSpace],
        measurements: Mapping[Schedule, Measurement],
        quantities: Sequence[Quantity] = (),
    ) -> None:
        super().__init__(spaces)
        object.__setattr__(self, "quantities", tuple(quantities))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "workload", workload)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "measurements", measurements)
        if math.isinf(self.optimum_s):
            raise InvalidInputError(
                f"{name}: none of {len(measurements):,} schedules worked; need one that did"
            )

    def __repr__(self) -> str:
        return f"RecordedSpace({self.name!r}, {self.size:,} schedules)"

    @classmethod
    def load(cls, path: str | Path) -> RecordedSpace:
        """The only recording in a file of any format of `autotune.recordings.FORMATS`."""
        from autotune.recordings import read

        found = read(path)
        if len(found) > 1:
            raise InvalidInputError(
                f"{path}: it has {len(found)} recordings, need one; `autotune.recordings.read` "
                "gives them all"
            )
        return found[0]

    def measure(self, schedule: Schedule) -> Measurement:
        """What was recorded; `InvalidInputError` for a schedule that was never measured."""
        try:
            return self.measurements[schedule]
        except KeyError:
            raise InvalidInputError(f"no recorded measurement of {schedule}") from None

    def __contains__(self, schedule: object) -> bool:
        return schedule in self.measurements

    @property
    def version(self) -> int:
        """Of the templates that only this recording knows."""
        return max(space.version for space in self.spaces)

    def find_template(self, op: str, name: str) -> StatsSource:
        """What a cost model asks for a schedule's statistics: the template, if it is here."""
        try:
            template = registry.template(op, name)
        except InvalidInputError:
            return self
        recorded = {space.version for space in self.spaces if space.template == name}
        return template if template.version in recorded else self

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        """Nothing is known of a recorded kernel but its knobs."""
        return KernelStats()

    @cached_property
    def optimum_s(self) -> float:
        """Seconds of the fastest recorded schedule."""
        times = (measurement.time_s for measurement in self.measurements.values())
        return min((time_s for time_s in times if time_s is not None), default=math.inf)


def from_table(
    kernel: str,
    device: str,
    params: Mapping[str, Sequence[Scalar]],
    measured: Iterable[tuple[Sequence[Scalar], Measurement]],
    restrictions: Sequence[str] = (),
    sizes: Sequence[int] = (),
) -> RecordedSpace:
    """A recording from elsewhere, of one kernel: configurations in the order of `params`.

    Of a configuration that is there twice the last counts. `sizes` are those of the problem,
    `size_0` and so on of the workload.

    The space is that of the restrictions (Python expressions) if they allow exactly what was
    measured, so that it is walked as it was meant; else the list of what was measured.
    """
    knobs = [Knob(name, tuple(values)) for name, values in params.items()]
    names = [knob.name for knob in knobs]
    legal = [{value: value for value in knob.values} for knob in knobs]
    rows, measurements = {}, {}
    for values, measurement in measured:
        row = _as_listed(values, legal)
        schedule = Schedule.of(kernel, VERSION, dict(zip(names, row, strict=True)))
        rows[row] = measurements[schedule] = measurement
    listed = ListedSpace(kernel, VERSION, knobs, rows)
    space = _restricted(kernel, knobs, restrictions, measurements) or listed
    workload = Workload.of(kernel, {f"size_{at}": size for at, size in enumerate(sizes)})
    name = f"{workload if sizes else kernel} on {device}"
    target = Target.of("recorded", device, device, {})
    computed = computed_by(restrictions, names)
    return RecordedSpace(name, workload, target, [space], measurements, computed)


def _as_listed(
    values: Sequence[Scalar], legal: Sequence[Mapping[Scalar, Scalar]]
) -> tuple[Scalar, ...]:
    """Values as the parameters list them: 1 where a file has 1.0 or true for it."""
    if len(values) != len(legal):
        raise InvalidInputError(f"need {len(legal)} values, got {list(values)}")
    return tuple(known.get(value, value) for value, known in zip(values, legal, strict=True))


def _restricted(
    kernel: str,
    knobs: Sequence[Knob],
    restrictions: Sequence[str],
    measurements: Mapping[Schedule, Measurement],
) -> SearchSpace | None:
    if not restrictions and math.prod(len(knob.values) for knob in knobs) > len(measurements):
        return None
    names = [knob.name for knob in knobs]
    rules = [constraint(expression, names) for expression in restrictions]
    space = SearchSpace(kernel, VERSION, knobs, rules)
    same = space.size == len(measurements) and all(each in measurements for each in space)
    return space if same else None


def from_records(
    workload: Workload, target: Target, measurements: Mapping[Schedule, Measurement]
) -> RecordedSpace:
    """A recording of ours: the schedules that were measured, a list for each template."""
    by_template: dict[tuple[str, int], list[Schedule]] = {}
    for schedule in measurements:
        by_template.setdefault((schedule.template, schedule.version), []).append(schedule)
    spaces = [listed_space(schedules) for schedules in by_template.values()]
    name = f"{workload} on {target.device}"
    return RecordedSpace(name, workload, target, spaces, measurements)
