"""The benchmark of what searches expect: its tables on a small space."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from autotune.recorded import RecordedSpace
from autotune.replay import default_policies

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("outlook")


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """625 schedules; the best is 4, 2, 1, 0."""
    configs = list(itertools.product(range(5), repeat=4))
    times = [
        1.0 + abs(a - 4) + 0.5 * abs(b - 2) + 0.1 * abs(c - 1) * (a + 1) + 0.05 * d
        for a, b, c, d in configs
    ]
    path = tmp_path / "kernel__device.json"
    params = {name: list(range(5)) for name in "abcd"}
    content = {"kernel": "kernel", "device": "device", "params": params, "restrictions": []}
    path.write_text(json.dumps(content | {"configs": configs, "time_ms": times}))
    return path


def test_it_compares_what_was_expected_with_what_came(
    benchmark: ModuleType, space: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tables.md"
    words = [str(space), "--seeds", "1", "--trials", "130", "-o", str(output)]
    outcome = CliRunner().invoke(benchmark.main, words)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.startswith("spaces: 1; searches of each: 1; trials of each: 130")
    tables = output.read_text().split("\n\n")[1:]
    assert len(tables) == 6
    for table in tables:
        rows = [line.count("|") for line in table.strip().splitlines()]
        assert len(rows) >= 3 and len(set(rows)) == 1


def test_a_search_knows_what_it_gained_and_what_was_left(
    benchmark: ModuleType, space: Path
) -> None:
    recorded = RecordedSpace.load(space)
    found = benchmark.search(default_policies()[0], "small", recorded, 130, 0)
    assert len(found.fractions) == 130
    assert list(found.fractions) == sorted(found.fractions)
    assert found.gained(60) == found.fractions[109] / found.fractions[59] - 1.0
    assert found.lost(130) == 0.0 and found.lost(20) >= 0.0
    assert found.stops_at(1e-9) == 130
    assert 64 <= found.stops_at(10.0) < 130
    for moment in found.moments:
        if found.fractions[moment.trials - 1] == 1.0:
            assert not moment.left
