"""The default strategy: first schedules that share out values, then what the model chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from autotune.strategies.guided import Guidance, Guided
from autotune.strategies.pool import PoolSizes
from autotune.testing.strategy import (
    StrategyConformance,
    StrategyFactory,
    example_measurement,
    example_space,
    search,
)
from records import Measurement, Schedule
from search_spaces.space import SearchSpace, choice, power_of_two
from search_spaces.union import UnionSpace

SMALL_POOL = PoolSizes(drawn=20, elite=2, children=4, climbers=2, steps=2)


class TestGuided(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Guided


class TestGuidedOverALargeSpace(StrategyConformance):
    """The same, the space too large to be scored whole."""

    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return lambda space, seed: Guided(space, seed, Guidance(whole=0, pool=SMALL_POOL))


class Chooser:
    """A score that chooses the slowest-scored: what it says as a batch is what counts."""

    def __init__(self) -> None:
        self.offered: list[Sequence[Schedule]] = []

    def __call__(self, schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
        return np.array([-(example_measurement(each).time_s or 99.0) for each in schedules])

    def choose(
        self, schedules: Sequence[Schedule], free: npt.NDArray[np.bool_], n: int
    ) -> Sequence[int]:
        self.offered.append(schedules)
        return [at for at in np.argsort(self(schedules)).tolist() if free[at]][:n]


def test_a_score_that_chooses_is_left_to_choose() -> None:
    strategy, chooser = Guided(example_space(), 0), Chooser()
    search(strategy, 8, 8)
    strategy.guide(chooser)
    slow = search(strategy, 4, 4)
    strategy.guide(chooser.__call__)
    fast = search(strategy, 4, 4)
    assert max(chooser(fast)) > -2.0 > max(chooser(slow))


def test_the_whole_space_is_offered_as_one_tuple_again_and_again() -> None:
    strategy, chooser = Guided(example_space(), 0), Chooser()
    search(strategy, 8, 8)
    strategy.guide(chooser)
    search(strategy, 4, 12)
    assert chooser.offered[0] is chooser.offered[-1]
    assert set(chooser.offered[0]) == set(example_space())


def large() -> UnionSpace:
    knobs = [power_of_two(name, 1, 2**15) for name in "abcdef"]
    return UnionSpace([SearchSpace("large", 1, knobs, [])])


def large_s(schedule: Schedule) -> float:
    return float(1.0 + sum((np.log2(schedule[name]) - 5.0) ** 2 for name in "abcdef"))


def told(strategy: Guided, asks: int) -> list[float]:
    times_s = []
    for _ in range(asks):
        for schedule in strategy.ask(8):
            strategy.tell(schedule, Measurement.ok((large_s(schedule),)))
            times_s.append(large_s(schedule))
    return times_s


def test_of_a_large_space_a_pool_is_offered_that_climbs() -> None:
    strategy = Guided(large(), 0, Guidance(pool=PoolSizes(drawn=100, children=20, elite=2)))
    told(strategy, 1)
    strategy.guide(lambda schedules: -np.array([large_s(each) for each in schedules]))
    assert min(told(strategy, 8)) == 1.0


def test_a_model_that_knows_already_is_followed_from_the_start() -> None:
    strategy = Guided(example_space(), 0)
    strategy.guide(Chooser().__call__)
    slowest, *_ = sorted(example_measurement(each).time_s or 99.0 for each in strategy.ask(4))[::-1]
    assert slowest < 2.0


def test_without_a_model_it_looks_around_the_fastest() -> None:
    times_s = told(Guided(large(), 0), 12)
    assert np.median(times_s[-20:]) < 0.7 * np.median(times_s[:8])


def test_first_schedules_share_out_the_values_of_every_knob() -> None:
    knobs = [choice(name, (1, 2, 3, 4)) for name in "abcdef"]
    space = UnionSpace([SearchSpace("even", 1, knobs, [])])
    asked = Guided(space, 0).ask(8)
    for name in "abcdef":
        counts = Counter(schedule[name] for schedule in asked)
        assert len(counts) == 4 and max(counts.values()) <= 4


def test_first_schedules_share_out_templates() -> None:
    spaces = [SearchSpace(f"t{at}", 1, [choice("a", tuple(range(40)))], []) for at in range(7)]
    asked = Guided(UnionSpace(spaces), 0).ask(100)
    assert Counter(each.template for each in asked) == {f"t{at}": 2 for at in range(7)}


def test_batches_grow_with_what_is_known() -> None:
    strategy = Guided(example_space(), 0)
    sizes = []
    while len(sizes) < 12:
        asked = strategy.ask(24)
        for schedule in asked:
            strategy.tell(schedule, example_measurement(schedule))
        sizes.append(len(asked))
        strategy.guide(Chooser())
    assert sizes[:2] == [8, 8]  # the first, and a third of what was asked for
    assert 8 < sizes[-1] <= 24
    assert sizes[1:] == sorted(sizes[1:])
