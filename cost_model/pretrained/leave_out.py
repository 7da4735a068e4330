"""How right a model is about workloads, or devices, that it never saw: scikit-learn's groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from cost_model.base import Floats
from cost_model.evaluate import best_of_top, pairwise_accuracy, random_best_of_top
from cost_model.groups import Group
from cost_model.pretrained.header import Judged
from cost_model.pretrained.model import PretrainedModel
from cost_model.pretrained.training import train
from cost_model.table import FindTemplate
from records.peaks import NO_PEAKS, PeaksOf
from search_spaces import registry

TOPS = (1, 5, 10)
RECALL = 30
"""How many of the fastest so many are among the so many best predicted."""

HELD_OUT: dict[str, Callable[[Group], object]] = {
    "workload": lambda group: group.workload,
    "device": lambda group: group.target,
}
PARTS = 20
"""Of more workloads or devices than that, several are held out together."""


@dataclass(frozen=True)
class Unseen:
    """What was predicted for one workload on one device, by a model that had not seen it.

    `losses` and `random_losses`: by each of `TOPS`, the share of the best speed that the best of
    so many, predicted or random, does not reach. `recall` is NaN where nearly all are among the
    `RECALL` fastest.
    """

    group: Group
    accuracy: float
    losses: tuple[float, ...]
    random_losses: tuple[float, ...]
    recall: float

    @property
    def random_recall(self) -> float:
        """The same of a guess."""
        return math.nan if math.isnan(self.recall) else RECALL / len(self.group.schedules)

    @classmethod
    def of(cls, group: Group, score: Floats) -> Unseen:
        times_s = group.times_s
        return cls(
            group,
            pairwise_accuracy(score, times_s),
            tuple(1.0 - best_of_top(score, times_s, top) for top in TOPS),
            tuple(1.0 - random_best_of_top(times_s, top) for top in TOPS),
            _recall(score, times_s),
        )


def _recall(score: Floats, times_s: Floats) -> float:
    if len(times_s) < 2 * RECALL:
        return math.nan
    fastest = set(np.argsort(times_s, kind="stable")[:RECALL].tolist())
    predicted = set(np.argsort(-score, kind="stable")[:RECALL].tolist())
    return len(fastest & predicted) / RECALL


def leave_out(
    groups: Sequence[Group],
    held_out: str,
    find_template: FindTemplate = registry.template,
    seed: int = 0,
    peaks: PeaksOf = NO_PEAKS,
) -> list[Unseen]:
    """Of every group; `held_out` is a name of `HELD_OUT`. Empty where there is only one to hold."""
    keys = [HELD_OUT[held_out](group) for group in groups]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(numbers) < 2:
        return []
    labels = [numbers[key] for key in keys]
    splitter = LeaveOneGroupOut() if len(numbers) <= PARTS else GroupKFold(PARTS)
    found: list[Unseen] = []
    for known, unseen in splitter.split(labels, groups=labels):
        model = train([groups[place] for place in known], find_template, seed, peaks)
        for place in unseen:
            group = groups[place]
            score = model.predict(group.workload, group.target, group.schedules).score
            found.append(Unseen.of(group, score))
    return found


def judged(found: Iterable[Unseen]) -> dict[str, Judged]:
    """By op, what a model file says of itself."""
    by_op: dict[str, list[Unseen]] = {}
    for each in found:
        by_op.setdefault(each.group.workload.op, []).append(each)
    return {
        op: Judged(
            len(unseen),
            float(np.nanmean([each.accuracy for each in unseen])),
            float(np.mean([each.losses for each in unseen])),
            float(np.mean([each.random_losses for each in unseen])),
        )
        for op, unseen in by_op.items()
    }


def train_judged(
    groups: Sequence[Group],
    find_template: FindTemplate = registry.template,
    seed: int = 0,
    peaks: PeaksOf = NO_PEAKS,
) -> PretrainedModel:
    """A model of all groups that knows how right its like were about what they had not seen."""
    model = train(groups, find_template, seed, peaks)
    found: dict[str, dict[str, Judged]] = {}
    for held_out in HELD_OUT:
        unseen = leave_out(groups, held_out, find_template, seed, peaks)
        for op, each in judged(unseen).items():
            found.setdefault(op, {})[held_out] = each
    model.header = replace(model.header, judged=found)
    return model
