"""The benchmark of searches: its tables on small spaces, and what it hands to Kernel Tuner."""

from __future__ import annotations

import gzip
import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from autotune.leaderboard import Standing
from autotune.recordings import read
from autotune.replay import Policy, Replayed
from records.errors import AutotuneError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def recording(kernel: str, device: str, shift: int, **more: Any) -> dict[str, Any]:
    sizes, orders = [1, 2, 4, 8, 16], ["a", "b"]
    params = {"rows": sizes, "columns": sizes, "order": orders}
    every = itertools.product(sizes, sizes, orders)
    configs = [(rows, columns, order) for rows, columns, order in every if rows * columns <= 64]
    times = [1.0 + abs(rows - shift) + columns % 5 + (at == "a") for rows, columns, at in configs]
    return {
        "kernel": kernel,
        "device": device,
        "params": params,
        "restrictions": ["rows * columns <= 64"],
        "configs": configs,
        "time_ms": [None, *times[1:]],
        **more,
    }


@pytest.fixture
def spaces(tmp_path: Path) -> Path:
    folder = tmp_path / "spaces"
    (folder / "set").mkdir(parents=True)
    for at, (kernel, more) in enumerate(
        [("tile", {}), ("tile", {}), ("gemm_01_8x8x64", {"problem": "8x8x64"}), ("alone", {})]
    ):
        with gzip.open(folder / "set" / f"{kernel}__d{at}.json.gz", "wt") as file:
            json.dump(recording(kernel, f"d{at}", 4 * at, **more), file)
    return folder


def test_the_tables(spaces: Path, tmp_path: Path) -> None:
    words = [str(spaces), "--seeds", "2", "--trials", "30", "--strategies", "random,local"]
    done = CliRunner().invoke(
        module("search").main, [*words, "--no-speed", "-o", str(tmp_path / "out.md")]
    )
    assert done.exit_code == 0, done.output
    assert done.output == (tmp_path / "out.md").read_text()
    lines = done.output.splitlines()
    assert lines[0] == "4 spaces, 2 seeds each, batches of 12"
    assert {"## Cold", "## Knowing relatives"} <= set(lines)
    assert "2 spaces; known: the 30 trials of a cold search on each relative" in lines
    assert sum(line.startswith(("| random", "| local")) for line in lines) == 4
    assert "| search | 10 | 25 | 30 | trials to 95 % | ms a trial |" in lines
    assert "| kernel of, cold → knowing | spaces | 10 | 25 | 30 |" in lines
    assert sum(line.startswith("| set/tile__d0 | 2 | ") for line in lines) == 1


def test_searches_are_the_same_in_several_processes(spaces: Path) -> None:
    runs, files = module("search_runs"), module("search_spaces_files").find([spaces], "tile")
    policy = Policy.parse("guided+gaussian-process")
    alone, together = (runs.Runs(files, 2, 14, 4, processes) for processes in (1, 2))
    for one, two in (
        (alone.cold(policy), together.cold(policy)),
        (alone.knowing_relatives(policy), together.knowing_relatives(policy)),
    ):
        assert one.name == two.name
        assert np.array_equal(one.fractions, two.fractions)


def test_spaces_that_knowing_relatives_harms_are_named(spaces: Path) -> None:
    search = module("search")
    files = module("search_spaces_files").find([spaces], "tile")

    def standing(*means: float) -> Standing:
        return Standing.of("", [[Replayed((mean,) * 100, 1.0)] for mean in means], 100)

    lines = list(search.by_kernel(files, standing(0.9, 0.5), standing(0.8, 0.7)))
    assert f"| set/tile__d0 | 2 |{' 0.700 → 0.750 |' * 4}" in lines
    assert lines[-2:] == [
        "- behind cold by more than 0.008 after 100 trials: 1 of 2",
        "  - set/tile__d0: 0.800, 0.900",
    ]


