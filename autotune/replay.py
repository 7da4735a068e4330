"""Searches replayed on recorded spaces: what a strategy and a model would have found, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from autotune.api import OVERSAMPLE
from autotune.proposer import Proposer
from autotune.recorded import RecordedSpace
from autotune.recordings.noise import MeasuredNoise
from autotune.session import BATCH, NO_MODEL
from autotune.strategies import DEFAULT, GUIDED, PRUNED, STRATEGIES, make_strategy
from autotune.strategies.spaces import SearchableSpace
from autotune.warm_start import winners
from cost_model import DEFAULT as DEFAULT_MODEL
from cost_model import MODELS, make_model
from cost_model.table import StatsSource
from cost_model.trust import Trust
from records.errors import InvalidInputError
from records.record import TuningRecord
from records.target import Target
from records.workload import Workload


@dataclass(frozen=True)
class Policy:
    """A way to search: a strategy, and the cost model that guides it or prunes what it asks."""

    strategy: str
    model: str = NO_MODEL

    @property
    def name(self) -> str:
        """`strategy` or `strategy+model`, as `parse` takes it."""
        return self.strategy if self.model == NO_MODEL else f"{self.strategy}+{self.model}"

    @classmethod
    def parse(cls, text: str) -> Policy:
        """`InvalidInputError` lists the names there are."""
        strategy, plus, model = text.strip().partition("+")
        if strategy not in STRATEGIES:
            raise InvalidInputError(f"no strategy {strategy!r}; there are: {', '.join(STRATEGIES)}")
        if plus and model not in MODELS:
            raise InvalidInputError(f"no cost model {model!r}; there are: {', '.join(MODELS)}")
        return cls(strategy, model if plus else NO_MODEL)


BAYESIAN = ("gaussian-process", "random-forest")
"""Models with which the default strategy is Bayesian optimisation as it is usually meant."""


def default_policies() -> list[Policy]:
    """What `autotune tune` does by default, Bayesian ones, and all that need no model."""
    alone = [name for name in STRATEGIES if name not in (DEFAULT, "exhaustive")]
    guided = [Policy(DEFAULT, model) for model in (DEFAULT_MODEL, *BAYESIAN)]
    return [*guided, *map(Policy, alone)]


@dataclass(frozen=True)
class Replayed:
    """One search. `fractions`: optimum over best found after 1, 2, … trials, 0 before any worked.

    `elapsed_s`: wall time of the whole search, which waits for no device.
    """

    fractions: tuple[float, ...]
    elapsed_s: float


def replay(
    policy: Policy,
    recorded: RecordedSpace,
    trials: int,
    seed: int,
    *,
    batch: int = BATCH,
    noise: MeasuredNoise | None = None,
    earlier: Sequence[TuningRecord] = (),
) -> Replayed:
    """Search as the tuner does, the recording answering.

    A trial is a schedule proposed, whether it works or not; fewer than `trials` where the space
    is exhausted. With noise the best is what the trials make seem so, and counts with its
    recorded time. `earlier`: records of other workloads or targets, which the model knows.
    Nothing survives from one call to the next.
    """
    started_s = time.perf_counter()
    best_s, fraction = float("inf"), 0.0
    fractions: list[float] = []
    for record in searched(
        policy, recorded, trials, seed, batch=batch, noise=noise, earlier=earlier
    ):
        time_s = record.measurement.time_s
        if time_s is not None and time_s < best_s:
            best_s = time_s
            fraction = recorded.optimum_s / (recorded.measure(record.schedule).time_s or best_s)
        fractions.append(fraction)
    return Replayed(tuple(fractions), time.perf_counter() - started_s)


def searched(
    policy: Policy,
    recorded: RecordedSpace,
    trials: int,
    seed: int,
    *,
    batch: int = BATCH,
    noise: MeasuredNoise | None = None,
    earlier: Sequence[TuningRecord] = (),
) -> Iterator[TuningRecord]:
    """The trials of that search, one after the other."""
    measure = recorded.measure
    if noise is not None:
        measure = partial(noise.measure, rng=np.random.default_rng((seed, 1)))
    proposer = make_proposer(policy, recorded, seed, earlier)
    if earlier:
        proposer.refit()
    done = 0
    while done < trials and (chosen := proposer.next(min(batch, trials - done))):
        for schedule in chosen:
            measurement = measure(schedule)
            proposer.tell(schedule, measurement)
            yield TuningRecord(recorded.workload, recorded.target, schedule, measurement, "")
        done += len(chosen)
        proposer.refit()


def mean_at(curves: Sequence[Sequence[float]], trials: int) -> float:
    """Mean of curves after so many trials; an exhausted space keeps its last value."""
    return sum(curve[min(trials, len(curve)) - 1] for curve in curves) / len(curves)


class Searched(SearchableSpace, Protocol):
    """A space that stands in for a device, whatever its measurements come from."""

    @property
    def workload(self) -> Workload: ...

    @property
    def target(self) -> Target: ...

    def find_template(self, op: str, name: str) -> StatsSource: ...


def make_proposer(
    policy: Policy, recorded: Searched, seed: int, earlier: Sequence[TuningRecord] = ()
) -> Proposer:
    """As the tuner has one for that strategy and model, which some strategies do not ask."""
    model = None
    if policy.model != NO_MODEL and policy.strategy in GUIDED | PRUNED:
        model = make_model(policy.model, seed, recorded.find_template)
    return Proposer(
        make_strategy(policy.strategy, recorded, seed),
        model,
        Trust(),
        recorded.workload,
        recorded.target,
        oversample=OVERSAMPLE if policy.strategy in PRUNED else 1,
        seed=seed,
        earlier=earlier,
        first=winners(earlier, recorded.workload, recorded),
    )
