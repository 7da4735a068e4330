"""The shipped model, where a session has nothing of its own to learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autotune.strategies.base import SearchStrategy
from autotune.strategies.primed import Primed
from autotune.strategies.spaces import SearchableSpace
from cost_model.pretrained import SHIPPED
from cost_model.table import FindTemplate
from records.errors import InvalidInputError
from records.peaks import NO_PEAKS, PeaksOf
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry

if TYPE_CHECKING:
    from cost_model.pretrained.model import PretrainedModel


def primed(
    strategy: SearchStrategy,
    workload: Workload,
    target: Target,
    space: SearchableSpace,
    seed: int,
    notice: Callable[[str], None],
    *,
    path: Path = SHIPPED,
    find_template: FindTemplate = registry.template,
    peaks: PeaksOf = NO_PEAKS,
) -> SearchStrategy:
    """The strategy, beginning with what the model at `path` expects of the workload.

    The strategy alone where the model cannot be used, or was judged not to help on workloads or
    devices that it had not seen. `notice` is told which, and why.
    """
    try:
        model = _load(path, find_template, peaks)
        reason = model.header.why_outdated(find_template) or model.header.why_not(workload, target)
    except InvalidInputError as error:
        reason = str(error)
    if reason:
        notice(f"the pretrained model is not used: {reason}")
        return strategy

    notice("half of the first batches is what the pretrained model expects to be fast")

    def expectation(schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]:
        return model.predict(workload, target, schedules).score

    return Primed(strategy, space, expectation, seed, notice)


def _load(path: Path, find_template: FindTemplate, peaks: PeaksOf) -> PretrainedModel:
    from cost_model.pretrained.model import PretrainedModel  # XGBoost, once it is needed

    return PretrainedModel.load(path, find_template, peaks)
