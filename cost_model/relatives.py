"""What was measured of other workloads, or on other devices, as an expectation for a new one.

A relative is one workload on one target. Each of the nearest has a Gaussian process of its own over
the knobs, which predicts speeds relative to the relative's best; trees, which know sizes, devices
and statistics, learn from all of them together and predict for the workload that is asked about.
The weighted mean of these predictions is what is expected. How far to follow each of them is
learnt from what is measured (`Expectation.doubts`): so they are ranked by how well they do here,
as in a weighted ensemble of source models (Feurer, Letham, Hutter and Bakshy, "Practical transfer
learning for Bayesian optimization", 2018), and one that misleads is dropped or turned around.

Nothing here depends on what is measured of the workload itself: it is fitted once a session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cost_model.base import Floats
from cost_model.features import distance
from cost_model.gaussian_process_model import GaussianProcessModel
from cost_model.groups import CLIP, Group, known_groups
from cost_model.kept import KeptOfTuple
from cost_model.table import FindTemplate
from cost_model.xgboost_model import Settings as TreeSettings
from cost_model.xgboost_model import XGBoostModel
from records.peaks import NO_PEAKS, PeaksOf
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry

TREES = TreeSettings(objective="log", members=1, failures=True)


@dataclass(frozen=True)
class Belief:
    """How relatives are believed before anything was measured; `benchmarks/transfer.md` compares.

    `most` relatives have a process of their own, those of at least `least` schedules that worked.
    `trees`: their part of the expectation; the rest is shared out among the relatives by nearness,
    which falls by a factor of e with each `reach` of `distance`. `slope`: of speeds here on speeds
    predicted. `doubt` and `level`: deviations of what weights, and the level of speeds, may be off.
    """

    most: int = 8
    least: int = 8
    trees: float = 0.4
    reach: float = 4.0
    slope: float = 0.9
    doubt: float = 0.4
    level: float = 0.3


class Relatives:
    """An `Expectation` for one workload on one target."""

    def __init__(
        self,
        earlier: Sequence[TuningRecord],
        workload: Workload,
        target: Target,
        *,
        seed: int = 0,
        find_template: FindTemplate = registry.template,
        belief: Belief | None = None,
        peaks: PeaksOf = NO_PEAKS,
    ) -> None:
        """`earlier`: records of others; nothing is expected (`known` is false) of too few.

        `peaks` of the target and of theirs, as far as they are known, tell how alike they are.
        """
        self._workload, self._target, self._peaks = workload, target, peaks
        self._belief = belief = belief or Belief()
        groups = [
            group for group in known_groups(earlier, find_template) if group.worked >= belief.least
        ]
        self.groups = sorted(groups, key=self._distance)
        self._nearest = self.groups[: belief.most]
        self._processes = [_process(group, seed, find_template) for group in self._nearest]
        self._trees = XGBoostModel(seed, TREES, find_template, peaks=peaks)
        self._trees.fit([record for group in self.groups for record in group.records])
        self._weights, self._doubts = self._believed()
        self._rows: dict[Schedule, Floats] = {}
        self._rows_of = KeptOfTuple(self._compute_rows)

    @property
    def known(self) -> bool:
        return bool(self.groups)

    @property
    def deviation(self) -> float:
        """Of the relatives' speeds."""
        return float(np.concatenate([group.log_speeds for group in self.groups]).std()) or 1.0

    def mean(self, schedules: Sequence[Schedule]) -> Floats:
        """Logarithms of speeds relative to the best."""
        expected: Floats = self._predictions(schedules) @ self._weights
        return expected

    def doubts(self, schedules: Sequence[Schedule]) -> Floats:
        """Of every prediction's weight, and of the level."""
        predictions = self._predictions(schedules)
        level = np.full((len(schedules), 1), self._belief.level)
        return np.hstack([predictions * self._doubts, level])

    def works(self, schedules: Sequence[Schedule]) -> Floats | None:
        works: Floats = self._rows_of(schedules)[:, -1]
        return None if np.isnan(works).any() else works

    def measured(self, template: str) -> list[Schedule]:
        """The nearest relatives' schedules of the template."""
        schedules = (each for group in self._nearest for each in group.schedules)
        return [schedule for schedule in schedules if schedule.template == template]

    def _distance(self, group: Group) -> float:
        here = self._workload, self._target
        return distance(here, (group.workload, group.target), self._peaks)

    def _believed(self) -> tuple[Floats, Floats]:
        """Weights of the predictions, and their deviations."""
        distances = np.array([self._distance(group) for group in self._nearest])
        nearness = np.exp((distances.min(initial=math.inf) - distances) / self._belief.reach)
        nearness /= max(1e-12, nearness.sum())
        trees = self._belief.trees if self._trees.ready else 0.0
        weights = self._belief.slope * np.array([*(1.0 - trees) * nearness, trees])
        return weights, self._belief.doubt * np.array([*np.sqrt(nearness), float(trees > 0.0)])

    def _predictions(self, schedules: Sequence[Schedule]) -> Floats:
        """(schedules, predictions): of each process, and of the trees."""
        return self._rows_of(schedules)[:, :-1]

    def _compute_rows(self, schedules: Sequence[Schedule]) -> Floats:
        """Predictions, and how likely each is to work: NaN where that is not known."""
        fresh = tuple(each for each in schedules if each not in self._rows)
        if fresh:
            self._rows.update(zip(fresh, self._predicted(fresh), strict=True))
        rows = [self._rows[each] for each in schedules]
        return np.array(rows).reshape(len(rows), len(self._weights) + 1)

    def _predicted(self, schedules: Sequence[Schedule]) -> Floats:
        columns = []
        for group, process in zip(self._nearest, self._processes, strict=True):
            prediction = process.predict(group.workload, group.target, schedules)
            columns.append(prediction.score + math.log(group.best_s))
        works: Floats | None = None
        if self._trees.ready:
            prediction = self._trees.predict(self._workload, self._target, schedules)
            columns.append(prediction.score)
            works = prediction.works
        else:
            columns.append(np.zeros(len(schedules)))
        unknown = np.full(len(schedules), np.nan)
        speeds = np.maximum(np.stack(columns, axis=1), -CLIP)
        return np.column_stack([speeds, unknown if works is None else works])


def _process(group: Group, seed: int, find_template: FindTemplate) -> GaussianProcessModel:
    process = GaussianProcessModel(seed, find_template=find_template)
    process.fit(group.records)
    return process
