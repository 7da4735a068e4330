"""The seam between an algorithm and everything that tunes it."""

from __future__ import annotations

from typing import Protocol

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats
from search_spaces.space import SearchSpace


class Template(Protocol):
    """One algorithm for one op: knobs, constraints, statistics and kernel text.

    All methods are pure and cheap (no device, no files beyond the kernel's own text): the same
    arguments give equal results in every process. `version` rises whenever the same knobs would
    render another text, so that old records are never taken for new ones.

    `rejects(workload, target)` is `""`, or the reason in words why this template does not serve
    this workload there; the other methods may be called only where it is `""`.
    `space(workload, target)` holds every legal schedule; each constraint carries its reason.
    `stats(workload, schedule, target)` and `render(workload, schedule, dialect)` take schedules
    that the space contains. `dialects` names those that `render` knows.
    """

    @property
    def op(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def dialects(self) -> tuple[str, ...]: ...

    def rejects(self, workload: Workload, target: Target) -> str: ...

    def space(self, workload: Workload, target: Target) -> SearchSpace: ...

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats: ...

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource: ...
