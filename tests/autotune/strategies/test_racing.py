"""Racing: what its heats promote."""

from __future__ import annotations

import pytest

from autotune.strategies.base import RunsHeats
from autotune.strategies.guided import Guided
from autotune.strategies.racing import Racing
from autotune.strategies.random_search import RandomSearch
from autotune.testing.strategy import StrategyConformance, StrategyFactory, example_space
from records import Measurement, Status


class TestRacing(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Racing


def heats(strategy: Racing, *times_s: float) -> list[object]:
    asked = list(strategy.ask(len(times_s)))
    for schedule, time_s in zip(asked, times_s, strict=True):
        strategy.tell_heat(schedule, Measurement.ok((time_s,)))
    return list(asked)


def racing() -> Racing:
    return Racing(example_space(), 0, RandomSearch(example_space(), 0))


def test_only_strategies_of_two_fidelities_run_heats() -> None:
    assert isinstance(racing(), RunsHeats)
    assert not isinstance(Guided(example_space(), 0), RunsHeats)


def test_the_fastest_are_promoted_one_at_a_time_and_once() -> None:
    strategy = racing()
    asked = heats(strategy, 5.0, 1.0, 2.0)
    assert strategy.promote(0) == []
    promoted = [strategy.promote(9) for _ in range(4)]
    assert promoted == [[asked[1]], [asked[2]], [asked[0]], []]


def test_more_challengers_at_a_time() -> None:
    strategy = Racing(example_space(), 0, RandomSearch(example_space(), 0), challengers=2)
    asked = heats(strategy, 5.0, 1.0, 2.0)
    assert strategy.promote(9) == [asked[1], asked[2]]


def test_who_was_slower_than_the_best_in_full_is_not_promoted() -> None:
    strategy = racing()
    heats(strategy, 5.0, 3.0, 1.0, 2.0)
    [leader] = strategy.promote(9)
    strategy.tell(leader, Measurement.ok((1.5, 1.5)))
    assert strategy.promote(9) == []
    later = heats(strategy, 1.6, 1.4, 9.0)
    assert strategy.promote(9) == [later[1]]


def test_the_lucky_in_a_heat_let_the_next_challenge() -> None:
    strategy = racing()
    asked = heats(strategy, 5.0, 1.0, 2.0)
    strategy.tell(strategy.promote(9)[0], Measurement.ok((3.0, 3.0)))
    assert strategy.promote(9) == [asked[2]]


def test_what_failed_is_not_promoted() -> None:
    strategy = racing()
    [schedule] = strategy.ask(1)
    strategy.tell(schedule, Measurement.failed(Status.CRASHED, "segmentation fault"))
    assert strategy.promote(9) == []


def test_what_was_told_in_full_is_not_promoted() -> None:
    strategy = racing()
    schedule = example_space().at(3)
    strategy.tell(schedule, Measurement.ok((2.0, 2.0)))
    strategy.tell_heat(schedule, Measurement.ok((1.0,)))
    assert strategy.promote(9) == []
    assert schedule not in strategy.ask(1000)
