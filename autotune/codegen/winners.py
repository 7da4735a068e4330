"""From the database to the kernel text that won."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from records.canonical import Items
from records.errors import InvalidInputError, NotTunedError
from records.record import TuningRecord
from records.remedy import tune_command
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import CUDA, OPENCL, Dialect
from search_spaces.kernel import KernelSource

# What a target's device compiles; simulated devices pretend to be OpenCL ones.
_DIALECTS: dict[str, Dialect] = {"opencl": OPENCL, "cuda": CUDA, "sim": OPENCL}


class Match(Protocol):
    @property
    def record(self) -> TuningRecord: ...

    @property
    def how(self) -> str: ...


class Winners(Protocol):
    """What is asked of a database; `records.store.TuningDatabase` is one."""

    path: Path

    def best(
        self,
        workload: Workload,
        target: Target,
        *,
        environment: Items | None = None,
        accept: Callable[[Schedule], bool] | None = None,
    ) -> Match: ...

    def workloads(self) -> Iterable[Workload]: ...


class StaleWinnerError(InvalidInputError):
    """No record's kernel can be made again here; the message names the best, and the remedy."""


@dataclass(frozen=True)
class Winner:
    """A record and its kernel.

    `how` is the database's word for how well the record fits. `passed_over` says which faster
    record could not be made again, and why; `""` where this is the fastest of all.
    """

    record: TuningRecord
    how: str
    source: KernelSource
    passed_over: str = ""

    @property
    def time_s(self) -> float:
        time_s = self.record.measurement.time_s
        assert time_s is not None, "a winner was measured"
        return time_s

    @property
    def flops(self) -> float:
        return registry.op(self.record.workload.op).flops(self.record.workload)

    @property
    def options(self) -> tuple[str, ...]:
        """Flags of the source, and the language standard that it was measured under."""
        standard = dict(self.record.measurement.environment).get("compiler_options", "")
        if self.source.dialect != OPENCL.name or any("-cl-std" in o for o in self.source.options):
            return self.source.options
        return (*str(standard).split(), *self.source.options)


def dialect_of(backend: str) -> Dialect:
    """The kernel language of a target's backend."""
    try:
        return _DIALECTS[backend]
    except KeyError:
        raise InvalidInputError(
            f"no kernel language for backend {backend!r}; there are: {', '.join(_DIALECTS)}"
        ) from None


def winner(
    database: Winners,
    workload: Workload,
    target: Target,
    *,
    environment: Items | None = None,
) -> Winner:
    """The fastest record whose kernel can be made again exactly as it was measured.

    A record of an unknown template, or of another version of one, cannot: the same knobs would
    give another kernel, with another time. Raises `NotTunedError` where there is no record at
    all, `StaleWinnerError` where there is none but such ones.
    """
    dialect = dialect_of(target.backend)
    fastest = database.best(workload, target, environment=environment).record
    problem = why_outdated(workload, fastest.schedule, dialect)
    try:
        match = database.best(
            workload,
            target,
            environment=environment,
            accept=lambda schedule: not why_outdated(workload, schedule, dialect),
        )
    except NotTunedError:
        raise StaleWinnerError(
            f"{workload}: the best record, of {fastest.created_at}, cannot be made again: "
            f"{problem}; tune it again: {tune_command(workload, target, database.path)}"
        ) from None
    schedule = match.record.schedule
    source = registry.template(workload.op, schedule.template).render(workload, schedule, dialect)
    return Winner(match.record, match.how, source, problem)


def why_outdated(workload: Workload, schedule: Schedule, dialect: Dialect) -> str:
    """`""`, or why the schedule's kernel cannot be made here."""
    known = {template.name: template for template in registry.templates(workload.op)}
    template = known.get(schedule.template)
    if template is None:
        return f"template {schedule.template!r} is not registered"
    if template.version != schedule.version:
        return (
            f"template {schedule.template!r} is version {template.version} now, "
            f"the record has version {schedule.version}"
        )
    if dialect.name not in template.dialects:
        return f"template {schedule.template!r} has no {dialect.name} text"
    return ""
