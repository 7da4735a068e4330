"""The seam of search: what to try next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from records.measurement import Measurement
from records.schedule import Schedule

Score: TypeAlias = Callable[[Sequence[Schedule]], npt.NDArray[np.float64]]
"""Predicted merit of schedules, higher is faster; only the order means something."""


@runtime_checkable
class BatchScore(Protocol):
    """A `Score` that also tells which schedules are worth measuring together.

    `choose(schedules, free, n)` gives the places of at most `n` of the schedules, best first and
    only such as are `free`. A tuple that comes again is recognised and costs less.
    """

    def __call__(self, schedules: Sequence[Schedule]) -> npt.NDArray[np.float64]: ...

    def choose(
        self, schedules: Sequence[Schedule], free: npt.NDArray[np.bool_], n: int
    ) -> Sequence[int]: ...


class SearchStrategy(Protocol):
    """Proposes schedules of one search (the union of several templates' spaces).

    `ask(n)` gives at most `n` distinct schedules never asked before, told or not, and `[]` only
    when the space is exhausted. `tell` reports each outcome, failures too; it may also report
    schedules never asked (resumed from a database), which are then never asked either.
    `guide(score)` hands over a cost model's prediction, perhaps a `BatchScore`, or `None` to
    withdraw it.
    Deterministic: the same seed, spaces and calls give the same proposals.
    """

    def ask(self, n: int) -> Sequence[Schedule]: ...

    def tell(self, schedule: Schedule, measurement: Measurement) -> None: ...

    def guide(self, score: Score | None) -> None: ...


@runtime_checkable
class RunsHeats(SearchStrategy, Protocol):
    """A strategy of two fidelities: heats of few runs, and trials as the timing plan has them.

    What it asks runs `heat_runs` times. `tell_heat` reports that where it worked; a failure is
    final, and `tell` reports it. `promote(n)` gives at most `n` schedules of told heats that are
    worth a full trial, which `tell` reports; each is promoted once.
    """

    @property
    def heat_runs(self) -> int: ...

    def tell_heat(self, schedule: Schedule, measurement: Measurement) -> None: ...

    def promote(self, n: int) -> Sequence[Schedule]: ...
