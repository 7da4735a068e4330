"""Recorded spaces stand in for devices, honestly."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording_samples import recording

from autotune.recorded import RecordedSpace
from autotune.recordings.noise import MeasuredNoise, Repeats, find
from autotune.replay import Policy, default_policies, replay, searched
from autotune.strategies import STRATEGIES
from autotune.strategies.evolutionary import Evolutionary
from autotune.strategies.spaces import SearchableSpace
from autotune.testing.strategy import StrategyConformance, StrategyFactory
from records import Schedule, Status
from records.errors import InvalidInputError


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


_AFTER_WARMING_UP = """
import sys
from pathlib import Path
from autotune.recorded import RecordedSpace
from autotune.replay import Policy, replay, warm_up

recorded = RecordedSpace.load(Path(sys.argv[1]))
for policy in map(Policy.parse, ("guided", "guided+random-forest")):
    warm_up(policy, recorded)
    before = set(sys.modules)
    replay(policy, recorded, 40, 0)
    print(sorted(set(sys.modules) - before))
"""


def test_no_search_is_charged_with_imports_after_warming_up(tmp_path: Path) -> None:
    path = tmp_path / "tile.json"
    path.write_text(json.dumps(recording()))
    words = [sys.executable, "-c", _AFTER_WARMING_UP, str(path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["[]", "[]"]


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


POLICIES = [*map(Policy, STRATEGIES), Policy("evolutionary", "xgboost")]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_replay_is_a_rising_curve_up_to_the_optimum(
    recorded: RecordedSpace, policy: Policy
) -> None:
    found = replay(policy, recorded, 10_000, seed=0)
    curve = list(found.fractions)
    assert len(curve) == recorded.size
    assert curve == sorted(curve)
    assert found.elapsed_s > 0.0
    assert curve[-1] == 1.0


def test_nothing_survives_from_one_replay_to_the_next(recorded: RecordedSpace) -> None:
    policy = Policy("evolutionary", "xgboost")
    first = replay(policy, recorded, 60, seed=3).fractions
    replay(policy, recorded, 60, seed=4)
    assert replay(policy, recorded, 60, seed=3).fractions == first


def test_failed_trials_count(recorded: RecordedSpace) -> None:
    curve = replay(Policy("exhaustive"), recorded, 60, seed=0).fractions
    times_s = [recorded.measure(schedule).time_s for schedule in list(recorded)[:60]]
    assert None in times_s
    best_s = float("inf")
    for fraction, time_s in zip(curve, times_s, strict=True):
        best_s = min(best_s, time_s or float("inf"))
        assert fraction == pytest.approx(recorded.optimum_s / best_s)


def test_what_other_devices_told_leads_from_the_first_trial(recorded: RecordedSpace) -> None:
    policy = Policy("evolutionary", "xgboost")
    other = replace(recorded.target, device="another")
    known = [
        replace(record, target=other)
        for record in searched(Policy("exhaustive"), recorded, recorded.size, 0)
    ]
    assert len(known) == recorded.size
    cold = [replay(policy, recorded, 12, seed).fractions[-1] for seed in range(3)]
    warm = [replay(policy, recorded, 12, seed, earlier=known).fractions[-1] for seed in range(3)]
    assert np.mean(warm) > np.mean(cold)


def test_policies_by_name() -> None:
    assert Policy.parse("random") == Policy.parse("random+none") == Policy("random")
    assert Policy.parse("guided") == Policy.parse("guided+ensemble") == default_policies()[0]
    assert Policy.parse("guided+none").name == "guided+none"
    assert Policy.parse(" evolutionary+xgboost").name == "evolutionary+xgboost"
    assert all(Policy.parse(each.name) == each for each in default_policies())
    with pytest.raises(InvalidInputError, match="no strategy 'psychic'; there are: "):
        Policy.parse("psychic")
    with pytest.raises(InvalidInputError, match="no cost model ''; there are: "):
        Policy.parse("random+")
    with pytest.raises(InvalidInputError, match="tabu follows measurements alone; name it without"):
        Policy.parse("tabu+ensemble")


def test_restrictions_that_allow_what_was_measured_become_the_space(tmp_path: Path) -> None:
    path = tmp_path / "tile.json"
    path.write_text(json.dumps(recording() | {"restrictions": ["rows*columns <= 256"]}))
    ruled = RecordedSpace.load(path)
    assert [len(space.constraints) for space in ruled.spaces] == [1]
    path.write_text(json.dumps(recording() | {"restrictions": ["rows*columns <= 512"]}))
    listed = RecordedSpace.load(path)
    assert [len(space.constraints) for space in listed.spaces] == [0]
    assert set(ruled) == set(listed)


def repeats(spread: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    times_ms = np.array(recording()["time_ms"], dtype=np.float32)
    factors = 1.0 + spread * np.random.default_rng(0).random((len(times_ms), 8))
    return (times_ms[:, None] * factors).astype(np.float32)


def test_noise_draws_from_what_was_measured(recorded: RecordedSpace) -> None:
    times_ms = repeats(0.3)
    noise = MeasuredNoise(recorded, times_ms)
    rng = np.random.default_rng(1)
    for row, schedule in zip(times_ms, recorded.measurements, strict=True):
        drawn = noise.measure(schedule, rng)
        assert drawn.is_ok == recorded.measure(schedule).is_ok == np.isfinite(row).all()
        assert all(np.isclose(row * 1e-3, time_s).any() for time_s in drawn.times_s)


def test_noise_hides_the_best_but_not_from_the_score(recorded: RecordedSpace) -> None:
    policy = Policy("random")
    quiet = replay(policy, recorded, 10_000, seed=0, noise=MeasuredNoise(recorded, repeats(0.0)))
    assert quiet.fractions == replay(policy, recorded, 10_000, seed=0).fractions
    noise = MeasuredNoise(recorded, repeats(30.0))
    loud = replay(policy, recorded, 10_000, seed=0, noise=noise).fractions
    assert max(loud) <= 1.0
    assert list(loud) != sorted(loud)


def test_runs_of_kernels_are_counted(recorded: RecordedSpace) -> None:
    noise = MeasuredNoise(recorded, repeats(0.01))
    every = replay(Policy("random"), recorded, 10_000, seed=0, noise=noise)
    failed = sum(not measured.is_ok for measured in recorded.measurements.values())
    assert every.runs[-1] == 5 * (recorded.size - failed) + failed
    assert len(every.runs) == len(every.fractions) == recorded.size

    early = Repeats(noise, drop_factor=1.5)
    fewer = replay(Policy("random"), recorded, 10_000, seed=0, noise=early)
    assert fewer.runs[-1] < 0.7 * every.runs[-1]
    assert fewer.fractions[-1] > 0.98

    racing = replay(Policy("racing"), recorded, 10_000, seed=0, noise=early)
    assert recorded.size < racing.runs[-1] < 0.7 * fewer.runs[-1]
    assert len(racing.runs) == len(racing.fractions) == recorded.size
    assert racing.fractions[-1] > 0.98


def test_noise_is_found_beside_and_told_from_other_files(
    tmp_path: Path, recorded: RecordedSpace
) -> None:
    recording_path = tmp_path / "set" / "tile.json.gz"
    with pytest.raises(InvalidInputError, match="replay without noise"):
        find(tmp_path / "noise", recording_path)
    (tmp_path / "noise").mkdir()
    path = tmp_path / "noise" / "tile.npz"
    np.savez(path, times_ms=repeats(0.1))
    assert find(tmp_path / "noise", recording_path) == path
    assert MeasuredNoise.load(path, recorded)
    np.savez(path, times_ms=repeats(0.1)[:-1])
    with pytest.raises(InvalidInputError, match=r"tile\.npz: need repeats of 234 schedules"):
        MeasuredNoise.load(path, recorded)
    np.savez(path, other=repeats(0.1))
    with pytest.raises(InvalidInputError, match="with an array 'times_ms'"):
        MeasuredNoise.load(path, recorded)
    path.write_text("no archive")
    with pytest.raises(InvalidInputError, match="need an .npz file"):
        MeasuredNoise.load(path, recorded)
