"""What a cost model is said to have done, and from when on."""

from __future__ import annotations

import pytest

from autotune.model_report import TELLING, Candidates, ModelReport
from cost_model.outlook import Outlook
from cost_model.track_record import Recall

EXPECTATIONS = ("intervals", "chance", "expected to gain", "more: ")


def report(timed: int) -> ModelReport:
    candidates, outlook = Candidates(2000, 1990, 4), Outlook(50, 0.004, 0.22)
    return ModelReport(
        True, "followed", 0.9, Recall(0, 0, 0), 1.0, 1.0, 0.2, timed, candidates, outlook
    )


def told(report: ModelReport) -> str:
    return " / ".join([*report.sentences(), report.hindsight, report.foresight])


def test_shares_of_few_predictions_are_not_put_into_words() -> None:
    few = told(report(TELLING - 1))
    assert not any(words in few for words in EXPECTATIONS)
    assert "of 2,000 schedules weighed last 99.5% were left out" in few


@pytest.mark.parametrize("words", [*EXPECTATIONS, f"of the last {TELLING} times predicted 100%"])
def test_they_are_from_enough_on(words: str) -> None:
    assert words in told(report(TELLING))


def test_json_has_them_with_what_they_rest_on() -> None:
    found = report(2).to_json()
    assert found["within_50"] == 1.0 and found["timed"] == 2 and found["outlook"]["left"] == 0.22
