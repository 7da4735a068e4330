"""Timing on cores that other processes use too.

A kernel that shares its cores with somebody else's work, or whose threads the system has put on one
core, shows a time that says nothing about it. Linux counts how long each thread was ready to run
and had to wait (`/proc/<pid>/task/<tid>/schedstat`, second number, nanoseconds); a run whose
threads waited is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from records.target import Target

WAITED_SHARE = 0.05  # of a run's time, over all our threads, above which it does not count
SETTLE_S = 0.0005  # a thread's waiting is counted when it gets a core: let it have ours
ATTEMPTS = 4  # then the fastest of them counts after all

_THREADS = Path("/proc/self/task")


@dataclass(frozen=True)
class Timed:
    """Seconds of one run; `disturbed` where other processes held our cores meanwhile."""

    time_s: float
    disturbed: bool


def on_this_host(target: Target) -> bool:
    """Whether kernels run in threads of this very process, where waiting can be seen."""
    return target.backend == "opencl" and target.is_cpu


def calm(run: Callable[[], float]) -> Timed:
    """The first of `ATTEMPTS` runs that nobody disturbed, or the fastest of them.

    `run` returns the seconds that it measured, perhaps of one of its launches. Where the system
    does not tell how long threads waited, every run counts as calm.
    """
    times_s = []
    for _ in range(ATTEMPTS):
        before_s, started_s = waited_s(), time.perf_counter()
        time_s = run()
        lasted_s = time.perf_counter() - started_s
        time.sleep(SETTLE_S)
        if waited_s() - before_s <= WAITED_SHARE * lasted_s:
            return Timed(time_s, disturbed=False)
        times_s.append(time_s)
    return Timed(min(times_s), disturbed=True)


def waited_s() -> float:
    """Seconds that this process's threads were ready and did not run, since they started."""
    return sum(map(_thread_waited_s, _THREADS.glob("*/schedstat")))


def _thread_waited_s(schedstat: Path) -> float:
    try:
        return int(schedstat.read_text().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):  # the thread has ended, or the system does not tell
        return 0.0
