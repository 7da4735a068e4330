"""The libraries in a tuning session: timed before the search, raced against its best at the end."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.backends.base import DeviceInfo
from autotune.benchmark import OURS
from autotune.contest import BURST_S, PAUSE_S, Contest, Ratio, Standing, hold, ratio
from autotune.libraries import libraries
from autotune.rendering import rendered
from autotune.runners import Job
from autotune.session import Clock, Observer
from records.canonical import Value
from records.errors import DeviceError
from records.measurement import Measurement, Status
from records.record import Kind, TuningRecord, utc_now
from records.schedule import Schedule
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect

LIBRARY_ROUNDS = 5
COMPARE_ROUNDS = 7
LIBRARY_VERSION = 1
START_S = 2.0  # of the process that holds a contest
REFERENCE_COST = 8.0  # of inputs and reference in float64, in times of a library's call


class Rivals:
    """The libraries that can do a workload; none unless `enabled`. What they take is stored.

    A contest that fails is a notice, never the end of a session: the trials stand.
    """

    def __init__(
        self,
        workload: Workload,
        info: DeviceInfo,
        store: TuningDatabase,
        observer: Observer,
        *,
        seed: int = 0,
        flush_bytes: int = 0,
        enabled: bool = True,
    ) -> None:
        assert info.target is not None, "only usable devices are tuned for"
        self._workload = workload
        self._device = info.name
        self._target: Target = info.target
        self._store = store
        self._observer = observer
        self._seed = seed
        self._flush_bytes = flush_bytes
        rivals = libraries(workload, info.target) if enabled else []
        self._names = tuple(library.name for library in rivals)

    def times_s(self) -> dict[str, float]:
        """Seconds of each library by name; measured unless the database knows."""
        known = {
            record.schedule.template: record.measurement.time_s
            for record in self._store.library(self._workload, self._target)
            if record.measurement.time_s is not None and self._is_comparable(record)
        }
        missing = tuple(name for name in self._names if name not in known)
        if missing:
            self._observer.notice(f"the libraries are timed first: {', '.join(missing)}")
            contest = self._contest((), missing, LIBRARY_ROUNDS)
            for standing in self._held(contest):
                if standing.time_s is not None:
                    known[standing.name] = standing.time_s
        return known

    def reserve_s(self, times_s: Mapping[str, float]) -> float:
        """About what `ratios` will take, if the best is no slower than the slowest library."""
        if not self._names:
            return 0.0
        slowest_s = max(times_s.values(), default=0.0)
        sample_s = PAUSE_S + max(BURST_S, slowest_s) + slowest_s
        turns = COMPARE_ROUNDS * (len(self._names) + 1)
        return START_S + REFERENCE_COST * slowest_s + turns * sample_s

    def ratios(self, best: TuningRecord | None, dialect: Dialect, clock: Clock) -> dict[str, Ratio]:
        """By how much `best` is faster than each library, interleaved in one run."""
        if best is None or not self._names:
            return {}
        if clock.left_s() <= 0:
            self._observer.notice("no time is left to race the best against the libraries")
            return {}
        try:
            source = rendered(self._workload, best.schedule, dialect)
        except Exception as error:  # an earlier best, whose template has changed since
            self._observer.notice(f"the best cannot be rendered any more: {error}")
            return {}
        job = Job(self._workload, best.schedule, source, self._seed)
        contest = self._contest(((OURS, job),), self._names, COMPARE_ROUNDS)
        standings = self._held(contest)
        ours = next((each for each in standings if each.name == OURS and not each.error), None)
        if ours is None:
            return {}
        return {
            standing.name: ratio(ours, standing)
            for standing in standings
            if standing is not ours and not standing.error
        }

    def _contest(
        self, kernels: tuple[tuple[str, Job], ...], names: tuple[str, ...], rounds: int
    ) -> Contest:
        return Contest(self._workload, kernels, names, rounds, self._seed, self._flush_bytes)

    def _is_comparable(self, record: TuningRecord) -> bool:
        """Whether it found the caches as our kernels find them."""
        environment = dict(record.measurement.environment)
        return environment.get("flush_bytes", 0) == self._flush_bytes

    def _held(self, contest: Contest) -> list[Standing]:
        """The standings, those of libraries stored; none where the contest fails."""
        try:
            standings = hold(self._device, contest)
        except DeviceError as error:
            self._observer.notice(f"the libraries were not timed: {error}")
            return []
        for standing in standings:
            if standing.name == OURS:
                if standing.error:
                    self._observer.notice(f"the best failed in the contest: {standing.error}")
            else:
                self._store.add(
                    library_record(self._workload, self._target, standing, self._flush_bytes)
                )
        return standings


def library_record(
    workload: Workload, target: Target, standing: Standing, flush_bytes: int
) -> TuningRecord:
    """What a library did in a contest, to be stored and asked for.

    Records without `flush_bytes` are of warm caches, as on a CPU.
    """
    flushed: dict[str, Value] = {"flush_bytes": flush_bytes} if flush_bytes else {}
    measurement = (
        Measurement.failed(Status.WRONG_RESULT, standing.error)
        if standing.error
        else Measurement.ok(standing.times_s, environment={**standing.details, **flushed})
    )
    schedule = Schedule.of(standing.name, LIBRARY_VERSION, {})
    return TuningRecord(workload, target, schedule, measurement, utc_now(), Kind.LIBRARY)
