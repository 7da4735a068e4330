"""The tuning loop in one process: bounds, resuming, failures, races, Ctrl-C, determinism."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_parts import (
    PLAN,
    WORKLOAD,
    Adder,
    Updated,
    Watched,
    make_tuner,
    outcomes,
    own_registry,
    query,
    tune,
)

from autotune.api import make_proposer, search_space
from autotune.backends.simulated import SimulatedBackend
from autotune.finals import tied
from autotune.proposer import Proposer
from autotune.runners import Job
from autotune.session import Clock, Context, Progress, SilentObserver, TuningOptions
from autotune.stopping import LEAST
from autotune.strategies import STRATEGIES, make_strategy
from autotune.timing import TimingPlan
from cost_model import DEFAULT as DEFAULT_MODEL
from cost_model import MODELS
from cost_model.base import Prediction
from cost_model.trust import Trust
from records import Kind, Measurement, Schedule, Status, Target, TuningRecord, Workload
from records.errors import DatabaseError, InvalidInputError
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource

__all__ = ["own_registry"]

SPACE_SIZE = 7 * 3  # of `Adder()`
SPOILING = ("compile_error", "launch_error", "wrong_result", "out_of_bounds", "wrong_later")

pytestmark = pytest.mark.usefixtures("own_registry")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TuningDatabase]:
    with TuningDatabase(tmp_path / "tuning.db") as opened:
        yield opened


@pytest.fixture
def runner() -> Watched:
    return Watched()


def trials(database: TuningDatabase, kind: Kind = Kind.SEARCH) -> list[TuningRecord]:
    return list(database.records(kinds={kind}))


class Diary(SilentObserver):
    """Keeps what it is told; raises `KeyboardInterrupt` where told to."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.seen: list[tuple[TuningRecord, Progress]] = []
        self.stored: list[int] = []
        self.notices: list[str] = []
        self.starts: list[Progress] = []
        self._interrupt_at = interrupt_at

    def started(self, context: Context, progress: Progress) -> None:
        self.starts.append(progress)
        if self._interrupt_at == 0:
            raise KeyboardInterrupt

    def trial(self, record: TuningRecord, progress: Progress) -> None:
        self.seen.append((record, progress))
        if len(self.seen) == self._interrupt_at:
            raise KeyboardInterrupt

    def notice(self, text: str) -> None:
        self.notices.append(text)


class Ticking(Clock):
    """Time passes by a second a trial, and not otherwise."""

    def __init__(self, limit_s: float, runner: Watched) -> None:
        super().__init__(limit_s)
        self._runner = runner

    @property
    def elapsed_s(self) -> float:
        return float(len(self._runner.measured))


# Bounds


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [1, 12, 17])
def test_trials_bound_a_session(
    database: TuningDatabase, runner: Watched, strategy: str, count: int
) -> None:
    result = tune(database, runner, trials=count, strategy=strategy)
    assert result.outcome == "finished"
    stored = {each.schedule for each in [*trials(database), *trials(database, Kind.HEAT)]}
    assert len(stored) == len(set(runner.measured)) == result.progress.done == count
    assert outcomes(database) == ["finished"]


@pytest.mark.parametrize("model", ["none", *MODELS])
def test_a_small_space_is_exhausted(database: TuningDatabase, runner: Watched, model: str) -> None:
    result = tune(database, runner, trials=1000, model=model)
    assert result.outcome == "exhausted"
    assert set(runner.measured) == set(search_space(WORKLOAD, runner.target))
    assert len(runner.measured) == SPACE_SIZE
    assert result.best is not None
    assert outcomes(database) == ["exhausted"]


def test_little_to_gain_ends_a_session_and_a_later_one_goes_on(
    database: TuningDatabase, runner: Watched
) -> None:
    registry.register_template(Adder(largest=1 << 16, unrolls=range(1, 13)))
    stopped = tune(database, runner, trials=150, model=DEFAULT_MODEL, stop_gain=1.0, finalists=2)
    assert stopped.outcome == "little to gain"
    assert LEAST <= stopped.progress.done < 100
    assert stopped.progress.done == len(runner.measured)
    assert stopped.model is not None and stopped.model.outlook is not None
    assert stopped.model.outlook.gain < 1.0
    assert stopped.best is not None and stopped.best.kind is Kind.FINAL
    going_on = tune(database, runner, trials=stopped.progress.done + 5, model=DEFAULT_MODEL)
    assert (going_on.outcome, going_on.progress.resumed) == ("finished", stopped.progress.done)
    assert outcomes(database) == ["little to gain", "finished"]


