"""Which schedules will fail: constraints that nobody wrote down, learnt from failures.

A template's own constraints are checked before anything is compiled. What remains (registers that
spill over a limit, a compiler that gives up) shows only in failed trials.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xgboost

from cost_model.base import Floats
from cost_model.groups import Group
from cost_model.table import Matrix

ENOUGH = 3
"""Failures, and successes, from which on there is something to tell apart."""

ROUNDS = 40
DEPTH = 4
LEARNING_RATE = 0.2


class Feasibility:
    """A classifier over the features of schedules; where nothing fails, all is expected to work."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._booster: xgboost.Booster | None = None

    def fit(self, features: Matrix, groups: Sequence[Group]) -> None:
        """`features`: the groups' schedules, one below the other."""
        worked = np.concatenate([np.isfinite(group.times_s) for group in groups])
        self._booster = None
        if min(worked.sum(), (~worked).sum()) < ENOUGH:
            return
        data = xgboost.DMatrix(features, label=worked, nthread=1)
        parameters = {
            "objective": "binary:logistic",
            "max_depth": DEPTH,
            "learning_rate": LEARNING_RATE,
            "tree_method": "hist",
            "nthread": 1,
            "seed": self._seed,
            "verbosity": 0,
        }
        self._booster = xgboost.train(parameters, data, ROUNDS)

    def works(self, features: Matrix) -> Floats | None:
        """The probability of each schedule to work; `None` where no failures taught any."""
        if self._booster is None:
            return None
        return np.asarray(self._booster.inplace_predict(features), dtype=np.float64)
