"""A template for the addition op whose schedules fail on request, and a tuner in one process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autotune.api import make_proposer, search_space
from autotune.backends.simulated import SimulatedBackend
from autotune.proposer import Proposer
from autotune.runners import Job, Runner
from autotune.session import Clock, Context, Observer, SilentObserver, TuningOptions, TuningResult
from autotune.testing import addition
from autotune.testing.in_process import InProcessRunner
from autotune.timing import TimingPlan
from autotune.tuner import Tuner
from records import Measurement, Schedule, Target, Workload
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats
from search_spaces.space import Knob, SearchSpace, choice, power_of_two

PLAN = TimingPlan(
    warmup_s=0.0, launch_timeout_s=1.0, compile_timeout_s=1.0, budget_s=0.05, max_runs=6
)
WORKLOAD = addition.ADDITION.workload(n=256)


class Adder:
    """Implements `Template`. `failures`: legal values of a knob that asks for that failure."""

    op = "addition"
    dialects = ("opencl",)

    def __init__(
        self,
        failures: Sequence[str] = ("none",),
        *,
        name: str = "adder",
        version: int = 1,
        largest: int = 64,
        unrolls: Sequence[int] = (1, 2, 4),
    ) -> None:
        self.name, self.version = name, version
        self._knobs: list[Knob] = [
            power_of_two("tile", 1, largest),
            choice("unroll", unrolls),
            choice("failure", failures),
        ]

    def rejects(self, workload: Workload, target: Target) -> str:
        return ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        return SearchSpace(self.name, self.version, self._knobs, [])

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        return KernelStats(extra=(("tile", float(schedule["tile"])),))

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        source = addition.job(n=workload["n"]).source
        defines = {name.upper(): value for name, value in schedule.knobs if name != "failure"}
        if schedule["failure"] != "none":
            defines["SIMULATE_FAILURE"] = schedule["failure"]
        lines = "".join(f"#define {name} {value}\n" for name, value in defines.items())
        return replace(source, text=lines + source.text)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_TEMPLATES", list(registry._TEMPLATES))
    monkeypatch.setattr(registry, "OPS", dict(registry.OPS))
    addition.register()
    registry.register_template(Adder())


class Updated(SimulatedBackend):
    """The same silicon under another driver."""

    @property
    def environment(self) -> dict[str, Any]:
        return {**super().environment, "driver": "simulated 2"}


class Watched(InProcessRunner):
    """Remembers what it was asked for."""

    def __init__(self, backend: SimulatedBackend | None = None) -> None:
        super().__init__(backend or SimulatedBackend())
        self.measured: list[Schedule] = []
        self.batches: list[set[Schedule]] = []
        self.raced: list[list[Schedule]] = []
        self.plans: list[TimingPlan] = []

    def measure(self, jobs: Sequence[Job], plan: TimingPlan) -> Iterator[tuple[Job, Measurement]]:
        self.plans.append(plan)
        self.batches.append({job.schedule for job in jobs})
        for job, measurement in super().measure(jobs, plan):
            self.measured.append(job.schedule)
            yield job, measurement

    def race(self, jobs: Sequence[Job], plan: TimingPlan, rounds: int) -> list[Measurement]:
        self.raced.append([job.schedule for job in jobs])
        return super().race(jobs, plan, rounds)


def make_tuner(
    database: TuningDatabase,
    runner: Runner,
    *,
    observer: Observer | None = None,
    proposer: Proposer | None = None,
    clock: Clock | None = None,
    reserve_s: float = 0.0,
    **options: Any,
) -> Tuner:
    settings = TuningOptions(**{"model": "none", "plan": PLAN, "race_rounds": 6, **options})
    space = search_space(WORKLOAD, runner.target)
    return Tuner(
        Context(WORKLOAD, runner.target),
        space,
        runner,
        database,
        proposer or make_proposer(WORKLOAD, runner.target, space, database, settings),
        settings,
        observer or SilentObserver(),
        clock=clock,
        reserve_s=reserve_s,
    )


def tune(database: TuningDatabase, runner: Runner, **options: Any) -> TuningResult:
    return make_tuner(database, runner, **options).run()


def query(database: TuningDatabase, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(Path(database.path)) as connection:
        rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def outcomes(database: TuningDatabase) -> list[str | None]:
    return [row[0] for row in query(database, "SELECT outcome FROM sessions ORDER BY id")]
