"""The rule that ends a search from which little is to be expected."""

from __future__ import annotations

from autotune.model_report import ModelReport
from autotune.stopping import LEAST, PATIENCE, StoppingRule
from cost_model.outlook import Outlook
from cost_model.track_record import Recall


def report(gain: float | None) -> ModelReport:
    further = None if gain is None else Outlook(50, gain, 0.1)
    return ModelReport(True, "followed", None, Recall(0, 0, 0), None, None, None, 0, None, further)


def asked(rule: StoppingRule, *gains: float | None, trials: int = LEAST) -> list[bool]:
    return [rule.is_met(report(gain), trials) for gain in gains]


def test_it_is_met_after_little_was_expected_again_and_again() -> None:
    assert asked(StoppingRule(0.005), *[0.004] * PATIENCE) == [False] * (PATIENCE - 1) + [True]


def test_one_better_expectation_starts_it_anew() -> None:
    gains = [0.004] * (PATIENCE - 1)
    assert not any(asked(StoppingRule(0.005), *gains, 0.006, *gains))
    assert not any(asked(StoppingRule(0.005), *gains, None, *gains))


def test_it_waits_for_the_first_trials() -> None:
    rule = StoppingRule(0.005)
    assert not any(asked(rule, *[0.0] * 20, trials=LEAST - 1))
    assert asked(rule, *[0.0] * PATIENCE)[-1]


def test_it_is_never_met_where_none_was_asked_for_or_nothing_is_known() -> None:
    assert not any(asked(StoppingRule(None), *[0.0] * 20))
    assert not any(StoppingRule(0.5).is_met(None, 1000) for _ in range(20))
