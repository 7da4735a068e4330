"""Searches replayed on recorded spaces: what a strategy and a model would have found, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autotune.proposer import Proposer
from autotune.recorded import RecordedSpace
from autotune.strategies import make_strategy
from cost_model.base import CostModel
from cost_model.trust import Trust

BATCH = 12
"""Schedules measured between two fits, as the tuner does by default."""


@dataclass(frozen=True)
class Policy:
    """A way to search. `model`: whether a cost model takes part; `oversample` as in `Proposer`."""

    strategy: str
    model: bool = False
    oversample: int = 1

    @property
    def name(self) -> str:
        pruned = f", model prunes 1 of {self.oversample}" if self.oversample > 1 else ""
        guided = ", guided by the model" if self.model and self.oversample == 1 else ""
        return f"{self.strategy}{pruned}{guided}"


def replay(policy: Policy, recorded: RecordedSpace, evaluations: int, seed: int) -> list[float]:
    """Optimum over best found after 1, 2, … `evaluations`; 0 while nothing has worked.

    An evaluation is a schedule proposed, whether it works or not. Shorter than `evaluations`
    where the space is exhausted. Nothing survives from one call to the next.
    """
    model = _model(recorded, seed) if policy.model else None
    proposer = Proposer(
        make_strategy(policy.strategy, recorded, seed),
        model,
        Trust(),
        recorded.workload,
        recorded.target,
        oversample=policy.oversample,
        seed=seed,
    )
    best_s = float("inf")
    curve: list[float] = []
    while len(curve) < evaluations:
        batch = proposer.next(min(BATCH, evaluations - len(curve)))
        if not batch:
            break
        for schedule in batch:
            measurement = recorded.measure(schedule)
            proposer.tell(schedule, measurement)
            best_s = min(best_s, measurement.time_s or float("inf"))
            curve.append(recorded.optimum_s / best_s)
        proposer.refit()
    return curve


def mean_at(curves: Sequence[Sequence[float]], evaluations: int) -> float:
    """Mean of curves after so many evaluations; an exhausted space keeps its last value."""
    return sum(curve[min(evaluations, len(curve)) - 1] for curve in curves) / len(curves)


def _model(recorded: RecordedSpace, seed: int) -> CostModel:
    from cost_model.xgboost_model import XGBoostModel

    return XGBoostModel(seed, find_template=recorded.find_template)