def test_progress_tells_of_the_model_once_it_has_a_part(
    database: TuningDatabase, runner: Watched
) -> None:
    registry.register_template(Adder(largest=1 << 16, unrolls=range(1, 13)))
    observer = Diary()
    result = tune(database, runner, trials=60, model=DEFAULT_MODEL, observer=observer)
    reports = [progress.model for _, progress in observer.seen]
    assert reports[0] is None
    assert reports[-1] is not None and reports[-1].accuracy is not None
    assert result.model is not None and result.model.candidates is not None
    assert tune(database, runner, trials=70, model="none").model is None


def test_time_limit_keeps_time_for_the_race_and_for_what_comes_after(
    database: TuningDatabase, runner: Watched
) -> None:
    clock = Ticking(20.0, runner)
    result = tune(database, runner, time_limit_s=20.0, clock=clock, reserve_s=5.0)
    assert result.outcome == "time limit"
    assert 10 <= len(runner.measured) <= 13  # 20 s less 5 s and 2 s of race
    assert result.progress.time_limit_s == 20.0
    assert result.best is not None and result.best.kind is Kind.FINAL


def test_a_reserve_takes_half_of_the_limit_at_most(
    database: TuningDatabase, runner: Watched
) -> None:
    tune(database, runner, time_limit_s=8.0, clock=Ticking(8.0, runner), reserve_s=100.0)
    assert len(runner.measured) == 4


def test_without_time_nothing_is_measured(database: TuningDatabase, runner: Watched) -> None:
    clock = Clock(1e-9)
    result = tune(database, runner, time_limit_s=1e-9, clock=clock)
    assert (result.outcome, result.best, runner.measured) == ("time limit", None, [])


@pytest.mark.parametrize(
    "options",
    [
        {"trials": 0},
        {"batch": 0},
        {"finalists": -1},
        {"seed": -1},
        {"time_limit_s": 0.0},
        {"time_limit_s": float("nan")},
        {"strategy": "psychic"},
        {"stop_gain": 0.0},
        {"stop_gain": "0.5%"},
        {"trials": 2.5},
        {"stop_gain": 0.01, "strategy": "genetic"},
        {"stop_gain": 0.01, "model": "xgboost"},
        {"model": "oracle"},
    ],
)
def test_bad_options_are_refused_with_the_need(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="need|there are"):
        TuningOptions(**options)


# Resuming


def test_resuming_goes_on_and_measures_nothing_twice(
    database: TuningDatabase, runner: Watched
) -> None:
    tune(database, runner, trials=9)
    observer = Diary()
    result = tune(database, runner, trials=15, observer=observer)
    assert len(runner.measured) == len(set(runner.measured)) == 15
    assert (result.progress.resumed, result.progress.done) == (9, 15)
    assert observer.starts[0].done == observer.starts[0].resumed == 9
    assert len(observer.seen) == 6


def test_a_finished_search_has_nothing_more_to_do(
    database: TuningDatabase, runner: Watched
) -> None:
    first = tune(database, runner, trials=10)
    rows, races = len(list(database.records())), len(runner.raced)
    again = tune(database, runner, trials=10)
    assert (len(list(database.records())), len(runner.raced)) == (rows, races)
    assert again.best == first.best
    assert again.ties == first.ties
    assert again.outcome == "finished"


def test_a_changed_environment_measures_again_and_races_the_earlier_best(
    database: TuningDatabase, runner: Watched
) -> None:
    earlier = tune(database, runner, trials=SPACE_SIZE)
    updated = Watched(Updated())
    result = tune(database, updated, trials=3)
    assert len(updated.measured) == 3
    assert result.progress.resumed == 0
    assert earlier.best is not None and result.best is not None
    assert earlier.best.schedule in updated.raced[0]
    assert result.best.schedule == earlier.best.schedule
    assert dict(result.best.measurement.environment)["driver"] == "simulated 2"


