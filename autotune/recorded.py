"""Search spaces that were measured whole and published: they stand in for a device.

The format is JSON (or `.json.gz`) with `params` (name to list of legal values), `configs` (every
measured configuration, values in the order of `params`), `time_ms` (milliseconds of each, null
for a failure) and optionally `status` (index to kind of failure), `kernel`, `device`.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from records.canonical import Scalar
from records.errors import InvalidInputError
from records.measurement import Measurement, Status
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.kernel import KernelStats

_FAILURES = (("compil", Status.COMPILE_ERROR), ("timeout", Status.TIMEOUT))
_CROSSOVER_TRIES = 8


class RecordedSpace:
    """A published space: a search space of listed schedules, and what each of them measured.

    Its single template is named after the kernel. It keeps no state between searches.
    """

    version = 1

    def __init__(
        self,
        kernel: str,
        device: str,
        params: Mapping[str, Sequence[Scalar]],
        measurements: Mapping[tuple[Scalar, ...], Measurement],
    ) -> None:
        self.template = kernel
        self.workload = Workload.of(kernel, {})
        self.target = Target.of("recorded", device, device, {})
        self._params = [tuple(values) for values in params.values()]
        self._schedules = {
            config: Schedule.of(kernel, self.version, dict(zip(params, config, strict=True)))
            for config in measurements
        }
        self._configs = {schedule: config for config, schedule in self._schedules.items()}
        self._measurements = dict(zip(self._configs, measurements.values(), strict=True))
        self._order = list(self._configs)

    @classmethod
    def load(cls, path: str | Path) -> RecordedSpace:
        """Read a file; `InvalidInputError` says what is wrong with one that cannot be used."""
        path = Path(path)
        opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
        with opened as file:
            data = json.load(file)
        missing = {"params", "configs", "time_ms"} - set(data)
        if missing:
            raise InvalidInputError(
                f"{path} is no recorded space: it lacks {', '.join(sorted(missing))}"
            )
        if len(data["configs"]) != len(data["time_ms"]):
            raise InvalidInputError(
                f"{path}: {len(data['configs'])} configurations need as many times, "
                f"found {len(data['time_ms'])} times"
            )
        return cls(
            data.get("kernel", path.name),
            data.get("device", "unknown"),
            data["params"],
            dict(_read_measurements(data)),
        )

    @property
    def spaces(self) -> Sequence[RecordedSpace]:
        return (self,)

    def space_of(self, schedule: Schedule) -> RecordedSpace:
        return self

    @property
    def size(self) -> int:
        return len(self._order)

    def at(self, index: int) -> Schedule:
        return self._order[index]

    def __contains__(self, schedule: object) -> bool:
        return schedule in self._measurements

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._order)

    def sample(self, n: int, rng: np.random.Generator) -> list[Schedule]:
        picks = rng.choice(self.size, size=min(n, self.size), replace=False, shuffle=True)
        return [self._order[pick] for pick in picks]

    def neighbours(self, schedule: Schedule) -> list[Schedule]:
        return [
            changed
            for place in range(len(self._params))
            for changed in self._with_another(schedule, place)
        ]

    def mutate(self, schedule: Schedule, rng: np.random.Generator) -> Schedule:
        """Another value for one knob, or the schedule itself where no knob can change alone."""
        for place in rng.permutation(len(self._params)).tolist():
            changed = self._with_another(schedule, place)
            if changed:
                return changed[int(rng.integers(len(changed)))]
        return schedule

    def crossover(self, a: Schedule, b: Schedule, rng: np.random.Generator) -> Schedule:
        """Each knob from either parent; the first parent where no legal mix was met."""
        first, second = self._configs[a], self._configs[b]
        for picks in (rng.random((_CROSSOVER_TRIES, len(first))) < 0.5).tolist():
            pairs = zip(picks, first, second, strict=True)
            child = tuple(mine if pick else other for pick, mine, other in pairs)
            if child in self._schedules and child not in (first, second):
                return self._schedules[child]
        return a

    def measure(self, schedule: Schedule) -> Measurement:
        """What was recorded; `InvalidInputError` for a schedule that was never measured."""
        try:
            return self._measurements[schedule]
        except KeyError:
            raise InvalidInputError(f"no recorded measurement of {schedule}") from None

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        """Nothing is known of a recorded kernel but its knobs."""
        return KernelStats()

    @cached_property
    def optimum_s(self) -> float:
        """Seconds of the fastest recorded schedule."""
        times = (measurement.time_s for measurement in self._measurements.values())
        return min((time_s for time_s in times if time_s is not None), default=math.inf)

    def _with_another(self, schedule: Schedule, place: int) -> list[Schedule]:
        config = self._configs[schedule]
        before, after = config[:place], config[place + 1 :]
        others = ((*before, value, *after) for value in self._params[place])
        return [
            self._schedules[each] for each in others if each != config and each in self._schedules
        ]


def _read_measurements(
    data: Mapping[str, Any],
) -> Iterator[tuple[tuple[Scalar, ...], Measurement]]:
    kinds = data.get("status") or {}
    for place, (config, time_ms) in enumerate(zip(data["configs"], data["time_ms"], strict=True)):
        if time_ms is None:
            yield tuple(config), _failure(str(kinds.get(str(place), "failed")))
        else:
            yield tuple(config), Measurement.ok((time_ms * 1e-3,))


def _failure(kind: str) -> Measurement:
    for word, status in _FAILURES:
        if word in kind.lower():
            return Measurement.failed(status, kind)
    return Measurement.failed(Status.LAUNCH_ERROR, kind)
