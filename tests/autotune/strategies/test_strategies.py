"""Every strategy keeps the contract, and each does what it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from autotune.strategies import STRATEGIES, make_strategy
from autotune.strategies.base import SearchStrategy
from autotune.strategies.evolutionary import Evolution, Evolutionary
from autotune.strategies.exhaustive import Exhaustive
from autotune.strategies.local_search import LocalSearch
from autotune.strategies.random_search import RandomSearch
from autotune.strategies.sampling import FIRST_TRIES
from autotune.testing.strategy import (
    StrategyConformance,
    StrategyFactory,
    example_measurement,
    example_space,
    search,
)
from records import Measurement, Schedule
from records.errors import InvalidInputError
from search_spaces.space import SearchSpace, power_of_two, split
from search_spaces.union import UnionSpace


class TestRandomSearch(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return RandomSearch


class TestExhaustive(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Exhaustive


class TestLocalSearch(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return LocalSearch


class TestEvolutionary(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Evolutionary


class TestEvolutionaryWithASmallPool(StrategyConformance):
    """The same, too large a space to be scored whole."""

    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return lambda space, seed: Evolutionary(space, seed, Evolution(pool=40))


def test_the_table_makes_each_by_name() -> None:
    for name in STRATEGIES:
        assert len(make_strategy(name, example_space(), 0).ask(4)) == 4
    with pytest.raises(InvalidInputError, match="no strategy 'psychic'; there are: guided"):
        make_strategy("psychic", example_space(), 0)


def test_exhaustive_goes_in_the_order_of_the_space() -> None:
    space = example_space()
    assert search(Exhaustive(space, 9), 10) == list(space)


def test_random_draws_are_uniform_within_a_template() -> None:
    space = UnionSpace([SearchSpace("one", 1, [power_of_two("rows", 1, 512)], [])])
    counts: Counter[Schedule] = Counter()
    for seed in range(600):
        counts.update(RandomSearch(space, seed).ask(3))
    assert len(counts) == 10
    assert all(130 <= count <= 230 for count in counts.values())  # 180 expected, deviation 11


def huge_and_small() -> UnionSpace:
    huge = [split(name, 720720) for name in ("a", "b", "c", "d")]  # 240 divisors each
    small = [power_of_two("rows", 1, 2**15), power_of_two("columns", 1, 2**15)]
    return UnionSpace([SearchSpace("huge", 1, huge, []), SearchSpace("small", 1, small, [])])


def test_every_template_gets_its_first_tries_however_small() -> None:
    asked = RandomSearch(huge_and_small(), 0).ask(2 * FIRST_TRIES)
    assert Counter(schedule.template for schedule in asked) == {
        "huge": FIRST_TRIES,
        "small": FIRST_TRIES,
    }


def test_the_more_promising_template_is_drawn_more_often() -> None:
    strategy = RandomSearch(huge_and_small(), 0)
    for _ in range(5):
        for schedule in strategy.ask(20):
            fast = schedule.template == "small"
            strategy.tell(schedule, Measurement.ok((1.0 if fast else 2.0,)))
    asked = Counter(schedule.template for schedule in strategy.ask(60))
    assert asked["small"] > 3 * asked["huge"]


def found(name: str, seed: int, evaluations: int) -> float:
    strategy = make_strategy(name, bowl(), seed)
    return min(bowl_time_s(schedule) for schedule in told_search(strategy, evaluations))


def bowl() -> UnionSpace:
    """65,536 schedules with one optimum."""
    knobs = [power_of_two(name, 1, 2**15) for name in "abcd"]
    return UnionSpace([SearchSpace("bowl", 1, knobs, [])])


def bowl_time_s(schedule: Schedule) -> float:
    return float(1.0 + sum((np.log2(schedule[name]) - 5.0) ** 2 for name in "abcd"))


def told_search(strategy: SearchStrategy, evaluations: int) -> list[Schedule]:
    asked: list[Schedule] = []
    while len(asked) < evaluations:
        for schedule in strategy.ask(10):
            strategy.tell(schedule, Measurement.ok((bowl_time_s(schedule),)))
            asked.append(schedule)
    return asked


@pytest.mark.parametrize("name", ["local", "evolutionary"])
def test_following_the_fast_beats_random(name: str) -> None:
    seeds = range(5)
    ours = np.median([found(name, seed, 120) for seed in seeds])
    random = np.median([found("random", seed, 120) for seed in seeds])
    assert ours < random


def oracle(schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
    return -np.array([bowl_time_s(schedule) for schedule in schedules])


def test_a_perfect_guide_leads_to_the_optimum_at_once() -> None:
    strategy = Evolutionary(bowl(), 0)
    told_search(strategy, 20)
    strategy.guide(oracle)
    assert min(map(bowl_time_s, told_search(strategy, 30))) == 1.0


def test_a_guided_ask_keeps_exploring() -> None:
    strategy = Evolutionary(bowl(), 0, Evolution(explore=0.25, near=0.0))
    told_search(strategy, 20)
    strategy.guide(oracle)
    times_s = sorted(map(bowl_time_s, strategy.ask(40)))
    assert np.median(times_s) < 10.0  # bred
    assert sum(time_s > 25.0 for time_s in times_s) >= 4  # of the 10 drawn at random


def test_resuming_starts_from_what_was_told() -> None:
    strategy = Evolutionary(example_space(), 0)
    earlier = search(RandomSearch(example_space(), 3), 10, 100)
    for schedule in earlier:
        strategy.tell(schedule, example_measurement(schedule))
    times_s = [example_measurement(each).time_s or np.inf for each in strategy.ask(20)]
    earlier_s = [example_measurement(each).time_s or np.inf for each in earlier]
    assert np.median(times_s) < np.median(earlier_s)
