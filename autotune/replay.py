"""Searches replayed on recorded spaces: what a strategy and a model would have found, and when."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autotune.proposer import Proposer
from autotune.recorded import RecordedSpace
from autotune.recordings.noise import MeasuredNoise, Repeats
from autotune.searches import put_together
from autotune.session import BATCH, NO_MODEL, model_of
from autotune.strategies import DEFAULT, GUIDED, STRATEGIES
from autotune.strategies.spaces import SearchableSpace
from cost_model import DEFAULT as DEFAULT_MODEL
from cost_model import MODELS
from cost_model.table import StatsSource
from records.errors import InvalidInputError
from records.record import Kind, TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload


@dataclass(frozen=True)
class Policy:
    """A way to search: a strategy, and the cost model that guides it or prunes what it asks."""

    strategy: str
    model: str = NO_MODEL

    @property
    def name(self) -> str:
        """`strategy+model`, or `strategy` of one that need not have a model; `parse` takes it."""
        without = self.model == NO_MODEL and self.strategy not in GUIDED
        return self.strategy if without else f"{self.strategy}+{self.model}"

    @classmethod
    def parse(cls, text: str) -> Policy:
        """From `strategy`, with the model that `tune` gives it, or from `strategy+model`.

        `InvalidInputError` lists the names there are.
        """
        strategy, plus, model = text.strip().partition("+")
        if strategy not in STRATEGIES:
            raise InvalidInputError(f"no strategy {strategy!r}; there are: {', '.join(STRATEGIES)}")
        if not plus:
            return cls(strategy, model_of(strategy, None))
        if model not in (*MODELS, NO_MODEL):
            names = ", ".join((*MODELS, NO_MODEL))
            raise InvalidInputError(f"no cost model {model!r}; there are: {names}")
        if model_of(strategy, model) != model:
            raise InvalidInputError(
                f"{text.strip()}: {strategy} follows measurements alone; name it without a model"
            )
        return cls(strategy, model)


BAYESIAN = ("gaussian-process", "random-forest")
"""Models with which the default strategy is Bayesian optimisation as it is usually meant."""


def default_policies() -> list[Policy]:
    """What `autotune tune` does by default, Bayesian ones, and all that need no model."""
    unlike = (DEFAULT, "exhaustive", "racing")  # a recorded time is one whatever the runs
    alone = [name for name in STRATEGIES if name not in unlike]
    guided = [Policy(DEFAULT, model) for model in (DEFAULT_MODEL, *BAYESIAN)]
    return [*guided, *map(Policy, alone)]


@dataclass(frozen=True)
class Replayed:
    """One search. `fractions`: optimum over best found after 1, 2, … trials, 0 before any worked.

    `elapsed_s`: wall time of the whole search, which waits for no device. `runs`: timed runs of
    kernels until then, after each trial; a failure counts as one.
    """

    fractions: tuple[float, ...]
    elapsed_s: float
    runs: tuple[int, ...] = ()


class Tally:
    """Of the trials of a search so far: `runs` of kernels that were timed, a failure counting as
    one, and the `fraction`, optimum over the time recorded of what seems the best; 0 before any
    worked. A heat seems so only while there is no full trial."""

    def __init__(self, recorded: RecordedSpace) -> None:
        self.runs = 0
        self.fraction = 0.0
        self._recorded = recorded
        self._best = True, math.inf  # whether it is a heat, and its time

    def count(self, record: TuningRecord) -> None:
        self.runs += max(1, len(record.measurement.times_s))
        time_s, is_heat = record.measurement.time_s, record.kind is Kind.HEAT
        if time_s is not None and (is_heat, time_s) < self._best:
            self._best = is_heat, time_s
            known_s = self._recorded.measure(record.schedule).time_s
            self.fraction = self._recorded.optimum_s / (known_s or time_s)


def replay(
    policy: Policy,
    recorded: RecordedSpace,
    trials: int,
    seed: int,
    *,
    batch: int = BATCH,
    noise: MeasuredNoise | Repeats | None = None,
    earlier: Sequence[TuningRecord] = (),
    told: Callable[[TuningRecord], object] | None = None,
) -> Replayed:
    """Search as the tuner does, the recording answering.

    A trial is a schedule proposed, whether it works or not; fewer than `trials` where the space
    is exhausted. With noise the best is what the trials make seem so (`Tally`). `earlier`: records
    of other workloads or targets, which the model knows. `told` gets each trial. Nothing survives
    from one call to the next.
    """
    started_s = time.perf_counter()
    tally = Tally(recorded)
    fractions: dict[Schedule, float] = {}
    runs: dict[Schedule, int] = {}
    for record in searched(
        policy, recorded, trials, seed, batch=batch, noise=noise, earlier=earlier
    ):
        if told is not None:
            told(record)
        tally.count(record)
        # what is promoted is no trial more: it belongs to the one before
        last = record.schedule if record.schedule not in runs else next(reversed(runs))
        fractions[last], runs[last] = tally.fraction, tally.runs
    elapsed_s = time.perf_counter() - started_s
    return Replayed(tuple(fractions.values()), elapsed_s, tuple(runs.values()))


def warm_up(policy: Policy, recorded: RecordedSpace) -> None:
    """Search until a fitted model has chosen a batch: models are imported when they are needed,
    which takes a second that would count as time of the first `replay`."""
    for _ in searched(policy, recorded, 2 * BATCH, seed=0):
        pass


def searched(
    policy: Policy,
    recorded: RecordedSpace,
    trials: int,
    seed: int,
    *,
    batch: int = BATCH,
    noise: MeasuredNoise | Repeats | None = None,
    earlier: Sequence[TuningRecord] = (),
) -> Iterator[TuningRecord]:
    """The trials of that search, one after the other: its heats too, if it has any."""
    repeats = Repeats(noise) if isinstance(noise, MeasuredNoise) else noise
    device = _Device(recorded, repeats, np.random.default_rng((seed, 1)))
    proposer = make_proposer(policy, recorded, seed, earlier)
    if earlier:
        proposer.refit()
    done = 0
    while done < trials and (chosen := proposer.next(min(batch, trials - done))):
        for record in device.measured(chosen, proposer.heat_runs):
            proposer.tell(record.schedule, record.measurement, heat=record.kind is Kind.HEAT)
            yield record
        for record in device.measured(proposer.promote(batch)):
            proposer.tell(record.schedule, record.measurement)
            yield record
        done += len(chosen)
        proposer.refit()


class _Device:
    """A recording as the device of one search."""

    def __init__(
        self, recorded: RecordedSpace, repeats: Repeats | None, rng: np.random.Generator
    ) -> None:
        self._recorded = recorded
        self._repeats = repeats
        self._rng = rng
        self._best_s: float | None = None

    def measured(
        self, schedules: Sequence[Schedule], heat_runs: int | None = None
    ) -> Iterator[TuningRecord]:
        """A record each, beside the best before; what fails in a heat has failed."""
        before_s = self._best_s
        for schedule in schedules:
            if self._repeats is None:
                measurement = self._recorded.measure(schedule)
            else:
                measurement = self._repeats.measure(schedule, self._rng, before_s, heat_runs)
            kind = Kind.HEAT if heat_runs is not None and measurement.is_ok else Kind.SEARCH
            if measurement.time_s is not None and kind is Kind.SEARCH:
                self._best_s = min(self._best_s or measurement.time_s, measurement.time_s)
            target = self._recorded.target
            yield TuningRecord(self._recorded.workload, target, schedule, measurement, "", kind)


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
    return put_together(
        recorded,
        recorded.workload,
        recorded.target,
        earlier,
        strategy=policy.strategy,
        model=policy.model,
        seed=seed,
        notice=lambda text: None,
        find_template=recorded.find_template,
    )
