"""A search that follows what is expected, beside one that does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from autotune.proposer import Proposer
from autotune.strategies.guided import Guided
from autotune.strategies.hedged import ALONE, JUDGED, Hedged
from autotune.strategies.random_search import RandomSearch
from autotune.strategies.spaces import SearchableSpace
from autotune.testing.cost_model import TARGET, workload
from autotune.testing.strategy import (
    StrategyConformance,
    StrategyFactory,
    example_measurement,
    example_space,
    search,
)
from cost_model.trust import Trust
from records import Schedule

SPACE = example_space()
FIRST = SPACE.sample(4, np.random.default_rng(3))


def right(schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
    return np.array([-(example_measurement(each).time_s or 99.0) for each in schedules])


def wrong(schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
    return -right(schedules)


def alone(space: SearchableSpace, seed: int) -> Proposer:
    return Proposer(RandomSearch(space, seed), None, Trust(), workload(), TARGET)


class TestHedged(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return lambda space, seed: Hedged(
            Guided(space, seed), alone(space, seed), right, lambda _: None
        )


class TestHedgedWithoutReason(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return lambda space, seed: Hedged(
            Guided(space, seed), alone(space, seed), wrong, lambda _: None
        )


class Counted:
    """A search that remembers what it was asked and told."""

    def __init__(self) -> None:
        self._search = alone(SPACE, 1)
        self.asked: list[Schedule] = []
        self.told: list[Schedule] = []

    def next(self, n: int) -> Sequence[Schedule]:
        chosen = self._search.next(n)
        self.asked.extend(chosen)
        return chosen

    def tell(self, schedule: Schedule, measurement: object) -> None:
        self.told.append(schedule)
        self._search.tell(schedule, example_measurement(schedule))

    def refit(self) -> None:
        self._search.refit()


def test_what_was_given_comes_first_and_then_half_is_of_the_other_search() -> None:
    other = Counted()
    strategy = Hedged(RandomSearch(SPACE, 0), other, right, lambda _: None, FIRST)
    asked = search(strategy, 4, ALONE)
    assert asked[:4] == FIRST and not other.asked
    asked = search(strategy, 4, 60)
    assert 20 < len(set(asked) & set(other.asked)) < 40


def test_the_other_search_knows_its_own_trials_alone() -> None:
    other = Counted()
    search(Hedged(RandomSearch(SPACE, 0), other, right, lambda _: None, FIRST), 4, 60)
    assert other.told
    assert set(other.told) == set(other.asked)


def test_an_earlier_session_is_known_to_both() -> None:
    other = Counted()
    strategy = Hedged(RandomSearch(SPACE, 0), other, right, lambda _: None, FIRST)
    known = [*SPACE.sample(30, np.random.default_rng(5)), FIRST[1]]
    for schedule in known:
        strategy.tell(schedule, example_measurement(schedule))
    assert set(other.told) == set(known)
    assert strategy.ask(8) == [each for each in FIRST if each not in known]


def test_expectations_no_better_than_guessing_are_ignored_and_said_to_be() -> None:
    other, notices = Counted(), list[str]()
    strategy = Hedged(RandomSearch(SPACE, 0), other, wrong, notices.append, FIRST)
    before = search(strategy, 4, JUDGED)
    after = search(strategy, 4, 24)
    assert len(notices) == 1
    assert "what is known of others is ignored, being no better than guessing" in notices[0]
    assert set(after) <= set(other.asked)
    assert set(before) <= set(other.told)


def test_expectations_that_hold_are_kept() -> None:
    notices: list[str] = []
    search(Hedged(RandomSearch(SPACE, 0), Counted(), right, notices.append), 4, 100)
    assert notices == []
