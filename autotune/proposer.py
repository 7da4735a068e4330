"""The policy of a search: when to believe the cost model, and what to measure next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.model_report import Candidates, ModelReport
from autotune.model_score import ModelScore, Offer
from autotune.strategies.base import RunsHeats, SearchStrategy
from cost_model.acquisition import DEFAULT
from cost_model.base import CostModel
from cost_model.judgement import Judgement
from cost_model.outlook import Outlook, believed, promising
from cost_model.trust import Trust
from records.measurement import Measurement
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload

FURTHER_TRIALS = 50
"""Trials whose gain is estimated."""


class Proposer:
    """Puts a strategy and a cost model together; `model` is `None` for a search without one.

    A strategy that follows predictions (`Guided`, `Evolutionary`) takes them through `guide`, and
    what it asks is measured as it stands: `oversample` 1. With more than 1 the strategy is asked
    for `oversample` times as many, and the model keeps the most promising but for a share `explore`
    that is kept blindly; the others wait and compete again, so none is lost. One of the two
    prunes, never both.

    The model takes part from when it is `ready`; before, the strategy's own (random) first
    schedules are measured. Whatever is measured then was predicted before, and a `Judgement`
    compares the two. While `trust` is lost the model is neither given to the strategy nor prunes;
    it is still fitted and judged, and comes back when its predictions are right again.

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
        self._judgement = Judgement(trust)
        self._workload = workload
        self._target = target
        self._oversample = oversample
        self._explore = explore
        self._seed = seed
        self._acquisition = acquisition
        self._first = list(first)
        self._earlier = list(earlier)
        self._records: list[TuningRecord] = []
        self._heats: dict[Schedule, int] = {}  # where a heat's record stands
        self._waiting: list[Schedule] = []  # asked of the strategy, not yet proposed
        self._proposed = 0
        self._pending: set[Schedule] = set()  # proposed last and not yet told
        self._guide: ModelScore | None = None  # while the model is followed
        self._asked: ModelScore | None = None  # by whom the last schedules were chosen
        self._told_trust = trust.trusted

    def next(self, n: int) -> list[Schedule]:
        """At most `n` schedules to measure; `[]` only when the space is exhausted."""
        if self._first:
            chosen, self._first = self._first[:n], self._first[n:]
        elif self._oversample > 1 and self._guide is not None:
            chosen = self._pruned(n, self._guide)
        else:
            chosen = self._unpruned(n)
        self._proposed += len(chosen)
        self._pending = set(chosen)
        if self._guide is not None and self._guide.was_asked:
            self._asked = self._guide
        self._expect(chosen)
        return chosen

    @property
    def heat_runs(self) -> int | None:
        """Timed runs of what `next` gives; `None`: as many as the timing plan says."""
        return self._strategy.heat_runs if isinstance(self._strategy, RunsHeats) else None

    def promote(self, n: int) -> Sequence[Schedule]:
        """At most `n` schedules that won their heats, to be measured as the timing plan says."""
        return self._strategy.promote(n) if isinstance(self._strategy, RunsHeats) else []

    def tell(self, schedule: Schedule, measurement: Measurement, *, heat: bool = False) -> None:
        """Take a result, of this session or of an earlier one of the same workload.

        A later one of the same schedule stands in place of that of its heat.
        """
        if heat and isinstance(self._strategy, RunsHeats):
            self._strategy.tell_heat(schedule, measurement)
        else:
            self._strategy.tell(schedule, measurement)
        self._waiting = [each for each in self._waiting if each != schedule]
        self._first = [each for each in self._first if each != schedule]
        record = TuningRecord(self._workload, self._target, schedule, measurement, created_at="")
        place = self._heats.pop(schedule, len(self._records))
        self._records[place : place + 1] = [record]
        if heat:
            self._heats[schedule] = place
        self._pending.discard(schedule)
        self._judgement.tell(schedule, measurement)

    def refit(self) -> list[str]:
        """Learn from what was told; notices for people where the policy changes."""
        if self._model is None:
            return []
        self._judgement.settle()
        self._model.fit([*self._earlier, *self._records])
        followed = self._model.ready and self._judgement.trust.trusted
        self._guide = self._score() if followed else None
        self._strategy.guide(self._guide)
        return self._notices()

    def report(self) -> ModelReport | None:
        """How well the model does, and what is still to be gained; `None` while it has no part."""
        if self._model is None or not self._model.ready:
            return None
        candidates, further = None, None
        if self._guide is not None and self._asked is not None:
            offer = self._offer(self._asked, self._guide)
            if offer.free.any():
                candidates = self._candidates(offer)
                further = self._outlook(offer, self._guide)
        return ModelReport.of(self._judgement, candidates, further)

    def _offer(self, asked: ModelScore, guide: ModelScore) -> Offer:
        """What there was to choose from, as it stands after what was told and learnt since."""
        offer = asked.offer()
        if asked is guide:
            return offer
        told = {record.schedule for record in self._records}
        free = np.array([each not in told for each in offer.schedules], dtype=np.bool_)
        return Offer(offer.schedules, free, guide.prediction(offer.schedules))

    def _candidates(self, offer: Offer) -> Candidates:
        works = offer.prediction.works
        failing = 0 if works is None else int((works[offer.free] < 0.5).sum())
        left_out = max(0, int(offer.free.sum()) - len(self._pending))
        return Candidates(len(offer.free), left_out, failing)

    def _outlook(self, offer: Offer, guide: ModelScore) -> Outlook | None:
        """`None` also while there is no best that more trials could beat."""
        if not self._has_best:
            return None
        best = [offer.schedules[place] for place in promising(offer.prediction, offer.free)]
        rng = np.random.default_rng((self._seed, len(self._records)))
        further = believed(guide.prediction(best), FURTHER_TRIALS, rng)
        if further is None:
            return None
        promises = self._judgement.promises
        return promises.corrected(further, len(self._records), int(offer.free.sum()))

    @property
    def _has_best(self) -> bool:
        return any(record.measurement.is_ok for record in self._records)

    def _notices(self) -> list[str]:
        trust = self._judgement.trust
        if trust.trusted == self._told_trust:
            return []
        self._told_trust = trust.trusted
        return [trust.reason]

    def _unpruned(self, n: int) -> list[Schedule]:
        chosen, self._waiting = self._waiting[:n], self._waiting[n:]
        return [*chosen, *self._strategy.ask(n - len(chosen))] if len(chosen) < n else chosen

    def _pruned(self, n: int, guide: ModelScore) -> list[Schedule]:
        rng = np.random.default_rng((self._seed, self._proposed))
        self._waiting.extend(self._strategy.ask(n * self._oversample))
        blindly = int(n * self._explore + rng.random())
        order = np.argsort(-guide(self._waiting), kind="stable").tolist()
        kept, rest = order[: n - blindly], order[n - blindly :]
        kept += rng.permutation(rest)[:blindly].tolist()
        chosen = [self._waiting[place] for place in kept]
        self._waiting = [each for each in self._waiting if each not in set(chosen)]
        return chosen

    def _expect(self, schedules: Sequence[Schedule]) -> None:
        if self._model is not None and self._model.ready and self._has_best and schedules:
            rng = np.random.default_rng((self._seed, len(self._records)))
            self._judgement.expect(schedules, self._records, self._score().prediction, rng)

    def _score(self) -> ModelScore:
        assert self._model is not None
        return ModelScore(
            self._model,
            self._workload,
            self._target,
            self._acquisition,
            (self._seed, len(self._records)),
        )