def test_files_that_have_repeats_are_searched_with_noise(spaces: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    words = [str(spaces), "--seeds", "1", "--trials", "20", "--strategies", "random", "--no-speed"]
    words += ["--no-transfer", "--noise", str(tmp_path / "noise")]
    done = CliRunner().invoke(module("search").main, words)
    assert "no space has repeats in" in done.output
    [file] = module("search_spaces_files").find([spaces], "alone")
    repeats = np.ones((file.size, 3), dtype=np.float32)
    np.savez(tmp_path / "noise" / "alone__d3.npz", times_ms=repeats)
    done = CliRunner().invoke(module("search").main, words)
    assert done.exit_code == 0, done.output
    assert "1 space; the best is what seems so" in done.output
    assert "| random, with noise |" in done.output


def test_relatives_are_of_one_kernel_and_shapes_are_not_part_of_its_name(spaces: Path) -> None:
    files = module("search_spaces_files")
    found = files.find([spaces])
    kin = {file.name: [each.name for each in files.relatives(file, found)] for file in found}
    assert kin["set/tile__d0"] == ["set/tile__d1"]
    assert kin["set/alone__d3"] == []
    [gemm] = files.find([spaces], "gemm")
    assert gemm.load().workload.op == "gemm"
    assert gemm.load().workload["size_2"] == 64
    with pytest.raises(AutotuneError, match="'absent' in its name"):
        files.find([spaces], "absent")


def test_the_cache_that_kernel_tuner_gets_says_the_same(spaces: Path, tmp_path: Path) -> None:
    rivals = module("search_rivals")
    [ours, *_] = (file.load() for file in module("search_spaces_files").find([spaces], "tile"))
    path = tmp_path / "cache.json"
    path.write_text(json.dumps(rivals.cache(ours)))
    [theirs] = read(path)
    assert set(theirs) == set(ours)
    for schedule in ours:
        assert theirs.measure(schedule).time_s == pytest.approx(ours.measure(schedule).time_s)


def test_without_kernel_tuner_it_says_how_to_get_it() -> None:
    rivals = module("search_rivals")
    with pytest.raises(AutotuneError, match="pip install kernel_tuner==1.5.0"):
        rivals.check(sys.executable)
    with pytest.raises(AutotuneError, match="is no Python interpreter"):
        rivals.check("/absent/python")


def test_construction_gives_the_size_of_the_space(spaces: Path) -> None:
    speed = module("search_speed")
    [file, *_] = module("search_spaces_files").find([spaces], "alone")
    size, built_s, listed_s = speed.ours(*file.restrictions())
    assert size == file.load().size
    assert 0.0 < built_s < listed_s
    [_, _, row] = speed.construction_rows([file], None)
    assert row.startswith(f"| set/alone__d3 | {size} | ") and row.endswith("| - | - |")


@pytest.mark.parametrize(
    "words,given,code,told",
    [
        (["--help"], "", 0, "JSON list of `params` and `restrictions`"),
        (["--wrong"], "[]", 2, "unrecognized arguments: --wrong"),
        ([], "", 2, "what stands on stdin is no JSON"),
        ([], '{"params": {}}', 2, "no list of spaces"),
        ([], "[]", 0, ""),
    ],
)
def test_the_script_that_times_others_says_how_it_is_used(
    words: list[str], given: str, code: int, told: str
) -> None:
    script = [sys.executable, str(BENCHMARKS / "space_construction.py"), *words]
    done = subprocess.run(script, input=given, capture_output=True, text=True)
    assert done.returncode == code
    assert told in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_the_space_of_ten_million_is_searched() -> None:
    speed = module("search_speed")
    policy = module("search").Policy("random")
    space = speed.MadeUpSpace(10, 7)
    assert space.size == 10**7
    batches = list(speed.batches_s(policy, space, 20, 8))
    assert [trials for trials, _ in batches] == [8, 8, 4]
    assert all(spent_s > 0.0 for _, spent_s in batches)


def test_runs_that_a_search_needs(
    spaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    racing = module("racing")
    monkeypatch.setattr(racing, "BUDGETS", (70, 140))
    [file] = module("search_spaces_files").find([spaces], "alone")
    (tmp_path / "noise").mkdir()
    times_ms = np.array(recording("alone", "d3", 12)["time_ms"], dtype=np.float32)
    np.savez(tmp_path / "noise" / "alone__d3.npz", times_ms=np.repeat(times_ms[:, None], 3, axis=1))
    words = [str(spaces), str(tmp_path / "noise"), "--seeds", "1", "--model", "none"]
    done = CliRunner().invoke(racing.main, [*words, "-o", str(tmp_path / "out.md")])
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert lines[0] == "1 space, 1 seed each, model none"
    assert "| runs | 70 | 140 | trials by then |" in lines
    assert "| runs, a trial costing 10 besides | 170 | 340 | trials by then |" in lines
    trials = {row.split(" | ")[0]: row.split(" | ")[-1] for row in lines if "guided" in row}
    assert trials["| guided, 7 runs each"].startswith("10 / 20")
    assert file.size > 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{}"], "no .json or .json.gz in"),
        (["{}/none.json"], "none.json is no space published as JSON"),
        (["{}/cut.json"], "cut.json: is neither JSON nor lines of JSON"),
        (["{}/cut.json", "--only", "whole"], "no .json or .json.gz with 'whole' in its name in"),
        (["{}/cut.json", "-o", "{}/absent/x.md"], "does not exist; make it: mkdir -p"),
        (["{}/cut.json", "--seeds", "0"], "0 is not in the range x>=1"),
        (["{}/cut.json", "--kernel-tuner", "{}/python"], "is no Python interpreter"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path: Path, words: list[str], message: str) -> None:
    if len(words[0]) > 2:
        (tmp_path / "none.json").write_text('{"a": 1}')
        (tmp_path / "cut.json").write_text('{"params": {"a": [1')
    arguments = [word.format(tmp_path) for word in words]
    done = CliRunner().invoke(module("search").main, arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert "Traceback" not in done.output


def test_searches_that_were_kept_are_not_made_again(spaces: Path, tmp_path: Path) -> None:
    rivals = module("search_rivals")
    [ours, *_] = (file.load() for file in module("search_spaces_files").find([spaces], "tile"))
    kept = tmp_path / "kept.jsonl"
    best_ms = ours.optimum_s * 1e3
    told = {"strategy": "mls", "times_ms": [[None, 2 * best_ms, best_ms]], "elapsed_s": [0.5]}
    kept.write_text(json.dumps(told) + "\n")
    [(name, [found])] = rivals.searches("no interpreter", ours, 3, 1, "", kept)
    assert name == "mls"
    assert found.fractions == pytest.approx((0.0, 0.5, 1.0))
    assert found.elapsed_s == 0.5


def test_searches_of_other_strategies_are_kept_apart(spaces: Path, tmp_path: Path) -> None:
    runs = module("search_runs")
    file, *_ = module("search_spaces_files").find([spaces], "tile")
    kept = {runs.Rivals("python", which, tmp_path).kept(file, 30, 2) for which in ("", "mls")}
    assert len(kept) == 2


def test_joined_spaces_take_what_both_take(spaces: Path) -> None:
    files = module("search_spaces_files").find([spaces], "")
    first, second = files[0].load(), files[1].load()
    joins = module("joined_spaces")
    joined = joins.joined(files[0], files[1], 300)
    part = joins.around_optimum(second, 300 // first.size)
    assert 1 < len(part) <= 300 // first.size
    assert joined.size == first.size * len(part)
    assert joined.optimum_s == pytest.approx(2 * first.optimum_s)
    unit = first.optimum_s / second.optimum_s
    for schedule, measurement in joined.measurements.items():
        own = {name: value for name, value in schedule.knobs if not name.startswith("second_")}
        (one,) = (time for each, time in first.measurements.items() if each.values == own)
        others = [
            time
            for each, time in part.items()
            if all(
                schedule.values.get(f"second_{name}", value) == value for name, value in each.knobs
            )
        ]
        (other,) = others
        if one.is_ok and other.is_ok:
            assert measurement.time_s == pytest.approx(one.time_s + unit * other.time_s)
        else:
            assert not measurement.is_ok


def test_the_tables_of_joined_spaces(
    spaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joins = module("joined_spaces")
    monkeypatch.setattr(joins, "PAIRS", [("set/tile__d0", "set/alone__d3")])
    words = [str(spaces), "--most", "300", "--seeds", "2", "--trials", "20"]
    words += ["--strategies", "random,tabu", "-o", str(tmp_path / "out.md")]
    done = CliRunner().invoke(joins.main, words)
    assert done.exit_code == 0, done.output
    assert done.output == (tmp_path / "out.md").read_text()
    lines = done.output.splitlines()
    assert lines[0].startswith("set/tile__d0 and set/alone__d3: ")
    assert "All, 2 seeds each:" in lines
    for name in ("random", "tabu"):
        assert sum(line.startswith(f"| {name} |") for line in lines) == 2


def test_joined_spaces_name_the_files_they_lack(spaces: Path) -> None:
    result = CliRunner().invoke(module("joined_spaces").main, [str(spaces)])
    assert result.exit_code == 2
    assert "lacks gpu2021/gemm__K20" in result.output
