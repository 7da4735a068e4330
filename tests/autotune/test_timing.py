"""When a candidate has been run often enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autotune.timing import TimingPlan, Verdict

PLAN = TimingPlan(min_runs=5, max_runs=20, interval=0.02)
OPEN, KNOWN, BEATEN, DROPPED = Verdict


@pytest.mark.parametrize(
    ("times_s", "verdict"),
    [
        ([1.2], OPEN),
        ([1.6, 1.6], DROPPED),
        ([1.6, 1.4], OPEN),
        ([1.4, 1.4], OPEN),
        ([1.001, 1.002, 1.003], BEATEN),
        ([0.999, 1.002, 1.003], OPEN),
        ([0.999, 1.002, 1.003, 1.002, 1.003, 1.004], BEATEN),
        ([0.9] * 5, OPEN),
        ([0.9] * 6, KNOWN),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], OPEN),
        ([0.9, 0.5] * 10, KNOWN),
    ],
)
def test_beside_a_best_of_a_second(times_s: list[float], verdict: Verdict) -> None:
    assert PLAN.against(1.0, drop_factor=1.5).verdict(times_s) is verdict


@pytest.mark.parametrize("plan", [PLAN, PLAN.against(1.0, 1.5).against(None, 1.5)])
def test_without_a_best_nobody_is_beaten(plan: TimingPlan) -> None:
    assert plan.verdict([9.0, 9.5, 9.0]) is OPEN
    assert plan.verdict([9.0] * 6) is KNOWN


def test_one_run_is_always_timed() -> None:
    assert replace(PLAN, max_runs=0).verdict([1.0]) is KNOWN
