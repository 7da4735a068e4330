"""A search put together: strategy, cost model, and what is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autotune.knowledge import informed, summary, usable
from autotune.proposer import Proposer
from autotune.session import NO_MODEL, model_of
from autotune.strategies import PRUNED, make_strategy
from autotune.strategies.base import SearchStrategy
from autotune.strategies.spaces import SearchableSpace
from autotune.warm_start import winners
from cost_model import make_model
from cost_model.groups import known_groups
from cost_model.table import FindTemplate
from cost_model.trust import Trust
from records.peaks import NO_PEAKS, PeaksOf
from records.record import TuningRecord
from records.target import Target
from records.workload import Workload
from search_spaces import registry

OVERSAMPLE = 3
"""Of strategies that do not decide themselves, so many times what is measured are asked for."""


def put_together(
    space: SearchableSpace,
    workload: Workload,
    target: Target,
    earlier: Sequence[TuningRecord],
    *,
    strategy: str,
    model: str,
    seed: int,
    notice: Callable[[str], None],
    find_template: FindTemplate = registry.template,
    peaks: PeaksOf = NO_PEAKS,
    begin: Callable[[SearchStrategy], SearchStrategy] = lambda strategy: strategy,
) -> Proposer:
    """The proposer of a search of `space` that knows the `earlier` records of others.

    It is an `informed` one if it can be. Else what won for the nearest others comes first, and then
    what the strategy asks. Where there are no such records, `begin` makes of the strategy what it
    likes. `model` is the one asked for, of which `model_of` the strategy is what counts.
    """
    model = model_of(strategy, model)
    earlier = usable(earlier, space)
    proposer = informed(
        space,
        workload,
        target,
        earlier,
        strategy=strategy,
        model=model,
        seed=seed,
        notice=notice,
        find_template=find_template,
        peaks=peaks,
    )
    if proposer is not None:
        return proposer
    if model != NO_MODEL and (known := known_groups(earlier, find_template)):
        notice(summary(known))
    asking = make_strategy(strategy, space, seed)
    return Proposer(
        asking if earlier else begin(asking),
        None if model == NO_MODEL else make_model(model, seed, find_template),
        Trust(),
        workload,
        target,
        oversample=OVERSAMPLE if strategy in PRUNED else 1,
        seed=seed,
        earlier=earlier,
        first=winners(earlier, workload, target, space, peaks=peaks),
    )