def test_what_was_only_raced_under_new_circumstances_is_not_measured_there_again(
    database: TuningDatabase, runner: Watched
) -> None:
    tune(database, runner, trials=SPACE_SIZE)
    updated = Watched(Updated())
    tune(database, updated, trials=2)
    raced = {schedule for schedules in updated.raced for schedule in schedules}
    assert raced - set(updated.measured)
    result = tune(database, updated, trials=1000)
    assert len(updated.measured) == len(set(updated.measured))
    assert len(raced | set(updated.measured)) == result.progress.done == SPACE_SIZE


def test_an_earlier_best_does_not_drop_what_is_slower_under_new_circumstances(
    database: TuningDatabase, runner: Watched
) -> None:
    tune(database, runner, trials=SPACE_SIZE)
    updated = Watched(Updated())
    tune(database, updated, trials=5, batch=5)
    assert updated.plans[0].drop_above_s is None


def test_trials_of_an_outdated_template_do_not_count(
    database: TuningDatabase, runner: Watched
) -> None:
    old = tune(database, runner, trials=SPACE_SIZE)
    registry.register_template(Adder(version=2))
    result = tune(database, runner, trials=4)
    assert (result.progress.resumed, result.progress.done) == (0, 4)
    assert old.best is not None and result.best is not None
    assert result.best.schedule.version == 2


# Failures


def test_failures_are_stored_with_their_reason_and_never_tried_again(
    database: TuningDatabase, runner: Watched
) -> None:
    registry.register_template(Adder(("none", *SPOILING), largest=2))
    result = tune(database, runner, trials=20)
    tune(database, runner, trials=1000)
    assert len(runner.measured) == len(set(runner.measured)) == 2 * 3 * 6
    for record in trials(database):
        assert record.measurement.is_ok == (record.schedule["failure"] == "none")
        assert record.measurement.is_ok or record.measurement.error
    assert sum(result.progress.counts.values()) == 20
    assert {record.measurement.status for record in trials(database)} == {
        Status.OK,
        Status.COMPILE_ERROR,
        Status.LAUNCH_ERROR,
        Status.WRONG_RESULT,
    }


def test_a_search_where_everything_fails_has_no_best(
    database: TuningDatabase, runner: Watched
) -> None:
    registry.register_template(Adder(SPOILING, largest=2))
    result = tune(database, runner, trials=10, model="xgboost")
    assert (result.best, result.ties, result.progress.done) == (None, (), 10)
    assert runner.raced == []


class Mistaken(Adder):
    """Cannot render tiles of 4, renders tiles of 8 as nothing at all."""

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        if schedule["tile"] == 8:
            return None  # type: ignore[return-value]
        if schedule["tile"] == 4:
            raise ZeroDivisionError("tiles of 4 were never tested")
        return super().render(workload, schedule, dialect)


def test_a_templates_mistake_costs_a_status(database: TuningDatabase, runner: Watched) -> None:
    registry.register_template(Mistaken())
    result = tune(database, runner, trials=SPACE_SIZE)
    errors = {
        record.schedule["tile"]: record.measurement.error
        for record in trials(database)
        if record.measurement.status is Status.INVALID
    }
    assert errors == {
        4: "render failed: ZeroDivisionError: tiles of 4 were never tested",
        8: "render failed: TypeError: need a KernelSource, got NoneType",
    }
    assert result.best is not None
    assert result.progress.done == SPACE_SIZE


MALFORMED: dict[int, tuple[Callable[[KernelSource], KernelSource], str]] = {
    1: (lambda source: replace(source, dialect="cuda"), "asked for opencl"),
    2: (lambda source: replace(source, text=b"x"), "must be a str"),  # type: ignore[arg-type]
    4: (lambda source: replace(source, arrays=source.arrays[:2]), "not those that the op"),
    8: (lambda source: replace(source, launches=()), "launches nothing"),
    16: (lambda source: launching(source, arguments=("a", "b", "nope")), "takes nope"),
    32: (lambda source: launching(source, groups=(1, 1)), "need three whole numbers"),
    64: (lambda source: launching(source, group_size=(0, 1, 1)), "need three whole numbers"),
}


def launching(source: KernelSource, **changed: Any) -> KernelSource:
    return replace(source, launches=(replace(source.launches[0], **changed),))


def test_a_kernel_that_contradicts_itself_costs_a_status(
    database: TuningDatabase, runner: Watched
) -> None:
    class Contradictory(Adder):
        def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
            source = super().render(workload, schedule, dialect)
            return MALFORMED[schedule["tile"]][0](source)

    registry.register_template(Contradictory())
    tune(database, runner, trials=SPACE_SIZE)
    assert runner.measured == []
    for record in trials(database):
        assert record.measurement.status is Status.INVALID
        assert MALFORMED[record.schedule["tile"]][1] in record.measurement.error


