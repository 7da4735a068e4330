"""The policy: who decides what is measured, when the model is believed, and when no longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from autotune.proposer import Proposer
from autotune.strategies import make_strategy
from autotune.strategies.exhaustive import Exhaustive
from autotune.testing.cost_model import EXAMPLE, TARGET, find_example, record, workload
from cost_model import make_model
from cost_model.acquisition import ACQUISITIONS, THOMPSON
from cost_model.base import CostModel, Prediction
from cost_model.relatives import Relatives
from cost_model.trust import Trust
from cost_model.xgboost_model import XGBoostModel
from records import Measurement, Schedule, Status, Target, TuningRecord, Workload
from search_spaces.union import UnionSpace

SPACE = UnionSpace([EXAMPLE.space])


class Oracle:
    """Knows every time (or, misled, its opposite) once it has seen `enough` records."""

    def __init__(self, enough: int = 10, sign: float = 1.0) -> None:
        self.ready = False
        self.sign = sign
        self._enough = enough

    def fit(self, records: Sequence[TuningRecord]) -> None:
        self.ready = len(records) >= self._enough

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        assert self.ready
        times_s = np.array([EXAMPLE.time_s(each) for each in schedules])
        return Prediction(-self.sign * times_s, np.zeros(len(schedules)))


def make(
    model: CostModel | None, strategy: str = "random", oversample: int = 1, seed: int = 0
) -> Proposer:
    return Proposer(
        make_strategy(strategy, SPACE, seed),
        model,
        Trust(),
        workload(),
        TARGET,
        oversample=oversample,
        seed=seed,
    )


def run(proposer: Proposer, batches: int, n: int = 10) -> tuple[list[list[Schedule]], list[str]]:
    proposed, notices = [], []
    for _ in range(batches):
        batch = proposer.next(n)
        for schedule in batch:
            proposer.tell(schedule, Measurement.ok((EXAMPLE.time_s(schedule),)))
        notices += proposer.refit()
        proposed.append(batch)
    return proposed, notices


def median_s(schedules: Sequence[Schedule]) -> float:
    return float(np.median([EXAMPLE.time_s(each) for each in schedules]))


def test_without_a_model_the_strategy_decides() -> None:
    batches, notices = run(make(None), 4)
    alone = make_strategy("random", SPACE, 0)
    assert [schedule for batch in batches for schedule in batch] == [
        schedule for _ in range(4) for schedule in alone.ask(10)
    ]
    assert notices == []


def test_the_first_schedules_are_the_strategys_and_then_the_model_prunes() -> None:
    batches, _ = run(make(Oracle(), oversample=8), 3)
    assert batches[0] == list(make_strategy("random", SPACE, 0).ask(10))
    assert median_s(batches[1]) < 0.5 * median_s(batches[0])


def test_pruning_keeps_an_exploring_share() -> None:
    batches, _ = run(make(Oracle(), oversample=8), 12)
    random_s = median_s(batches[0])
    explored = [each for batch in batches[1:] for each in batch if EXAMPLE.time_s(each) > random_s]
    assert 4 <= len(explored) <= 24  # 15 % of 110 are drawn blindly, half of those are slow


def test_nothing_is_lost_to_pruning() -> None:
    small = UnionSpace([EXAMPLE.space.fixed({"rows": 4, "columns": 4})])
    proposer = Proposer(
        Exhaustive(small, 0), Oracle(), Trust(), workload(), TARGET, oversample=5, seed=0
    )
    batches, _ = run(proposer, 4, n=7)
    proposed = [schedule for batch in batches for schedule in batch]
    assert len(proposed) == len(set(proposed)) == small.size == 16
    assert proposer.next(3) == []


def test_a_strategy_that_breeds_is_guided_instead() -> None:
    batches, _ = run(make(Oracle(), "evolutionary"), 5)
    best_s = min(map(EXAMPLE.time_s, EXAMPLE.space))
    assert min(EXAMPLE.time_s(each) for batch in batches for each in batch) == best_s


def test_a_model_that_misleads_is_dropped_with_a_notice() -> None:
    proposer = make(Oracle(sign=-1.0), oversample=8)
    batches, notices = run(proposer, 8)
    assert len(notices) == 1
    assert "no better than guessing" in notices[0]
    assert median_s(batches[1]) > 2.0 * median_s(batches[0])  # it did mislead
    assert median_s(batches[-1]) < median_s(batches[1])


def test_a_model_that_mends_is_followed_again() -> None:
    model = Oracle(sign=-1.0)
    proposer = make(model, oversample=8)
    run(proposer, 6)
    model.sign = 1.0
    batches, notices = run(proposer, 12)
    assert len(notices) == 1 and "is followed" in notices[0]
    assert median_s(batches[-1]) < median_s(batches[0])


@pytest.mark.parametrize(
    "strategy,model,oversample",
    [("guided", "ensemble", 1), ("evolutionary", "xgboost", 1), ("random", "xgboost", 4)],
)
def test_same_seed_and_same_measurements_give_the_same_proposals(
    strategy: str, model: str, oversample: int
) -> None:
    runs = [
        run(make(make_model(model, 7, find_example), strategy, oversample, seed=7), 6)[0]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_results_of_an_earlier_session_are_not_measured_again() -> None:
    earlier = EXAMPLE.space.sample(200, np.random.default_rng(0))
    proposer = make(Oracle(), "evolutionary")
    for schedule in earlier:
        proposer.tell(schedule, Measurement.ok((EXAMPLE.time_s(schedule),)))
    assert proposer.refit() == []
    batches, _ = run(proposer, 3)
    assert not set(earlier) & {each for batch in batches for each in batch}
    assert median_s(batches[0]) < median_s(earlier)  # guided from the first batch


def test_records_of_other_workloads_teach_the_model() -> None:
    model = Oracle(enough=50)
    schedules = EXAMPLE.space.sample(50, np.random.default_rng(0))
    proposer = Proposer(
        make_strategy("random", SPACE, 0),
        model,
        Trust(),
        workload(640),
        TARGET,
        earlier=[record(each) for each in schedules],
    )
    proposer.refit()
    assert model.ready
    assert len(proposer.next(10)) == 10


def test_goes_on_where_everything_fails() -> None:
    proposer = make(XGBoostModel(0, find_template=find_example), "evolutionary")
    failure = Measurement.failed(Status.LAUNCH_ERROR, "no")
    proposed: set[Schedule] = set()
    for _ in range(6):
        batch = proposer.next(12)
        assert len(batch) == 12 and proposed.isdisjoint(batch)
        proposed.update(batch)
        for schedule in batch:
            proposer.tell(schedule, failure)
        assert proposer.refit() == []


def test_a_model_taught_by_other_workloads_leads_from_the_first_batch() -> None:
    schedules = EXAMPLE.space.sample(50, np.random.default_rng(0))
    proposer = Proposer(
        make_strategy("evolutionary", SPACE, 0),
        Oracle(),
        Trust(),
        workload(640),
        TARGET,
        earlier=[record(each) for each in schedules],
    )
    proposer.refit()
    best_s = min(map(EXAMPLE.time_s, EXAMPLE.space))
    assert min(map(EXAMPLE.time_s, proposer.next(12))) < 1.2 * best_s


@pytest.mark.parametrize("acquisition", [*ACQUISITIONS, THOMPSON])
def test_the_default_finds_the_best_of_thousands_in_a_few_dozen(acquisition: str) -> None:
    proposer = Proposer(
        make_strategy("guided", SPACE, 0),
        make_model("ensemble", 0, find_example),
        Trust(),
        workload(),
        TARGET,
        acquisition=acquisition,
    )
    batches, _ = run(proposer, 8)
    best_s = min(map(EXAMPLE.time_s, EXAMPLE.space))
    assert min(EXAMPLE.time_s(each) for batch in batches for each in batch) < 1.02 * best_s
    assert len({each for batch in batches for each in batch}) == sum(map(len, batches))


def test_given_schedules_come_first_and_once() -> None:
    given = EXAMPLE.space.sample(6, np.random.default_rng(3))
    proposer = Proposer(
        make_strategy("guided", SPACE, 0), None, Trust(), workload(), TARGET, first=given
    )
    proposer.tell(given[0], Measurement.ok((1.0,)))  # of an earlier session
    batches, _ = run(proposer, 4, n=3)
    assert batches[0] + batches[1] == given[1:]
    assert not set(given) & {each for batch in batches[2:] for each in batch}


def test_it_accounts_for_the_model_and_for_what_is_left() -> None:
    proposer = make(make_model("ensemble", 0, find_example), "guided")
    assert proposer.report() is None
    run(proposer, 6)
    report = proposer.report()
    assert report is not None and report.followed
    assert report.accuracy is not None and report.accuracy > 0.7
    assert 0 < report.recall.foreseen <= report.recall.met <= 64
    assert report.within_50 is not None and report.within_90 is not None
    assert 0.2 < report.within_50 <= report.within_90 <= 1.0
    assert 10 <= report.timed <= 64
    assert report.outlook is not None and 0.0 <= report.outlook.left <= 1.0
    told = " / ".join(report.sentences())
    assert "the cost model is followed" in told
    assert "inside their 90 % intervals" in told
    assert "another 50 trials are expected to gain" in told
    assert "of pairs right" in report.hindsight
    assert "50 more: +" in report.foresight
    make_none = make(None)
    run(make_none, 2)
    assert make_none.report() is None


@pytest.mark.parametrize(
    "strategy,oversample,least",
    [("guided", 1, SPACE.size), ("evolutionary", 1, 300), ("random", 3, 20)],
)
def test_it_counts_what_was_weighed_and_left_out(
    strategy: str, oversample: int, least: int
) -> None:
    proposer = make(make_model("ensemble", 0, find_example), strategy, oversample)
    batches, _ = run(proposer, 4)
    batches.append(proposer.next(10))
    report = proposer.report()
    assert report is not None and report.candidates is not None
    candidates = report.candidates
    assert candidates.considered >= least
    if strategy == "guided":
        assert candidates.left_out == SPACE.size - sum(map(len, batches))
    assert 0 < candidates.left_out <= candidates.considered - len(batches[-1])
    assert f"of {candidates.considered:,} schedules weighed last" in " ".join(report.sentences())


def test_nothing_is_left_out_of_a_space_that_is_exhausted() -> None:
    small = UnionSpace([EXAMPLE.space.fixed({"rows": 4, "columns": 4})])
    strategy = make_strategy("guided", small, 0)
    model = make_model("ensemble", 0, find_example)
    proposer = Proposer(strategy, model, Trust(), workload(), TARGET)
    run(proposer, 12)
    assert proposer.next(5) == []
    report = proposer.report()
    assert report is not None and report.candidates is None and report.outlook is None


def test_no_gain_is_foretold_before_there_is_something_to_beat() -> None:
    """A model may be ready before anything was measured, where it knows of other devices."""
    other = Target.of("sim", "other", "example", {})
    drawn = EXAMPLE.space.sample(40, np.random.default_rng(0))
    earlier = [replace(record(each), target=other) for each in drawn]
    relatives = Relatives(earlier, workload(), TARGET, find_template=find_example)
    proposer = make(make_model("ensemble", 0, find_example, relatives), "guided")
    failure = Measurement.failed(Status.LAUNCH_ERROR, "too many resources")
    for result in (failure, Measurement.ok((1.0,))):
        proposer.refit()
        chosen = proposer.next(4)
        report = proposer.report()
        assert report is not None and report.candidates is not None and report.outlook is None
        for schedule in chosen:
            proposer.tell(schedule, result)
    proposer.refit()
    proposer.next(4)
    report = proposer.report()
    assert report is not None and report.outlook is not None


def test_a_model_that_misleads_says_so_in_its_report() -> None:
    proposer = make(Oracle(sign=-1.0), oversample=8)
    run(proposer, 8)
    report = proposer.report()
    assert report is not None and not report.followed and report.outlook is None
    assert report.accuracy is not None and report.accuracy < 0.6
    assert report.within_90 is None  # it has no notion of intervals
    assert report.hindsight == "ignored, no better than guessing"


class Pupil(Oracle):
    """Remembers what it was last taught."""

    def fit(self, records: Sequence[TuningRecord]) -> None:
        super().fit(records)
        self.taught = {each.schedule: each.measurement.times_s for each in records}
        assert len(self.taught) == len(records)


def test_a_full_trial_stands_in_place_of_its_heat() -> None:
    pupil = Pupil()
    proposer = make(pupil, "racing")
    assert proposer.heat_runs == 1
    assert make(None).heat_runs is None and make(None).promote(5) == []
    first = proposer.next(3)
    for schedule in (*first, first[1]):  # one heat twice, as two sessions may have had it
        proposer.tell(schedule, Measurement.ok((EXAMPLE.time_s(schedule),)), heat=True)
    [leader] = proposer.promote(5)
    assert leader == min(first, key=EXAMPLE.time_s)
    proposer.tell(leader, Measurement.ok((2.0, 3.0, 4.0)))
    proposer.refit()
    assert pupil.taught[leader] == (2.0, 3.0, 4.0)
    assert list(pupil.taught) == first
