"""What a search is put together of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from autotune.proposer import Proposer
from autotune.searches import OVERSAMPLE, put_together
from autotune.strategies.base import SearchStrategy
from autotune.testing.cost_model import EXAMPLE, TARGET, find_example, record, workload
from records import Schedule
from search_spaces.union import UnionSpace

SPACE = UnionSpace([EXAMPLE.space])


class Watched:
    """Notes how many schedules the strategy that it begins with is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, strategy: SearchStrategy) -> SearchStrategy:
        ask = strategy.ask

        def watched(n: int) -> Sequence[Schedule]:
            self.asked.append(n)
            return ask(n)

        strategy.ask = watched  # type: ignore[method-assign]
        return strategy


def searched(strategy: str, model: str, begin: Watched) -> Proposer:
    proposer = put_together(
        SPACE,
        workload(),
        TARGET,
        (),
        strategy=strategy,
        model=model,
        seed=0,
        notice=lambda text: None,
        find_template=find_example,
        begin=begin,
    )
    for _ in range(3):
        for schedule in proposer.next(8):
            proposer.tell(schedule, record(schedule).measurement)
        proposer.refit()
    return proposer


@pytest.mark.parametrize(
    "strategy,model,has_model,last",
    [
        ("guided", "gaussian-process", True, 8),
        ("guided", "none", False, 8),
        ("random", "gaussian-process", True, 8 * OVERSAMPLE),
        ("random", "none", False, 8),
        ("local", "gaussian-process", False, 8),  # it follows measurements alone
    ],
)
def test_who_has_a_model_and_who_is_asked_for_more(
    strategy: str, model: str, has_model: bool, last: int
) -> None:
    watched = Watched()
    proposer = searched(strategy, model, watched)
    assert (proposer.report() is not None) == has_model
    assert watched.asked[-1] == last


@pytest.mark.parametrize("model,says", [("xgboost", True), ("none", False)])
def test_what_a_model_learns_of_others_is_said(model: str, says: bool) -> None:
    asked = workload(128)
    earlier = [record(each) for each in EXAMPLE.space.sample(12, np.random.default_rng(0))]
    notices: list[str] = []
    put_together(
        SPACE,
        asked,
        TARGET,
        earlier,
        strategy="guided",
        model=model,
        seed=0,
        notice=notices.append,
        find_template=find_example,
    )
    known = "knows 12 trials of 1 workload on 1 device; the nearest is "
    assert [notice.startswith(known) for notice in notices] == [True] * says