def test_a_best_that_cannot_be_rendered_any_more_is_replaced(
    database: TuningDatabase, runner: Watched
) -> None:
    first = tune(database, runner, trials=SPACE_SIZE, finalists=0)
    assert first.best is not None

    class Forgetful(Adder):
        def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
            if schedule == first.best.schedule:  # type: ignore[union-attr]
                raise KeyError("gone")
            return super().render(workload, schedule, dialect)

    registry.register_template(Forgetful())
    result = tune(database, runner, trials=SPACE_SIZE)
    assert result.best is not None and result.best.schedule != first.best.schedule
    assert database.best(WORKLOAD, runner.target).record == result.best
    [failed] = [each for each in trials(database, Kind.FINAL) if not each.measurement.is_ok]
    assert failed.schedule == first.best.schedule


def test_an_error_ends_the_session_as_failed_and_is_the_one_told(
    database: TuningDatabase, runner: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = database.add
    stored: list[TuningRecord] = []

    def full(record: TuningRecord, session: int | None = None) -> int:
        if len(stored) == 5:
            raise DatabaseError("the disk is full")
        stored.append(record)
        return add(record, session)

    monkeypatch.setattr(database, "add", full)
    with pytest.raises(DatabaseError, match="the disk is full"):
        tune(database, runner, trials=12)
    assert trials(database) == stored
    assert outcomes(database) == ["failed"]


# The race


def test_the_best_was_raced_and_is_the_databases(database: TuningDatabase) -> None:
    for seed in range(6):
        noisy = Watched(SimulatedBackend(noise=0.2))
        result = tune(database, noisy, trials=3 * (seed + 1), seed=seed)
        assert result.best == database.best(WORKLOAD, noisy.target).record
        assert result.best.kind is Kind.FINAL
        assert result.progress.best == result.best


def test_an_interrupted_sessions_best_is_the_databases_too(
    database: TuningDatabase, runner: Watched
) -> None:
    result = tune(database, runner, trials=12, observer=Diary(interrupt_at=7))
    assert result.best == database.best(WORKLOAD, runner.target).record
    assert result.best.kind is Kind.SEARCH


def test_no_finalists_no_race(database: TuningDatabase, runner: Watched) -> None:
    result = tune(database, runner, trials=6, finalists=0)
    assert not runner.raced and not trials(database, Kind.FINAL)
    assert result.best is not None and result.best.kind is Kind.SEARCH


def test_kernels_of_equal_speed_are_ties(database: TuningDatabase, runner: Watched) -> None:
    class Twins(Adder):
        """Tiles of 2 and 4 are one and the same kernel."""

        def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
            values = {**schedule.values, "tile": 2, "unroll": 1}
            same = Schedule.of(self.name, self.version, values)
            return super().render(workload, same, dialect)

    registry.register_template(Twins(largest=4))
    result = tune(database, runner, trials=9, finalists=4)
    assert len(result.ties) == 3
    assert result.best not in result.ties


def test_kernels_of_different_speed_are_none(database: TuningDatabase, runner: Watched) -> None:
    assert tune(database, runner, trials=SPACE_SIZE).ties == ()


@pytest.mark.parametrize(
    ("best", "other", "is_tie"),
    [
        ((1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2), False),  # 6 of 6: p = 0.03
        ((1, 1, 1, 1, 1), (2, 2, 2, 2, 2), True),  # 5 of 5: p = 0.06
        ((1, 1, 1, 1, 1, 1, 1, 3), (2, 2, 2, 2, 2, 2, 2, 2), True),  # 7 of 8: p = 0.07
        ((1,) * 8 + (3,), (2,) * 9, False),  # 8 of 9: p = 0.04
        ((1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1), True),
    ],
)
def test_a_tie_is_what_the_sign_test_cannot_tell_apart(
    best: tuple[float, ...], other: tuple[float, ...], is_tie: bool
) -> None:
    assert tied(Measurement.ok(best), Measurement.ok(other)) == is_tie


# Ctrl-C


@pytest.mark.parametrize("at", [0, 1, 7, 12])
def test_an_interrupted_session_keeps_every_trial(
    database: TuningDatabase, runner: Watched, at: int
) -> None:
    observer = Diary(interrupt_at=at)
    result = tune(database, runner, trials=20, observer=observer)
    assert result.outcome == "interrupted"
    assert trials(database) == [record for record, _ in observer.seen]
    assert len(observer.seen) == result.progress.done == at
    assert outcomes(database) == (["interrupted"] if at else [])
    assert runner.raced == []


def test_interrupted_while_resuming(
    database: TuningDatabase, runner: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tune(database, runner, trials=8)
    tuner = make_tuner(database, runner, trials=20)
    monkeypatch.setattr(tuner.proposer, "tell", _interrupt)
    result = tuner.run()
    assert (result.outcome, result.best) == ("interrupted", first.best)


def test_interrupted_while_racing(
    database: TuningDatabase, runner: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "race", _interrupt)
    result = tune(database, runner, trials=8)
    assert result.outcome == "interrupted"
    assert result.best == database.best(WORKLOAD, runner.target).record
    assert outcomes(database) == ["interrupted"]
    assert len(trials(database)) == 8


def test_interrupted_while_measuring(
    database: TuningDatabase, runner: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = runner.measure

    def interrupted(jobs: Sequence[Job], plan: TimingPlan) -> Iterator[tuple[Job, Measurement]]:
        yield from list(measure(jobs[:3], plan))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "measure", interrupted)
    assert tune(database, runner, trials=8).outcome == "interrupted"
    assert len(trials(database)) == 3


def _interrupt(*arguments: object) -> Any:
    raise KeyboardInterrupt


# Proposals


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", ["none", DEFAULT_MODEL])
def test_the_same_seed_proposes_the_same(tmp_path: Path, strategy: str, model: str) -> None:
    registry.register_template(Adder(("none", "launch_error"), largest=512))
    proposed = []
    for turn in range(2):
        runner = Watched()
        with TuningDatabase(tmp_path / f"{turn}.db") as database:
            tune(database, runner, trials=48, strategy=strategy, model=model, seed=3, finalists=0)
        proposed.append(runner.measured)
    assert proposed[0] == proposed[1]


def test_the_order_of_completion_does_not_change_what_is_proposed(tmp_path: Path) -> None:
    registry.register_template(Adder(largest=512))
    proposed = []
    for kind in (Watched, Backwards):
        runner = kind()
        with TuningDatabase(tmp_path / f"{kind.__name__}.db") as database:
            tune(database, runner, trials=30, seed=5, batch=6, finalists=0, drop_factor=1e9)
        proposed.append(runner.batches)
    assert proposed[0] == proposed[1]


class Backwards(Watched):
    """Completes the last job first."""

    def measure(self, jobs: Sequence[Job], plan: TimingPlan) -> Iterator[tuple[Job, Measurement]]:
        return super().measure(jobs[::-1], plan)


def test_a_resumed_search_is_a_function_of_the_database(tmp_path: Path) -> None:
    proposed = []
    for turn in range(2):
        runner = Watched()
        with TuningDatabase(tmp_path / f"{turn}.db") as database:
            tune(database, runner, trials=7, seed=1)
            tune(database, runner, trials=18, seed=1)
        proposed.append(runner.measured)
    assert proposed[0] == proposed[1]
    assert len(set(proposed[0])) == 18


class Liar:
    """A cost model that promises the opposite of what it has seen."""

    def __init__(self) -> None:
        self.ready = False
        self._times_s: dict[int, float] = {}

    def fit(self, records: Sequence[TuningRecord]) -> None:
        self.ready = len(records) >= 10
        for record in records:
            self._times_s[record.schedule["tile"]] = record.measurement.time_s or 0.0

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        scores = [self._times_s.get(each["tile"], 0.0) for each in schedules]
        return Prediction(np.array(scores), np.zeros(len(schedules)))


def test_a_model_no_better_than_guessing_is_a_notice(
    database: TuningDatabase, runner: Watched
) -> None:
    registry.register_template(Adder(largest=1 << 20))
    space = search_space(WORKLOAD, runner.target)
    strategy = make_strategy("random", space, 0)
    proposer = Proposer(strategy, Liar(), Trust(), WORKLOAD, runner.target)
    observer = Diary()
    tune(database, runner, trials=60, proposer=proposer, observer=observer)
    assert any("no better than guessing" in notice for notice in observer.notices)


@pytest.mark.parametrize(
    "strategy,model,used",
    [
        ("guided", None, DEFAULT_MODEL),
        ("evolutionary", "xgboost", "xgboost"),
        ("random", None, "none"),
        ("random", "xgboost", "xgboost"),
        ("genetic", None, "none"),
        ("genetic", "xgboost", "none"),
    ],
)
def test_a_model_has_a_part_where_the_strategy_lets_it(
    database: TuningDatabase, runner: Watched, strategy: str, model: str | None, used: str
) -> None:
    options = TuningOptions(trials=20, strategy=strategy, model=model)
    space = search_space(WORKLOAD, runner.target)
    observer = Diary()
    proposer = make_proposer(WORKLOAD, runner.target, space, database, options, observer)
    assert any("no cost model has a part" in each for each in observer.notices) == (
        model is not None and used == "none"
    )
    result = tune(database, runner, trials=20, strategy=strategy, model=model, proposer=proposer)
    assert (result.model is not None) == (used != "none")
    assert query(database, "SELECT options ->> 'model' FROM sessions") == [(used,)]


def test_the_clearly_slow_are_dropped_early(database: TuningDatabase, runner: Watched) -> None:
    tune(database, runner, trials=SPACE_SIZE, batch=5, drop_factor=1.2)
    dropped = [each for each in trials(database) if each.measurement.detail("dropped")]
    assert dropped
    assert all(len(each.measurement.times_s) == PLAN.drop_runs for each in dropped)
    assert runner.plans[0].drop_above_s is None
    best_s = min(each.measurement.time_s or 1.0 for each in trials(database))
    last = runner.plans[-1].drop_above_s
    assert last is not None and last >= 1.2 * best_s


def test_racing_runs_little_first_and_only_the_leading_in_full(
    database: TuningDatabase, runner: Watched
) -> None:
    result = tune(database, runner, trials=SPACE_SIZE, strategy="racing", batch=6)
    heats, promoted = trials(database, Kind.HEAT), trials(database)
    assert len(heats) == SPACE_SIZE
    assert {len(each.measurement.times_s) for each in heats} == {1}
    assert 1 <= len(promoted) <= SPACE_SIZE // 2
    assert {each.schedule for each in promoted} <= {each.schedule for each in heats}
    assert all(len(each.measurement.times_s) >= 3 for each in promoted)
    assert result.best is not None and result.best.kind is Kind.FINAL
    assert result.progress.done == SPACE_SIZE


def test_a_failure_in_a_heat_is_final(database: TuningDatabase, runner: Watched) -> None:
    registry.register_template(Adder(("compile_error",)))
    tune(database, runner, trials=8, strategy="racing")
    assert len(trials(database)) == len(runner.measured) == 8
    assert not trials(database, Kind.HEAT)


def test_heats_are_trials_to_racing_and_to_no_other_search(
    database: TuningDatabase, runner: Watched
) -> None:
    tune(database, runner, trials=12, strategy="racing")
    in_full = {each.schedule for each in trials(database)}
    before = len(runner.measured)
    again = tune(database, runner, trials=14, strategy="racing")
    assert again.progress.resumed == 12
    assert len(trials(database, Kind.HEAT)) == 14
    in_full |= {each.schedule for each in trials(database)}
    before = len(runner.measured)
    result = tune(database, runner, trials=SPACE_SIZE, strategy="random", finalists=0)
    assert result.progress.done == SPACE_SIZE
    raced = {each.schedule for each in trials(database, Kind.FINAL)}
    assert len(runner.measured) - before == SPACE_SIZE - len(in_full | raced)


def test_an_interrupted_race_does_not_answer_with_a_heat(
    database: TuningDatabase, runner: Watched
) -> None:
    result = tune(database, runner, strategy="racing", observer=Diary(interrupt_at=3))
    assert len(trials(database, Kind.HEAT)) == 3
    assert result.best is None and result.progress.best is None


def test_sessions_say_how_they_searched(database: TuningDatabase, runner: Watched) -> None:
    tune(database, runner, trials=4, strategy="random", seed=7)
    [(strategy, seed, ended)] = query(
        database, "SELECT strategy, seed, ended_at IS NOT NULL FROM sessions"
    )
    assert (strategy, seed, ended) == ("random", 7, 1)
    assert query(database, "SELECT count(*) FROM trials WHERE session_id IS NULL") == [(0,)]
