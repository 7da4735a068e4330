"""The policy of a search: when to believe the cost model, and what to measure next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autotune.strategies.base import SearchStrategy
from cost_model.acquisition import DEFAULT, choose
from cost_model.base import CostModel, Prediction
from cost_model.outlook import Outlook, outlook, promising
from cost_model.trust import Trust
from records.measurement import Measurement
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.threads import single_threaded_products

REFERENCES = 48
"""Trials measured before, with which new ones are compared to judge the model."""

FURTHER_TRIALS = 50
"""Trials whose gain is estimated at the end of a search."""


class ModelScore:
    """A cost model's predictions for one workload on one target, as a `BatchScore`."""

    def __init__(
        self,
        model: CostModel,
        workload: Workload,
        target: Target,
        acquisition: str = DEFAULT,
        seed: Sequence[int] = (0,),
    ) -> None:
        self._model = model
        self._workload = workload
        self._target = target
        self._acquisition = acquisition
        self._rng = np.random.default_rng(seed)
        self.offered: Sequence[Schedule] = ()  # what there was to choose from

    def __call__(self, schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
        return self.prediction(schedules).score

    def choose(
        self, schedules: Sequence[Schedule], free: npt.NDArray[np.bool_], n: int
    ) -> Sequence[int]:
        """By what each is expected to gain, not by the score alone."""
        self.offered = schedules
        prediction = self.prediction(schedules)
        with single_threaded_products():
            return choose(prediction, free, n, self._rng, self._acquisition)

    def prediction(self, schedules: Sequence[Schedule]) -> Prediction:
        return self._model.predict(self._workload, self._target, schedules)


class Proposer:
    """Puts a strategy and a cost model together; `model` is `None` for a search without one.

    A strategy that follows predictions (`Guided`, `Evolutionary`) takes them through `guide`, and
    what it asks is measured as it stands: `oversample` 1. With more than 1 the strategy is asked
    for `oversample` times as many, and the model keeps the most promising but for a share `explore`
    that is kept blindly; the others wait and compete again, so none is lost. One of the two
    prunes, never both.

    The model takes part from when it is `ready`; before, the strategy's own (random) first
    schedules are measured. Whatever is measured then was predicted before, and `trust` compares
    the two. While it is lost the model is neither given to the strategy nor prunes; it is still
    fitted and judged, and comes back when its predictions are right again.

    Same seed and same measurements in the same order, same proposals.
    """

    def __init__(
        self,
        strategy: SearchStrategy,
        model: CostModel | None,
        trust: Trust,
        workload: Workload,
        target: Target,
        oversample: int = 1,
        explore: float = 0.15,
        seed: int = 0,
        earlier: Sequence[TuningRecord] = (),
        acquisition: str = DEFAULT,
        first: Sequence[Schedule] = (),
    ) -> None:
        """`earlier`: records of other workloads or targets for the model to learn from too.
        `first`: schedules of the space to propose before any of the strategy's.

        `acquisition`: by which merit a strategy that lets the model choose has it choose.
        """
        self._strategy = strategy
        self._model = model
        self._trust = trust
        self._workload = workload
        self._target = target
        self._oversample = oversample
        self._explore = explore
        self._seed = seed
        self._acquisition = acquisition
        self._first = list(first)
        self._earlier = list(earlier)
        self._records: list[TuningRecord] = []
        self._waiting: list[Schedule] = []  # asked of the strategy, not yet proposed
        self._proposed = 0
        self._predicted: dict[Schedule, float] = {}
        self._outcomes: list[tuple[float, Measurement]] = []
        self._references: tuple[list[float], list[Measurement]] = ([], [])
        self._guide: ModelScore | None = None  # while the model is followed
        self._offered: Sequence[Schedule] = ()
        self._followed = False
        self._told_trust = trust.trusted

    def next(self, n: int) -> list[Schedule]:
        """At most `n` schedules to measure; `[]` only when the space is exhausted."""
        if self._first:
            chosen, self._first = self._first[:n], self._first[n:]
        elif self._oversample > 1 and self._followed:
            chosen = self._pruned(n)
        else:
            chosen = self._unpruned(n)
        self._proposed += len(chosen)
        self._predict(chosen)
        return chosen

    def tell(self, schedule: Schedule, measurement: Measurement) -> None:
        """Take a result, of this session or of an earlier one of the same workload."""
        self._strategy.tell(schedule, measurement)
        self._waiting = [each for each in self._waiting if each != schedule]
        self._first = [each for each in self._first if each != schedule]
        self._records.append(
            TuningRecord(self._workload, self._target, schedule, measurement, created_at="")
        )
        if schedule in self._predicted:
            self._outcomes.append((self._predicted.pop(schedule), measurement))

    def refit(self) -> list[str]:
        """Learn from what was told; notices for people where the policy changes."""
        if self._model is None:
            return []
        if self._outcomes:
            scores, measurements = zip(*self._outcomes, strict=True)
            self._trust.update(scores, measurements, *self._references)
            self._outcomes.clear()
        self._model.fit([*self._earlier, *self._records])
        self._followed = self._model.ready and self._trust.trusted
        if self._guide is not None and self._guide.offered:
            self._offered = self._guide.offered
        self._guide = self._score() if self._followed else None
        self._strategy.guide(self._guide)
        return self._notices()

    def account(self) -> list[str]:
        """How well the model did, and what is still to be gained, in sentences for people."""
        if self._model is None or not self._model.ready:
            return []
        further = self._outlook()
        return [self._trust.reason, *([str(further)] if further else [])]

    def _outlook(self) -> Outlook | None:
        if self._guide is None or not self._offered:
            return None
        told = {record.schedule for record in self._records}
        free = np.array([each not in told for each in self._offered], dtype=np.bool_)
        places = promising(self._guide.prediction(self._offered), free)
        rng = np.random.default_rng((self._seed, len(self._records)))
        best = self._guide.prediction([self._offered[place] for place in places])
        return outlook(best, FURTHER_TRIALS, rng)

    def _notices(self) -> list[str]:
        if self._trust.trusted == self._told_trust:
            return []
        self._told_trust = self._trust.trusted
        return [self._trust.reason]

    def _unpruned(self, n: int) -> list[Schedule]:
        chosen, self._waiting = self._waiting[:n], self._waiting[n:]
        return [*chosen, *self._strategy.ask(n - len(chosen))] if len(chosen) < n else chosen

    def _pruned(self, n: int) -> list[Schedule]:
        rng = np.random.default_rng((self._seed, self._proposed))
        self._waiting.extend(self._strategy.ask(n * self._oversample))
        blindly = int(n * self._explore + rng.random())
        order = np.argsort(-self._score()(self._waiting), kind="stable").tolist()
        kept, rest = order[: n - blindly], order[n - blindly :]
        kept += rng.permutation(rest)[:blindly].tolist()
        chosen = [self._waiting[place] for place in kept]
        self._waiting = [each for each in self._waiting if each not in set(chosen)]
        return chosen

    def _predict(self, schedules: Sequence[Schedule]) -> None:
        """Note what the model expects, of these and of some that it knows, to be judged by."""
        known = any(record.measurement.is_ok for record in self._records)
        if self._model is not None and self._model.ready and known and schedules:
            rng = np.random.default_rng((self._seed, len(self._records)))
            picks = rng.permutation(len(self._records))[:REFERENCES].tolist()
            references = [self._records[pick] for pick in picks]
            asked = [*schedules, *(record.schedule for record in references)]
            scores = self._score()(asked).tolist()
            self._predicted.update(zip(schedules, scores, strict=False))
            self._references = (
                scores[len(schedules) :],
                [record.measurement for record in references],
            )

    def _score(self) -> ModelScore:
        assert self._model is not None
        return ModelScore(
            self._model,
            self._workload,
            self._target,
            self._acquisition,
            (self._seed, len(self._records)),
        )
