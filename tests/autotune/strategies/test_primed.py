"""A search that begins with what a model expects: still a strategy, and put to the test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from autotune.strategies.guided import Guided
from autotune.strategies.primed import Primed
from autotune.strategies.random_search import RandomSearch
from autotune.testing.strategy import (
    StrategyConformance,
    StrategyFactory,
    example_measurement,
    example_space,
)
from records import Schedule


def right(schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
    return np.array([-(example_measurement(each).time_s or 99.0) for each in schedules])


def wrong(schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
    return -right(schedules)


class TestPrimed(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return lambda space, seed: Primed(Guided(space, seed), space, right, seed, lambda _: None)


class TestPrimedWithoutReason(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return lambda space, seed: Primed(
            RandomSearch(space, seed), space, wrong, seed, lambda _: None
        )


def primed(expectation: object, notices: list[str]) -> Primed:
    space = example_space()
    return Primed(Guided(space, 0), space, expectation, 0, notices.append)  # type: ignore[arg-type]


def told(strategy: Primed, n: int = 12) -> list[Schedule]:
    asked = list(strategy.ask(n))
    for schedule in asked:
        strategy.tell(schedule, example_measurement(schedule))
    return asked


def best_s(schedules: Sequence[Schedule]) -> float:
    return min(example_measurement(each).time_s or 99.0 for each in schedules)


def test_half_of_the_first_two_batches_is_what_is_expected_to_be_fast() -> None:
    notices: list[str] = []
    strategy = primed(right, notices)
    optimum_s = best_s(list(example_space()))
    first, second, third = (told(strategy) for _ in range(3))
    assert len(first) == 8 and 4 < len(second) <= 8 and len(third) == 12
    assert best_s(first[:4]) == optimum_s
    assert best_s(second[:4]) < best_s(first[4:])
    assert notices == []


def test_expectations_no_better_than_guessing_are_dropped_with_a_notice() -> None:
    notices: list[str] = []
    strategy = primed(wrong, notices)
    told(strategy)
    assert len(told(strategy)) == 12  # the strategy's alone
    told(strategy)
    assert len(notices) == 1 and "no better than guessing" in notices[0]


def test_a_search_that_goes_on_is_not_primed() -> None:
    strategy = primed(wrong, [])
    known = next(iter(example_space()))
    strategy.tell(known, example_measurement(known))
    plain = Guided(example_space(), 0)
    plain.tell(known, example_measurement(known))
    assert strategy.ask(8) == plain.ask(8)


def test_nothing_is_asked_twice_while_answers_are_awaited() -> None:
    strategy = primed(right, [])
    asked = [schedule for _ in range(4) for schedule in strategy.ask(12)]
    assert len(asked) == len(set(asked))
