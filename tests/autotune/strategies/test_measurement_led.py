"""The searches that follow measurements alone: each keeps the contract and finds the way down."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.strategies import make_strategy
from autotune.strategies.annealing import Annealing, parallel_annealing
from autotune.strategies.base import SearchStrategy
from autotune.strategies.differential_evolution import DifferentialEvolution
from autotune.strategies.genetic import Genetic
from autotune.strategies.history import History
from autotune.strategies.levels import LevelSpace
from autotune.strategies.particle_swarm import ParticleSwarm
from autotune.strategies.tabu import Tabu
from autotune.testing.strategy import (
    StrategyConformance,
    StrategyFactory,
    example_space,
    space_of_size,
)
from records import Measurement, Schedule, Status
from search_spaces.space import Constraint, SearchSpace, boolean, choice, power_of_two
from search_spaces.union import UnionSpace

FAILURE = Measurement.failed(Status.LAUNCH_ERROR, "too many resources")
NAMES = (
    "genetic",
    "differential-evolution",
    "annealing",
    "parallel-annealing",
    "tabu",
    "particle-swarm",
)


class TestGenetic(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Genetic


class TestDifferentialEvolution(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return DifferentialEvolution


class TestAnnealing(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Annealing


class TestParallelAnnealing(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return parallel_annealing


class TestTabu(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Tabu


class TestParticleSwarm(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return ParticleSwarm


def sparse() -> UnionSpace:
    """65,536 combinations a template; 1 in 11 of one legal, 1 in 4,096 of the other."""
    knobs = [power_of_two(name, 1, 2**15) for name in "abcd"]
    square = Constraint(("a", "b"), lambda a, b: a * b == 256 or a == b, "{a}x{b} is no tile")
    equal = Constraint(("a", "b", "c", "d"), lambda *x: len(set(x)) == 1, "{a} is not {b}")
    return UnionSpace(
        [SearchSpace("many", 1, knobs, [square]), SearchSpace("few", 1, knobs, [equal])]
    )


def sparse_time_s(schedule: Schedule) -> float:
    few = 20.0 if schedule.template == "few" else 0.0
    return float(1.0 + few + sum((np.log2(schedule[name]) - 4.0) ** 2 for name in "abcd"))


def best_found(strategy: SearchStrategy, trials: int, batch: int = 4) -> float:
    times_s = [np.inf]
    while len(times_s) <= trials:
        for schedule in strategy.ask(batch):
            times_s.append(sparse_time_s(schedule))
            strategy.tell(schedule, Measurement.ok((times_s[-1],)))
    return min(times_s)


@pytest.mark.parametrize("name", NAMES)
def test_the_way_down_is_found_where_little_is_legal(name: str) -> None:
    ours = np.mean([best_found(make_strategy(name, sparse(), seed), 100) for seed in range(4)])
    drawn = np.mean([best_found(make_strategy("random", sparse(), seed), 100) for seed in range(4)])
    assert ours < drawn


@pytest.mark.parametrize("name", ["genetic", "annealing", "parallel-annealing", "tabu"])
def test_it_moves_to_where_kernels_work(name: str) -> None:
    """Seven of eight modes fail."""
    knobs = [power_of_two("tile", 1, 2**15), choice("mode", tuple(range(8))), boolean("pad")]
    worked = 0
    for seed in range(4):
        strategy = make_strategy(name, UnionSpace([SearchSpace("picky", 1, knobs, [])]), seed)
        for schedule in (each for _ in range(15) for each in strategy.ask(4)):
            works = schedule["mode"] == 3
            worked += works
            strategy.tell(schedule, Measurement.ok((1.0,)) if works else FAILURE)
    assert worked > 1.4 * 4 * 60 / 8  # by chance 30


def test_a_single_chain_stays_near_its_place_in_a_batch() -> None:
    space = UnionSpace(
        [SearchSpace("plane", 1, [power_of_two(name, 1, 2**15) for name in "ab"], [])]
    )
    strategy = Annealing(space, 0)
    first = list(strategy.ask(10))
    for schedule in first:
        strategy.tell(schedule, Measurement.ok((1.0 if schedule == first[3] else 2.0,)))
    assert set(strategy.ask(8)) <= set(space.neighbours(first[3]))


def test_levels_lead_back_to_their_schedules() -> None:
    space = example_space()
    levels = LevelSpace(space, History(space))
    for schedule in space:
        again = levels.unseen_near(levels.of(schedule), schedule, np.random.default_rng(0))
        assert again == schedule


def test_levels_lead_to_a_legal_neighbour_of_what_was_seen() -> None:
    space = example_space()
    history = History(space)
    levels = LevelSpace(space, history)
    corner = space.at(0)
    history.mark([corner])
    outside = levels.of(corner) * 9.0 - 4.0
    assert levels.unseen_near(outside, corner, np.random.default_rng(0)) in space.neighbours(corner)


def test_levels_lead_nowhere_once_a_template_is_used_up() -> None:
    space = space_of_size(4)
    history = History(space)
    history.mark(space)
    levels = LevelSpace(space, history)
    assert levels.unseen_near(np.zeros(1), space.at(0), np.random.default_rng(0)) is None
