"""What goes into a tuning session, and what comes out of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from autotune.contest import Ratio
from autotune.strategies import DEFAULT as DEFAULT_STRATEGY
from autotune.strategies import GUIDED, PRUNED, STRATEGIES
from autotune.timing import TimingPlan
from cost_model import DEFAULT as DEFAULT_MODEL
from cost_model import FORESEEING, MODELS
from records.errors import InvalidInputError
from records.measurement import Status
from records.record import TuningRecord
from records.target import Target
from records.workload import Workload

if TYPE_CHECKING:
    from autotune.model_report import ModelReport

INTERRUPTED = "interrupted"
LITTLE_TO_GAIN = "little to gain"
NO_MODEL = "none"
BATCH = 12
GPU_BATCH = 24


@dataclass(frozen=True)
class TuningOptions:
    """What bounds a session and how it searches.

    `trials`: schedules measured in all under the same circumstances, earlier sessions included.
    `time_limit_s`: seconds for this session, the race of the finalists included.
    `model`: `None` for the default where the strategy follows predictions, else none.
    `batch`: schedules proposed, compiled and measured between two fits of the cost model.
    `stop_gain`: ends the search where `FURTHER_TRIALS` more are expected to gain less than that
    share, 0.005 for half a per cent (`autotune/stopping.py`).
    `finalists` are raced again for `race_rounds` interleaved rounds; none with 0.
    A trial slower than `drop_factor` × the best time is dropped after its first runs.
    """

    trials: int = 200
    time_limit_s: float | None = None
    seed: int = 0
    strategy: str = DEFAULT_STRATEGY
    model: str | None = None
    batch: int = BATCH
    stop_gain: float | None = None
    finalists: int = 6
    race_rounds: int = 15
    drop_factor: float = 1.5
    plan: TimingPlan = field(default_factory=TimingPlan)

    def __post_init__(self) -> None:
        leasts = (("trials", 1), ("batch", 1), ("finalists", 0), ("race_rounds", 1), ("seed", 0))
        for name, least in leasts:
            given = getattr(self, name)
            if not isinstance(given, int) or given < least:
                raise InvalidInputError(
                    f"{name}={given!r}: need a whole number of at least {least}"
                )
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise InvalidInputError(f"time limit {self.time_limit_s} s: need more than 0 seconds")
        share = self.stop_gain
        if share is not None and not (isinstance(share, int | float) and share > 0):
            raise InvalidInputError(f"stop_gain={share!r}: need a share above 0, as 0.005")
        _check_name("strategy", self.strategy, (*STRATEGIES,))
        _check_name("cost model", self.model or NO_MODEL, (*MODELS, NO_MODEL))
        if self.stop_gain is not None and self.model_used not in FORESEEING:
            raise InvalidInputError(
                "stop_gain: need a model that tells what is still to be gained, as guided has with "
                f"{' or '.join(sorted(FORESEEING))}; got {self.strategy} with {self.model_used}"
            )

    @property
    def model_used(self) -> str:
        return model_of(self.strategy, self.model)


def model_of(strategy: str, asked: str | None) -> str:
    """The cost model that has a part in a search, or `NO_MODEL`; `asked` is `None` for whatever
    the strategy has by default."""
    if strategy in GUIDED:
        return asked or DEFAULT_MODEL
    return (asked or NO_MODEL) if strategy in PRUNED else NO_MODEL


def batch_size(target: Target) -> int:
    """Schedules between two fits. A trial takes a GPU a tenth of a second: pauses there count."""
    is_quick = target.limit("kind", "") == "gpu" and target.backend != "sim"
    return GPU_BATCH if is_quick else BATCH


def _check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InvalidInputError(f"no {what} {name!r}; there are: {', '.join(known)}")


class Clock:
    """Runs from when it is made. `limit_s`: seconds until everything should be done, or `None`."""

    def __init__(self, limit_s: float | None = None) -> None:
        self.limit_s = limit_s
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def left_s(self, reserve_s: float = 0.0) -> float:
        """Seconds left, but for a reserve, which takes half of the limit at most."""
        if self.limit_s is None:
            return float("inf")
        return self.limit_s - self.elapsed_s - min(reserve_s, self.limit_s / 2)


@dataclass(frozen=True)
class Progress:
    """Where a session stands. `counts` by status; times in seconds.

    `model`: what is to be said of the cost model, `None` while it has no part.
    """

    done: int
    trials: int
    resumed: int
    counts: Counter[Status]
    best: TuningRecord | None
    elapsed_s: float
    time_limit_s: float | None
    model: ModelReport | None = None


@dataclass(frozen=True)
class Context:
    """What a session's times are compared with, seconds; empty and `None` where unknown.

    `libraries`: each library's time by name. `floor_s`: the device's roofline for the workload.
    """

    workload: Workload
    target: Target
    libraries: Mapping[str, float] = field(default_factory=dict)
    floor_s: float | None = None


class Observer(Protocol):
    """Is told what happens, in the tuner's thread; what it raises ends the session.

    `started` once, when the search begins; `trial` after each trial's row is stored; `notice`
    with a sentence for people, at any time.
    """

    def started(self, context: Context, progress: Progress) -> None: ...

    def trial(self, record: TuningRecord, progress: Progress) -> None: ...

    def notice(self, text: str) -> None: ...


class SilentObserver:
    """Says nothing."""

    def started(self, context: Context, progress: Progress) -> None:
        pass

    def trial(self, record: TuningRecord, progress: Progress) -> None:
        pass

    def notice(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class TuningResult:
    """What a session found. `best` is the database's answer when the session ended.

    `ties` are those that the race of `best` could not tell from it.
    `outcome`: `"finished"`, `"time limit"`, `"little to gain"`, `"exhausted"` (no schedule left) or
    `"interrupted"`.
    `ratios`: by how much the best is faster than each library, raced against it at the end.
    """

    context: Context
    best: TuningRecord | None
    ties: tuple[TuningRecord, ...]
    progress: Progress
    outcome: str
    ratios: Mapping[str, Ratio] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        return self.context.workload

    @property
    def target(self) -> Target:
        return self.context.target

    @property
    def model(self) -> ModelReport | None:
        """How right the cost model was, and what it expects of going on; `None` without one."""
        return self.progress.model
