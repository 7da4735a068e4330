"""How long and how often a kernel is run to know its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from autotune.confidence import median_above, relative_interval
from records.canonical import Value
from records.target import Target

FLUSHED_CACHES = 2  # times the last-level cache: what was in it is then gone, whatever it keeps


class Verdict(Enum):
    """What the timed runs so far say of a candidate."""

    OPEN = auto()  # another run is worth its time
    KNOWN = auto()  # its time is known well enough, or it had all its runs
    BEATEN = auto()  # slower than the best, by however little
    DROPPED = auto()  # clearly slower


@dataclass(frozen=True)
class TimingPlan:
    """The measurement protocol of one trial, exactly.

    One launch with poisoned outputs is checked against the reference and is never timed. Then
    runs are discarded until there were `warmup_runs` and `warmup_s` seconds of them: clocks rise
    first, and on a CPU the threads that a launch wakes may all start on one core, where they run
    at a fraction of their speed until the system spreads them. Then runs are timed, each after a
    cache flush of `flush_bytes` (0: warm caches), until `min_runs` are done and the 95 %
    confidence interval of the median is within ± `interval` of it, or `max_runs` or `budget_s`
    seconds are used up.

    Fewer runs are enough to lose. After `drop_runs` timed runs a candidate whose fastest run is
    slower than `drop_above_s` is dropped: it keeps its times and is marked `dropped`. One whose
    median is above `beaten_above_s` with a confidence of 7/8, of three runs all, is beaten: it is
    timed no further. What is as fast as that is beaten so by chance now and then, what is faster
    by more than the noise is not (`benchmarks/racing.md`).

    A compiler gets `compile_timeout_s`, a launch `launch_timeout_s`, before it is killed.
    """

    warmup_runs: int = 1
    warmup_s: float = 0.05
    min_runs: int = 5
    max_runs: int = 60
    interval: float = 0.01
    budget_s: float = 0.4
    drop_runs: int = 2
    drop_above_s: float | None = None
    beaten_above_s: float | None = None
    flush_bytes: int = 0
    compile_timeout_s: float = 30.0
    launch_timeout_s: float = 5.0

    def against(self, best_s: float | None, drop_factor: float) -> TimingPlan:
        """Of a trial beside a best of `best_s`: clearly slower from `drop_factor` times that on."""
        if best_s is None:
            return replace(self, drop_above_s=None, beaten_above_s=None)
        return replace(self, drop_above_s=drop_factor * best_s, beaten_above_s=best_s)

    def heat(self, runs: int) -> TimingPlan:
        """So many runs and no more, whoever is faster."""
        return replace(self.against(None, 1.0), min_runs=runs, max_runs=runs)

    def verdict(self, times_s: Sequence[float]) -> Verdict:
        """After one or more timed runs; the budget is the caller's to watch."""
        runs = len(times_s)
        if self.drop_above_s is not None and runs >= self.drop_runs:
            if min(times_s) > self.drop_above_s:
                return Verdict.DROPPED
        if self.beaten_above_s is not None and median_above(times_s, self.beaten_above_s):
            return Verdict.BEATEN
        if runs >= self.max_runs or (runs >= self.min_runs and self._is_narrow(times_s)):
            return Verdict.KNOWN
        return Verdict.OPEN

    def _is_narrow(self, times_s: Sequence[float]) -> bool:
        reached = relative_interval(times_s)
        return reached is not None and reached <= self.interval

    @property
    def circumstances(self) -> dict[str, Value]:
        """The part of the plan that a time depends on; kept in the environment of a record."""
        return {
            "flush_bytes": self.flush_bytes,
            "warmup_runs": self.warmup_runs,
            "warmup_s": self.warmup_s,
        }


def default_plan(target: Target) -> TimingPlan:
    """Warm caches on a CPU; on a GPU the last-level cache is flushed before each run.

    A GPU's kernels mostly find their operands in memory, and rates of a warm cache would beat
    the memory's. Simulated devices have no caches.
    """
    if target.limit("kind", "") != "gpu" or target.backend == "sim":
        return TimingPlan()
    return TimingPlan(flush_bytes=FLUSHED_CACHES * target.limit("cache_bytes", 0))
