"""What every `SearchStrategy` must do. A test module subclasses `StrategyConformance`:

class TestMyStrategy(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self): return MyStrategy        # called as (space, seed)

    @pytest.fixture
    def space(self): ...                                 # optional: a few hundred schedules
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from autotune.strategies.base import SearchStrategy
from autotune.strategies.spaces import SearchableSpace
from records.measurement import Measurement, Status
from records.schedule import Schedule
from search_spaces.space import Constraint, SearchSpace, boolean, choice, power_of_two
from search_spaces.union import UnionSpace

StrategyFactory: TypeAlias = Callable[[SearchableSpace, int], SearchStrategy]


def example_space() -> UnionSpace:
    """Two templates, 221 schedules: one with a constraint, one of five schedules."""
    tiles = SearchSpace(
        "tiles",
        1,
        [
            power_of_two("rows", 1, 64),
            power_of_two("columns", 1, 64),
            choice("unroll", (1, 2, 4)),
            boolean("vectors"),
        ],
        [Constraint(("rows", "columns"), lambda r, c: r * c <= 1024, "{rows}x{columns} spills")],
    )
    return UnionSpace([tiles, SearchSpace("plain", 1, [choice("unroll", (1, 2, 4, 8, 16))], [])])


def space_of_size(size: int) -> UnionSpace:
    return UnionSpace([SearchSpace("small", 1, [choice("knob", tuple(range(size)))], [])])


def example_measurement(schedule: Schedule) -> Measurement:
    """A made-up device: smooth in the logarithm of the tile, some schedules fail."""
    knobs = schedule.values
    if schedule.template != "tiles":
        return Measurement.ok((3.0,))
    if knobs["unroll"] == 4 and knobs["vectors"] and knobs["rows"] == 1:
        return Measurement.failed(Status.COMPILE_ERROR, "out of registers")
    rows, columns = np.log2(float(schedule["rows"])), np.log2(float(schedule["columns"]))
    slowness = 1.0 + (rows - 4.0) ** 2 + (columns - 3.0) ** 2 + 0.1 * float(schedule["unroll"])
    return Measurement.ok((slowness * (0.8 if knobs["vectors"] else 1.0),))


def search(strategy: SearchStrategy, batch: int, evaluations: int | None = None) -> list[Schedule]:
    """Everything asked, and told at once, until the space or the evaluations are used up."""
    asked: list[Schedule] = []
    while evaluations is None or len(asked) < evaluations:
        most = batch if evaluations is None else min(batch, evaluations - len(asked))
        chosen = strategy.ask(most)
        if not chosen:
            break
        assert len(chosen) <= most
        for schedule in chosen:
            strategy.tell(schedule, example_measurement(schedule))
        asked.extend(chosen)
    return asked


def prefer_large_rows(schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
    return np.array([float(each["rows"]) if "rows" in each.values else 0.0 for each in schedules])


class StrategyConformance:
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        raise NotImplementedError("a fixture that gives a callable (space, seed) -> strategy")

    @pytest.fixture
    def space(self) -> SearchableSpace:
        return example_space()

    @pytest.mark.parametrize("batch", [1, 7, 1000])
    def test_asks_everything_once_and_then_nothing(
        self, strategy_factory: StrategyFactory, space: SearchableSpace, batch: int
    ) -> None:
        strategy = strategy_factory(space, 0)
        asked = search(strategy, batch)
        assert len(asked) == len(set(asked)) == space.size
        assert all(schedule in space for schedule in asked)
        assert list(strategy.ask(3)) == []

    def test_never_repeats_what_was_asked_but_not_told(
        self, strategy_factory: StrategyFactory, space: SearchableSpace
    ) -> None:
        strategy = strategy_factory(space, 1)
        asked: list[Schedule] = []
        while chosen := strategy.ask(9):
            asked.extend(chosen)
        assert len(asked) == len(set(asked)) == space.size

    def test_never_asks_what_it_was_told(
        self, strategy_factory: StrategyFactory, space: SearchableSpace
    ) -> None:
        told = space.sample(space.size // 2, np.random.default_rng(5))
        strategy = strategy_factory(space, 2)
        for schedule in told:
            strategy.tell(schedule, example_measurement(schedule))
        asked = search(strategy, 8)
        assert set(asked).isdisjoint(told)
        assert len(asked) == space.size - len(told)

    def test_ignores_results_from_outside_the_space(
        self, strategy_factory: StrategyFactory, space: SearchableSpace
    ) -> None:
        strategy = strategy_factory(space, 2)
        strategy.tell(Schedule.of("removed template", 7, {"x": 1}), Measurement.ok((1e-9,)))
        assert len(search(strategy, 16)) == space.size

    @pytest.mark.parametrize("size", [1, 2, 5])
    @pytest.mark.parametrize("guided", [False, True])
    def test_small_spaces(self, strategy_factory: StrategyFactory, size: int, guided: bool) -> None:
        strategy = strategy_factory(space_of_size(size), 0)
        strategy.guide(prefer_large_rows if guided else None)
        assert len(set(search(strategy, 3))) == size
        assert list(strategy.ask(1)) == []

    @pytest.mark.parametrize("guided", [False, True])
    def test_same_seed_and_same_results_give_the_same_proposals(
        self, strategy_factory: StrategyFactory, space: SearchableSpace, guided: bool
    ) -> None:
        runs = []
        for _ in range(2):
            strategy = strategy_factory(space, 11)
            strategy.guide(prefer_large_rows if guided else None)
            runs.append(search(strategy, 8, 80))
        assert runs[0] == runs[1]

    def test_survives_a_device_on_which_everything_fails(
        self, strategy_factory: StrategyFactory, space: SearchableSpace
    ) -> None:
        strategy = strategy_factory(space, 3)
        strategy.guide(prefer_large_rows)
        failure = Measurement.failed(Status.CRASHED, "segmentation fault")
        asked: list[Schedule] = []
        while chosen := strategy.ask(16):
            asked.extend(chosen)
            for schedule in chosen:
                strategy.tell(schedule, failure)
        assert len(asked) == len(set(asked)) == space.size

    def test_guidance_can_be_given_and_withdrawn(
        self, strategy_factory: StrategyFactory, space: SearchableSpace
    ) -> None:
        strategy = strategy_factory(space, 4)
        asked: list[Schedule] = []
        for turn in range(8):
            strategy.guide(prefer_large_rows if turn % 2 else None)
            asked += search(strategy, 5, 10)
        assert len(asked) == len(set(asked)) == 80
