"""The seam to where trials happen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from autotune.timing import TimingPlan
from records.canonical import Items
from records.measurement import Measurement
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource


@dataclass(frozen=True)
class Job:
    """A schedule to try, already rendered; everything a worker process needs. Picklable."""

    workload: Workload
    schedule: Schedule
    source: KernelSource
    seed: int = 0  # of the random inputs


class Runner(Protocol):
    """Measures jobs on one device. No job, however broken, raises or outlives its timeout.

    `measure` yields every job once, in the order of completion, with its measurement; the next
    launch starts only when the caller asks for the next result, so a row can be written first.
    `race` measures finalists interleaved, round by round, and returns one measurement a job, in
    order. Both raise `DeviceError` only when the device itself is lost.
    """

    @property
    def target(self) -> Target: ...

    @property
    def dialect(self) -> Dialect: ...

    def environment(self, plan: TimingPlan) -> Items:
        """The circumstances that measurements under this plan will carry: what may be resumed."""

    def measure(
        self, jobs: Sequence[Job], plan: TimingPlan
    ) -> Iterator[tuple[Job, Measurement]]: ...

    def race(self, jobs: Sequence[Job], plan: TimingPlan, rounds: int) -> list[Measurement]: ...

    def close(self) -> None: ...
