"""What a search has asked and been told: the memory that all strategies share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement
from records.schedule import Schedule


class History:
    """Schedules asked or told, and the times that came back.

    A failure is a result without a time; it sorts behind every success.
    """

    def __init__(self, space: SearchableSpace) -> None:
        self._space = space
        self._seen: set[Schedule] = set()  # asked or told, inside the space
        self._seen_of: Counter[str] = Counter()  # the same, by template
        self._times_s: dict[Schedule, float] = {}

    def __contains__(self, schedule: object) -> bool:
        return schedule in self._seen

    def __len__(self) -> int:
        """How many schedules of the space were asked or told."""
        return len(self._seen)

    @property
    def told(self) -> int:
        return len(self._times_s)

    @property
    def left(self) -> int:
        """How many schedules of the space were neither asked nor told."""
        return self._space.size - len(self._seen)

    def seen_of(self, template: str) -> int:
        """How many schedules of one template were asked or told."""
        return self._seen_of[template]

    def mark(self, schedules: Iterable[Schedule]) -> None:
        for schedule in schedules:
            if schedule not in self._seen:
                self._seen.add(schedule)
                self._seen_of[schedule.template] += 1

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        """Take a result; one from outside the space (an older version's) is ignored."""
        if schedule not in self._seen and schedule not in self._space:
            return
        self.mark([schedule])
        time_s = measurement.time_s
        self._times_s[schedule] = math.inf if time_s is None else time_s

    def is_told(self, schedule: Schedule) -> bool:
        return schedule in self._times_s

    def time_s(self, schedule: Schedule) -> float:
        """Seconds; infinite for a failure, or where nothing was told."""
        return self._times_s.get(schedule, math.inf)

    def best(self, n: int) -> list[Schedule]:
        """The `n` fastest schedules that worked, fastest first; equal times by age."""
        worked = [item for item in self._times_s.items() if math.isfinite(item[1])]
        worked.sort(key=lambda item: item[1])
        return [schedule for schedule, _ in worked[:n]]

    def results(self) -> list[tuple[Schedule, float]]:
        """Every result in the order told: schedule and seconds (infinite for a failure)."""
        return list(self._times_s.items())
