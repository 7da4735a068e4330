"""What worker processes are asked to do. Each task carries the op, which a user may have added."""

from __future__ import annotations

import time
from dataclasses import dataclass

from autotune.backends.base import Backend
from autotune.measure import Announce, Phase, measure_one, race
from autotune.problem_files import ProblemFiles
from autotune.problems import keep_in
from autotune.runners import Job
from autotune.timing import TimingPlan
from records.errors import DeviceError
from records.measurement import Measurement
from search_spaces import registry
from search_spaces.kernel import KernelSource
from search_spaces.op import Op


@dataclass(frozen=True)
class Compiled:
    """`binary` is `None` where `error` says why. `compile_s`: seconds the compiler took."""

    binary: bytes | None
    error: str = ""
    compile_s: float = 0.0


@dataclass(frozen=True)
class CompileTask:
    source: KernelSource

    def __call__(self, backend: Backend, announce: Announce) -> Compiled:
        announce(Phase.COMPILING)
        started_s = time.perf_counter()
        try:
            binary, error = backend.compile(self.source), ""
        except DeviceError as refusal:
            binary, error = None, str(refusal)
        return Compiled(binary, error, time.perf_counter() - started_s)


@dataclass(frozen=True)
class MeasureTask:
    op: Op
    job: Job
    binary: bytes
    plan: TimingPlan
    problem_files: ProblemFiles | None = None

    def __call__(self, backend: Backend, announce: Announce) -> Measurement:
        registry.OPS.setdefault(self.op.name, self.op)
        keep_in(self.problem_files)
        return measure_one(backend, self.job, self.binary, self.plan, announce=announce)


@dataclass(frozen=True)
class RaceTask:
    ops: tuple[Op, ...]
    entries: tuple[tuple[Job, bytes], ...]
    plan: TimingPlan
    rounds: int
    problem_files: ProblemFiles | None = None

    def __call__(self, backend: Backend, announce: Announce) -> dict[int, Measurement]:
        keep_in(self.problem_files)
        for op in self.ops:
            registry.OPS.setdefault(op.name, op)
        return race(backend, self.entries, self.plan, self.rounds, announce=announce)
