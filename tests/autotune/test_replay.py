"""Recorded spaces stand in for devices, honestly."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.recorded import RecordedSpace
from autotune.replay import Policy, mean_at, replay
from autotune.strategies.evolutionary import Evolutionary
from autotune.strategies.spaces import SearchableSpace
from autotune.testing.strategy import StrategyConformance, StrategyFactory
from records import Schedule, Status
from records.errors import InvalidInputError


def recording() -> dict[str, Any]:
    """A tile kernel of 7 × 7 × 3 × 2 = 294 configurations, less those above 256 work-items."""
    params: dict[str, list[Any]] = {
        "rows": [1, 2, 4, 8, 16, 32, 64],
        "columns": [1, 2, 4, 8, 16, 32, 64],
        "order": ["a", "b", "c"],
        "pad": [False, True],
    }
    configs = [each for each in itertools.product(*params.values()) if each[0] * each[1] <= 256]
    times: list[float | None] = []
    status = {}
    for place, (rows, columns, order, pad) in enumerate(configs):
        if rows == 1 and pad:
            times.append(None)
            status[str(place)] = "CompilationFailedConfig"
            continue
        slowness = (np.log2(rows) - 4) ** 2 + (np.log2(columns) - 2) ** 2 + (order != "b") + pad
        times.append(1.0 + float(slowness))
    return {
        "kernel": "tile",
        "device": "made up",
        "params": params,
        "configs": configs,
        "time_ms": times,
        "status": status,
    }


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedSpace:
    path = tmp_path / "tile.json"
    path.write_text(json.dumps(recording()))
    return RecordedSpace.load(path)


class TestStrategyOnARecordedSpace(StrategyConformance):
    @pytest.fixture
    def strategy_factory(self) -> StrategyFactory:
        return Evolutionary

    @pytest.fixture
    def space(self, recorded: RecordedSpace) -> SearchableSpace:
        return recorded


def test_compressed_files_are_read_too(tmp_path: Path, recorded: RecordedSpace) -> None:
    path = tmp_path / "tile.json.gz"
    with gzip.open(path, "wt") as file:
        json.dump(recording(), file)
    assert list(RecordedSpace.load(path)) == list(recorded)


def test_measures_what_was_recorded(recorded: RecordedSpace) -> None:
    best = Schedule.of("tile", 1, {"rows": 16, "columns": 4, "order": "b", "pad": False})
    assert recorded.measure(best).time_s == pytest.approx(1e-3) == recorded.optimum_s
    failed = Schedule.of("tile", 1, {"rows": 1, "columns": 4, "order": "b", "pad": True})
    assert recorded.measure(failed).status is Status.COMPILE_ERROR
    assert recorded.measure(failed).error == "CompilationFailedConfig"


def test_has_no_data_for_anything_else(recorded: RecordedSpace) -> None:
    illegal = Schedule.of("tile", 1, {"rows": 64, "columns": 64, "order": "b", "pad": False})
    assert illegal not in recorded
    with pytest.raises(InvalidInputError, match="no recorded measurement of tile@1"):
        recorded.measure(illegal)


def test_steps_stay_in_the_space(recorded: RecordedSpace) -> None:
    rng = np.random.default_rng(0)
    for schedule, other in zip(recorded.sample(60, rng), recorded.sample(60, rng), strict=True):
        for step in recorded.neighbours(schedule):
            assert step in recorded
            assert sum(a != b for a, b in zip(step.knobs, schedule.knobs, strict=True)) == 1
        moved = recorded.mutate(schedule, rng)
        assert moved in recorded and moved != schedule
        child = recorded.crossover(schedule, other, rng)
        assert child in recorded
        assert all(child[knob] in (schedule[knob], other[knob]) for knob in child.values)


@pytest.mark.parametrize("missing", ["params", "configs", "time_ms"])
def test_files_that_are_no_recording_are_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({k: v for k, v in recording().items() if k != missing}))
    with pytest.raises(InvalidInputError, match=f"lacks {missing}"):
        RecordedSpace.load(path)


def test_files_with_too_few_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.json"
    path.write_text(json.dumps(recording() | {"time_ms": [1.0]}))
    with pytest.raises(InvalidInputError, match="1 times"):
        RecordedSpace.load(path)


POLICIES = [Policy("random"), Policy("local"), Policy("evolutionary", model=True)]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.strategy)
def test_a_replay_is_a_rising_curve_up_to_the_optimum(
    recorded: RecordedSpace, policy: Policy
) -> None:
    curve = replay(policy, recorded, 10_000, seed=0)
    assert len(curve) == recorded.size
    assert curve == sorted(curve)
    assert curve[-1] == 1.0


def test_nothing_survives_from_one_replay_to_the_next(recorded: RecordedSpace) -> None:
    policy = Policy("evolutionary", model=True)
    first = replay(policy, recorded, 60, seed=3)
    replay(policy, recorded, 60, seed=4)
    assert replay(policy, recorded, 60, seed=3) == first


def test_mean_of_curves_at_a_count() -> None:
    assert mean_at([[0.5, 0.5, 1.0], [0.0, 0.8]], 2) == pytest.approx(0.65)
    assert mean_at([[0.5, 0.5, 1.0], [0.0, 0.8]], 3) == pytest.approx(0.9)
