"""The runner that replays keeps the contract of those that measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from autotune.proposer import Proposer
from autotune.recorded import RecordedSpace, from_records, from_table
from autotune.replay_runner import ReplayRunner
from autotune.runners import Job
from autotune.strategies import make_strategy
from autotune.testing.runner import STATUSES, Kind, RunnerConformance
from autotune.timing import TimingPlan
from cost_model.trust import Trust
from records import Measurement, Schedule
from records.errors import InvalidInputError
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import CUDA, OPENCL
from search_spaces.kernel import KernelSource

SOURCE = KernelSource("opencl", "", (), ())
KINDS: tuple[Kind, ...] = tuple(STATUSES)


def recording() -> RecordedSpace:
    """Twenty schedules of each outcome; two runs behind each time."""
    measured = [
        (
            (kind, number),
            Measurement.ok((2.0 + number, 4.0 + number))
            if kind == "ok"
            else Measurement.failed(STATUSES[kind], kind),
        )
        for kind in KINDS
        for number in range(20)
    ]
    return from_table("tile", "chip", {"kind": KINDS, "number": range(20)}, measured)


def job(recorded: RecordedSpace, **knobs: object) -> Job:
    return Job(recorded.workload, Schedule.of("tile", 1, knobs), SOURCE)


class TestReplayRunner(RunnerConformance):
    kinds = tuple(kind for kind in KINDS if kind != "hang")

    @pytest.fixture
    def runner(self) -> Iterator[ReplayRunner]:
        runner = ReplayRunner(recording())
        yield runner
        runner.close()

    def job(self, kind: Kind, number: int = 0) -> Job:
        return job(recording(), kind=kind, number=number % 20)


def test_it_gives_no_more_runs_than_the_plan_would_make() -> None:
    recorded = from_table(
        "tile", "chip", {"number": range(2)}, [((at,), Measurement.ok((2.0,) * 9)) for at in (0, 1)]
    )
    for plan, runs in [
        (TimingPlan(), 6),
        (TimingPlan(interval=0.0, min_runs=8), 8),
        (TimingPlan().heat(1), 1),
        (TimingPlan().against(1.5, 1.5), 3),
        (TimingPlan().against(1.0, 1.5), 2),
    ]:
        [(_, measurement)] = ReplayRunner(recorded).measure([job(recorded, number=0)], plan)
        assert len(measurement.times_s) == runs
        assert bool(measurement.detail("dropped")) == (runs == 2)


def test_it_raises_where_nothing_is_recorded() -> None:
    recorded = recording()
    runner = ReplayRunner(recorded)
    unknown = job(recorded, kind="ok", number=21)
    with pytest.raises(InvalidInputError, match="no recorded measurement of tile@1"):
        list(runner.measure([unknown], TestReplayRunner.plan))
    with pytest.raises(InvalidInputError, match="no recorded measurement of tile@1"):
        runner.race([unknown], TestReplayRunner.plan, 2)
    other = replace(job(recorded, kind="ok", number=1), workload=Workload.of("other", {}))
    with pytest.raises(InvalidInputError, match=r"of other\(\); there are those of tile"):
        list(runner.measure([other], TestReplayRunner.plan))


def test_it_tells_the_recorded_times() -> None:
    recorded = recording()
    [(_, measurement)] = ReplayRunner(recorded).measure(
        [job(recorded, kind="ok", number=3)], TestReplayRunner.plan
    )
    assert measurement.times_s == (5.0, 7.0)
    [raced] = ReplayRunner(recorded).race(
        [job(recorded, kind="ok", number=3)], TestReplayRunner.plan, 3
    )
    assert raced.times_s == (5.0, 7.0, 5.0)


@pytest.mark.parametrize(("backend", "dialect"), [("cuda", CUDA), ("opencl", OPENCL)])
def test_it_speaks_the_language_of_its_target(backend: str, dialect: object) -> None:
    schedule = Schedule.of("tile", 1, {"x": 1})
    target = Target.of(backend, "chip", "chip", {})
    recorded = from_records(Workload.of("w", {}), target, {schedule: Measurement.ok((1.0,))})
    runner = ReplayRunner(recorded)
    assert runner.dialect is dialect
    assert runner.target == target


def test_a_whole_search_is_answered() -> None:
    recorded = recording()
    runner = ReplayRunner(recorded)
    proposer = Proposer(
        make_strategy("local", recorded, 0), None, Trust(), recorded.workload, recorded.target
    )
    told = []
    while batch := proposer.next(8):
        jobs = [Job(recorded.workload, schedule, SOURCE) for schedule in batch]
        for done, measurement in runner.measure(jobs, TestReplayRunner.plan):
            proposer.tell(done.schedule, measurement)
            told.append(measurement)
    assert len(told) == recorded.size
    assert sum(measurement.is_ok for measurement in told) == 20
