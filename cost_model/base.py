"""The seam of prediction: how fast a schedule will be, before it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """One number a schedule each, in the order asked.

    `score`: higher is faster; comparable within one (workload, target) only. `spread`: the
    model's own uncertainty in the same unit (a standard deviation), 0 where it has no notion of
    it. What a model may know beyond that: `best`, the score of the fastest schedule measured;
    `works`, the probability that a schedule does not fail; `covariance(place)`, how uncertain
    scores move together: the covariance of that schedule's score with everyone's; `moved`, by how
    much each score differs from the mean that `spread` is about, where a second model has a say in
    it. Scores of a model that gives covariances are natural logarithms of runs a second.
    """

    score: Floats
    spread: Floats
    best: float | None = None
    works: Floats | None = None
    covariance: Callable[[int], Floats] | None = None
    moved: Floats | None = None


class Expectation(Protocol):
    """What is expected of schedules of one workload on one target before any is measured.

    Logarithms of speeds relative to the best, as those of `Group.log_speeds`; `deviation`: of such
    speeds, about. `doubts`, (schedules, functions): what multiples of may have to be added to the
    mean; multiples are expected to be 0 with a deviation of 1, and learnt from what is measured.
    `works`: the probability that each does not fail, `None` where nobody knows. `measured`:
    schedules of a template that others measured.
    """

    @property
    def deviation(self) -> float: ...

    def mean(self, schedules: Sequence[Schedule]) -> Floats: ...

    def doubts(self, schedules: Sequence[Schedule]) -> Floats: ...

    def works(self, schedules: Sequence[Schedule]) -> Floats | None: ...

    def measured(self, template: str) -> Sequence[Schedule]: ...


class CostModel(Protocol):
    """Predicts the order of schedules by speed. Deterministic for a seed and equal records.

    `fit(records)` replaces what was learnt; failures are part of the records and count as
    slowest. Records of templates that this process does not know are skipped.
    `ready` is false until there is enough to learn from; `predict` may be called only when true.
    A tuple of schedules that is asked about again and again is encoded once.
    """

    @property
    def ready(self) -> bool: ...

    def fit(self, records: Sequence[TuningRecord]) -> None: ...

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction: ...
