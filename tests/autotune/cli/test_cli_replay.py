"""`autotune replay`: a leaderboard for people and programs, and what it says of bad files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

from autotune import replay
from autotune.recorded import RecordedSpace

TRIALS = "40"


def recording(scale: float = 1.0) -> dict[str, Any]:
    configs = [(rows, columns) for rows in range(10) for columns in range(8)]
    return {
        "kernel": "tile",
        "device": f"chip {scale}",
        "params": {"rows": list(range(10)), "columns": list(range(8))},
        "configs": configs,
        "time_ms": [None if r == 9 else scale + (r - 4) ** 2 + (c - 2) ** 2 for r, c in configs],
    }


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "tile.json"
    path.write_text(json.dumps(recording()))
    return str(path)


def test_a_table_for_people(run: Run, space: str) -> None:
    done = run("replay", space, "--strategies", "random,tabu", "--trials", TRIALS, "--seeds", "3")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "1 space, 3 seeds each"
    assert [line.split() for line in lines if line.startswith("policy")] == [
        ["policy", "10", "25", "40", "±"],
        ["policy", "90%", "95%", "99%", "ms", "a", "trial"],
    ]
    assert [line.split()[0] for line in lines if line].count("tabu") == 2


def test_ctrl_c_ends_it_with_the_spaces_that_are_done(
    run: Run, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.json").write_text(json.dumps(recording(2.0)))
    search = replay.replay

    def interrupted(
        policy: replay.Policy, recorded: RecordedSpace, *more: Any, **named: Any
    ) -> Any:
        if "chip 2.0" in recorded.name:
            raise KeyboardInterrupt
        return search(policy, recorded, *more, **named)

    monkeypatch.setattr(replay, "replay", interrupted)
    words = ("--strategies", "random,tabu", "--trials", TRIALS, "--seeds", "2", "-o", "board.json")
    done = run("replay", space, "other.json", *words)
    assert done.code == 130
    assert done.out.splitlines()[0] == "1 space, 2 seeds each, interrupted"
    board = json.loads((tmp_path / "board.json").read_text())
    assert board["interrupted"] and len(board["spaces"]) == 1 and len(board["policies"]) == 2
    none = run("replay", "other.json", *words[:-1], "none.json")
    assert none.code == 130 and "interrupted" in none.err
    assert not (tmp_path / "none.json").exists()


def test_the_same_for_programs_and_in_a_file(run: Run, space: str, tmp_path: Path) -> None:
    words = ("replay", space, "--strategies", "random", "--trials", TRIALS, "--seeds", "2")
    done = run(*words, "--batch", "4", "--json", "-o", "board.json")
    assert done.json == json.loads((tmp_path / "board.json").read_text())
    assert done.json["spaces"] == [
        {
            "name": "tile on chip 1.0",
            "schedules": 80,
            "failed": 8,
            "optimum_s": pytest.approx(0.001),
        }
    ]
    assert (done.json["trials"], done.json["seeds"], done.json["batch"]) == (40, 2, 4)
    [policy] = done.json["policies"]
    assert [after["trials"] for after in policy["after"]] == [10, 25, 40]


def test_a_strategy_with_a_model(run: Run, space: str) -> None:
    done = run("replay", space, "--strategies", "evolutionary+xgboost", "--trials", "20", "--json")
    assert [policy["name"] for policy in done.json["policies"]] == ["evolutionary+xgboost"]


def test_a_folder_of_recordings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "spaces" / "set").mkdir(parents=True)
    for scale in (1.0, 2.0):
        path = tmp_path / "spaces" / "set" / f"{scale}.json"
        path.write_text(json.dumps(recording(scale)))
    words = ("--strategies", "random", "--trials", "5", "--seeds", "1", "--json")
    names = [space["name"] for space in run("replay", "spaces", *words).json["spaces"]]
    assert names == ["tile on chip 1.0", "tile on chip 2.0"]
    (tmp_path / "empty").mkdir()
    done = run("replay", "empty", *words)
    assert done.code == 2 and "no file in it ends in .json" in done.err


def test_a_database_of_ours(run: Run, tuned: Path) -> None:
    done = run("replay", str(tuned), "--strategies", "random", "--trials", "9", "--json")
    [space] = done.json["spaces"]
    assert space["name"].startswith("matmul(")
    assert done.json["policies"][0]["after"][-1]["mean"] == 1.0  # all that was measured is tried


def test_noise(run: Run, space: str, tmp_path: Path) -> None:
    words = ("--strategies", "random", "--trials", TRIALS, "--seeds", "2", "--json")
    (tmp_path / "noise").mkdir()
    done = run("replay", space, *words, "--noise", "noise")
    assert done.code == 2 and "no repeats of" in done.err
    times_ms = np.array(recording()["time_ms"], dtype=np.float32)[:, None] * np.ones(4, np.float32)
    np.savez(tmp_path / "noise" / "tile.npz", times_ms=times_ms)
    noisy, quiet = (
        run("replay", space, *words, *noise).json for noise in (("--noise", "noise"), ())
    )
    assert noisy["noise"] and not quiet["noise"]
    assert noisy["policies"][0]["after"] == quiet["policies"][0]["after"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent.json",), "'absent.json' does not exist"),
        (("other.json",), "other.json is no recording; there are: a tuning database"),
        (("tile.json", "--strategies", "psychic"), "no strategy 'psychic'; there are: "),
        (("tile.json", "--strategies", "random+psychic"), "no cost model 'psychic'; there are: "),
        (("tile.json", "--trials", "0"), "0 is not in the range x>=1"),
        (("tile.json", *("--strategies", "random", "-o", "absent/x.json")), "make it: mkdir"),
        (("tile.json", "--plot", "."), "is a directory; name a file in it"),
        (("wrong.json",), "it is no recorded space, though it looks like one"),
        (("tile.json", "wrong.json"), "wrong.json: it is no recorded space"),
    ],
)
def test_mistakes_are_told_in_a_line(
    run: Run,
    space: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "wrong.json").write_text('{"params": 5, "configs": [[1]], "time_ms": [2]}')
    monkeypatch.setattr(replay, "replay", None)  # nothing is searched before
    done = run("replay", *words)
    assert done.code == 2
    assert message in done.err and done.err.count("\n") == 1


def test_a_plot_needs_plotly(run: Run, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    words = ("--strategies", "random", "--trials", "5", "--plot", "board.html")
    done = run("replay", space, *words)
    assert done.code == 2 and 'pip install "autotune-kernels[report]"' in done.err
