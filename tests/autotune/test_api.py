"""`autotune.tune` over real worker processes: every failure, what goes before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuning_parts import PLAN, WORKLOAD, Adder, own_registry

import autotune
from autotune import api, rivals
from autotune.backends.simulated import Failure
from autotune.local_runner import LocalRunner
from autotune.session import Context, Progress, SilentObserver, TuningResult, batch_size
from autotune.testing import devices
from autotune.timing import TimingPlan
from records import Kind, Status, Target
from records.errors import AutotuneError, DeviceError, InvalidInputError
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.matmul import matmul

__all__ = ["own_registry"]

STATUSES = {
    Failure.COMPILE_ERROR: Status.COMPILE_ERROR,
    Failure.COMPILE_CRASH: Status.COMPILE_ERROR,
    Failure.COMPILE_HANG: Status.COMPILE_ERROR,
    Failure.LAUNCH_ERROR: Status.LAUNCH_ERROR,
    Failure.WRONG_RESULT: Status.WRONG_RESULT,
    Failure.WRONG_LATER: Status.WRONG_RESULT,
    Failure.OUT_OF_BOUNDS: Status.WRONG_RESULT,
    Failure.HANG: Status.TIMEOUT,
    Failure.SEGFAULT: Status.CRASHED,
    Failure.ABORT: Status.CRASHED,
    Failure.EXIT: Status.CRASHED,
    Failure.ABORT_AT_CLOSE: Status.CRASHED,
}
MATMUL = matmul(m=32, n=32, k=32)


class Notices(SilentObserver):
    def __init__(self) -> None:
        self.context: Context | None = None
        self.texts: list[str] = []

    def started(self, context: Context, progress: Progress) -> None:
        self.context = context

    def notice(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "tuning.db"


@pytest.fixture
def search(database: Path, own_registry: None) -> Callable[..., TuningResult]:
    """A search for the fastest adder on a simulated device."""

    def run(**options: Any) -> TuningResult:
        settings = {"device": "sim:steady", "database": database, "plan": PLAN, **options}
        return autotune.tune(WORKLOAD, **settings)

    return run


def test_every_failure_costs_its_status_and_the_good_schedules_win(
    search: Callable[..., TuningResult], database: Path
) -> None:
    failures = ["none", *map(str, Failure)]
    registry.register_template(Adder(failures, largest=1, unrolls=(1,)))
    result = search(strategy="exhaustive", templates=["adder"])
    assert result.outcome == "exhausted"
    assert result.best is not None and result.best.schedule["failure"] == "none"
    with TuningDatabase(database) as store:
        records = list(store.records(kinds={Kind.SEARCH}))
        assert store.best(WORKLOAD, result.target).record == result.best
        assert store.check() == []
    assert len(records) == 1 + len(Failure)
    for record in records:
        failure = record.schedule["failure"]
        status = Status.OK if failure == "none" else STATUSES[Failure(failure)]
        assert record.measurement.status is status
        assert bool(record.measurement.error) == (failure != "none")


def test_a_runner_that_is_given_measures_and_stays_open(
    search: Callable[..., TuningResult],
) -> None:
    registry.register_template(Adder(largest=2))
    with LocalRunner("sim:steady") as runner:
        first = search(trials=2, templates=["adder"], runner=runner, compare=False)
        children = runner.worker_pids
        second = search(trials=4, templates=["adder"], runner=runner, compare=False)
        assert (first.progress.done, second.progress.done) == (2, 4)
        assert children and runner.worker_pids[:1] == children[:1]


def test_batches_are_larger_where_a_trial_is_quick() -> None:
    def of(backend: str, kind: str) -> int:
        return batch_size(Target.of(backend, "x", "y", {"kind": kind}))

    assert of("cuda", "gpu") == of("opencl", "gpu") > of("opencl", "cpu") == of("sim", "gpu")


def test_named_templates_alone_are_searched_and_counted(
    search: Callable[..., TuningResult],
) -> None:
    registry.register_template(Adder(name="other", largest=2))
    first = search(trials=5, templates=["adder"])
    second = search(trials=5, templates=["other"])
    assert (first.progress.done, second.progress.done) == (5, 5)
    assert second.progress.resumed == 0
    assert first.best is not None and first.best.schedule.template == "adder"
    together = search(trials=10)
    assert together.progress.resumed == 10


def test_the_same_command_goes_on(search: Callable[..., TuningResult]) -> None:
    first = search(trials=6)
    again = search(trials=6)
    assert (again.progress.resumed, again.progress.done) == (6, 6)
    assert again.best == first.best


def test_a_time_limit_ends_the_search(search: Callable[..., TuningResult]) -> None:
    registry.register_template(Adder(largest=1 << 30))
    registry.register_template(Adder(("none", "hang"), name="slow", largest=1 << 30))
    result = search(trials=100_000, time_limit_s=6.0)
    assert result.outcome == "time limit"
    assert result.progress.done > 0
    assert result.progress.elapsed_s < 3 * 6.0  # whatever else this machine does


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "sim:absent"}, "no simulated device|no device"),
        ({"strategy": "psychic"}, "no strategy 'psychic'; there are: guided"),
        ({"model": "oracle"}, "no cost model 'oracle'; there are: ensemble, "),
        ({"trials": 0}, "at least 1"),
        ({"time_limit_s": -1.0}, "more than 0 seconds"),
        ({"templates": ["absent"]}, "no template 'absent' for addition; there are: adder"),
        ({"templates": []}, "no template can do"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    search: Callable[..., TuningResult], database: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        search(**options)
    assert not database.exists()


def test_a_workload_larger_than_the_device_is_refused(database: Path) -> None:
    with pytest.raises(InvalidInputError, match="choose smaller sizes"):
        autotune.tune(matmul(m=1 << 17, n=1 << 17, k=64), device="sim:steady", database=database)


def test_a_database_in_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutotuneError, match="mkdir -p"):
        autotune.tune(MATMUL, device="sim:steady", database=tmp_path / "absent" / "tuning.db")


def test_a_simulated_device_has_no_roofline(
    search: Callable[..., TuningResult], database: Path
) -> None:
    observer = Notices()
    search(trials=2, observer=observer)
    assert observer.context is not None
    assert observer.context.floor_s is None
    with TuningDatabase(database, read_only=True) as store:
        assert store.peaks() == {}
    assert not any("roofline" in text for text in observer.texts)


# Ctrl-C before and after the search


def _interrupt(*arguments: object, **options: object) -> Any:
    raise KeyboardInterrupt


def test_interrupted_before_the_search_there_is_what_was_known(
    search: Callable[..., TuningResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(trials=6)
    monkeypatch.setattr(rivals.Rivals, "times_s", _interrupt)
    result = search(trials=20)
    assert (result.outcome, result.best, result.ties) == ("interrupted", first.best, first.ties)
    assert result.ratios == {}


def test_interrupted_before_the_first_search_there_is_nothing(
    search: Callable[..., TuningResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_floor_s", _interrupt)
    result = search(trials=20)
    assert (result.outcome, result.best, result.progress.done) == ("interrupted", None, 0)


def test_interrupted_after_the_search_the_trials_stand(
    search: Callable[..., TuningResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals.Rivals, "ratios", _interrupt)
    result = search(trials=6)
    assert (result.outcome, result.progress.done) == ("interrupted", 6)
    assert result.best is not None and result.best.kind is Kind.FINAL


# The libraries, on real devices


QUICK = TimingPlan(budget_s=0.02, max_runs=6)


@pytest.mark.parametrize("device", devices.names("opencl"))
def test_the_best_is_raced_against_the_libraries(database: Path, device: str) -> None:
    observer = Notices()
    options: dict[str, Any] = {"device": device, "database": database, "plan": QUICK}
    result = autotune.tune(MATMUL, trials=3, observer=observer, **options)
    if not result.target.is_cpu:
        pytest.skip("libraries are timed on the host's CPU only")
    assert observer.context is not None and observer.context.libraries["numpy"] > 0.0
    assert result.ratios["numpy"].value > 0.0
    with TuningDatabase(database) as store:
        known = store.library(MATMUL, result.target)
        assert {record.schedule.template for record in known} >= {"numpy"}
        assert store.best(MATMUL, result.target).record == result.best
    assert result.progress.best == result.best


@pytest.mark.parametrize("device", devices.names("opencl"))
def test_a_lost_contest_costs_a_notice(
    database: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: object) -> Any:
        raise DeviceError("the contest was lost: crashed")

    monkeypatch.setattr(rivals, "hold", lost)
    observer = Notices()
    result = autotune.tune(
        MATMUL, device=device, database=database, trials=2, plan=QUICK, observer=observer
    )
    assert (result.outcome, result.ratios) == ("finished", {})
    if result.target.is_cpu:
        assert any("the contest was lost" in text for text in observer.texts)
