"""What a leaderboard says of searches that are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from autotune import leaderboard, leaderboard_plot
from autotune.leaderboard import Standing
from autotune.replay import Replayed
from records.errors import InvalidInputError, MissingComponentError


def standing(name: str = "steady", *curves: list[float], trials: int = 30) -> Standing:
    """One space, a seed for each curve; a second per search."""
    return Standing.of(name, [[Replayed(tuple(curve), 1.0) for curve in curves]], trials)


RISING = standing("rising", [0.5] * 9 + [0.8] * 6 + [1.0] * 15, [0.5] * 14 + [0.96] * 16)


def test_means_and_medians_at_the_marks() -> None:
    assert RISING.marks == [10, 25, 30]
    assert RISING.mean(10) == pytest.approx(0.65)
    assert RISING.median(25) == pytest.approx(0.98)
    assert RISING.mean_by_space(25) == pytest.approx([0.98])


def test_short_searches_still_have_a_mark() -> None:
    assert standing("short", [0.5, 0.6], trials=2).marks == [2]


def test_trials_to_a_goal_are_those_of_half_the_searches() -> None:
    three = standing("three", [0.5] * 9 + [1.0] * 21, [0.5] * 19 + [1.0] * 11, [0.5] * 30)
    assert three.trials_to(0.9) == 20
    assert three.share_reaching(0.9) == pytest.approx(2 / 3)
    assert standing("never", [0.5] * 30, [0.5] * 30, [1.0] * 30).trials_to(0.9) is None
    assert standing("at once", [1.0] * 30).trials_to(0.99) == 1


def test_exhausted_searches_keep_their_last_value_and_their_own_count() -> None:
    short = standing("short", [0.4, 0.9])
    assert short.mean(25) == 0.9
    assert short.s_per_trial == 0.5


def test_intervals_hold_the_mean_and_shrink_with_seeds() -> None:
    rng = np.random.default_rng(0)
    few, many = (rng.random((3, seeds)) for seeds in (5, 80))
    for values in (few, many):
        low, high = leaderboard.bootstrap_interval(values)
        assert low < values.mean() < high
    widths = [np.diff(leaderboard.bootstrap_interval(values))[0] for values in (few, many)]
    assert widths[1] < 0.5 * widths[0]
    assert leaderboard.bootstrap_interval(np.full((2, 1), 0.7)) == pytest.approx((0.7, 0.7))


def test_intervals_are_as_often_right_as_they_say() -> None:
    """The mean of uniform numbers is 0.5; percentiles of 20 numbers are a little too narrow."""
    rng = np.random.default_rng(1)
    intervals = [leaderboard.bootstrap_interval(rng.random((2, 20))) for _ in range(200)]
    assert 0.88 < np.mean([low < 0.5 < high for low, high in intervals]) < 0.99


def test_spaces_differ_without_widening_the_interval() -> None:
    """It is that of other seeds, not of other spaces."""
    values = np.array([[0.1] * 9, [0.9] * 9])
    assert leaderboard.bootstrap_interval(values) == pytest.approx((0.5, 0.5))


def test_the_best_comes_first() -> None:
    slow, fast = standing("slow", [0.1] * 29 + [1.0]), standing("fast", [0.9] * 30)
    assert [each.name for each in leaderboard.ranked([slow, fast])] == ["fast", "slow"]


def test_the_tables_have_a_row_each() -> None:
    headings, row = leaderboard.fractions([RISING])
    assert headings == ["policy", "10", "25", "30", "±"]
    assert row[:4] == ["rising", "0.650", "0.980", "0.980"]
    assert float(row[4]) > 0.0
    headings, row = leaderboard.fractions([standing("once", [0.5] * 30)])
    assert (headings, row) == (["policy", "10", "25", "30"], ["once", "0.500", "0.500", "0.500"])
    headings, row = leaderboard.efforts([RISING])
    assert headings == ["policy", "90%", "95%", "99%", "ms a trial"]
    assert row == ["rising", "16", "16", "-", "33.33"]


def test_it_is_json() -> None:
    found = json.loads(json.dumps(leaderboard.as_json([{"name": "a"}], [RISING], seeds=2)))
    assert found["seeds"] == 2
    [policy] = found["policies"]
    assert [after["trials"] for after in policy["after"]] == [10, 25, 30]
    low, high = policy["after"][0]["mean_interval"]
    assert low <= policy["after"][0]["mean"] <= high
    assert policy["to"][2] == {"fraction": 0.99, "median_trials": None, "share_reaching": 0.5}


def test_a_plot_without_plotly_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingComponentError, match=r'pip install "autotune-kernels\[report\]"'):
        leaderboard_plot.write([RISING], tmp_path / "plot.html", "title")


def test_a_plot_has_a_curve_each(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "plot.html"
    leaderboard_plot.write([RISING, standing("other", [0.3] * 30)], path, "two searches")
    page = path.read_text()
    assert all(word in page for word in ("rising", "other", "two searches"))
    with pytest.raises(InvalidInputError, match="cannot be written"):
        leaderboard_plot.write([RISING], tmp_path / "absent" / "plot.html", "title")
