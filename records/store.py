"""The tuning database: every trial of every session in one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, repeat
from pathlib import Path
from types import TracebackType

from records import exchange, inspection, queries, schema, soundness
from records.canonical import Items
from records.catalogue import Catalogue
from records.connection import Connection
from records.errors import InvalidInputError, NotTunedError
from records.exchange import ImportReport
from records.inspection import DatabaseInfo
from records.match import Match
from records.measurement import Measurement
from records.peaks import Peaks
from records.record import Kind, TuningRecord
from records.remedy import not_tuned
from records.rows import decode, decode_measurements, decode_schedules
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from records.writer import Writer

__all__ = ["DatabaseInfo", "ImportReport", "Match", "TuningDatabase"]

ALL_KINDS: frozenset[Kind] = frozenset(Kind)


class TuningDatabase:
    """Sessions, workloads, targets and trials in one SQLite file.

    Opens `path`, and creates it unless `read_only`. A file that may not be written opens
    read-only by itself; `read_only` tells. One process may write at a time, any number may read
    meanwhile; one object serves one thread. `busy_timeout_s`: seconds to wait for another
    writer before `DatabaseBusyError`. `SchemaError`: not a tuning database, written by a newer
    version, or damaged. Anything else that goes wrong with the file is a `DatabaseError`, and
    what was stored before stays.

    Records are never changed: measuring again adds another.
    """

    def __init__(
        self, path: str | Path, *, read_only: bool = False, busy_timeout_s: float = 30.0
    ) -> None:
        self.path = Path(path)
        self._connection = Connection(self.path, read_only, busy_timeout_s)
        self._catalogue = Catalogue(self._connection)
        self._writer = Writer(self._connection, self._catalogue)
        try:
            schema.prepare(self._connection)
        except BaseException:
            self._connection.close()
            raise

    @property
    def read_only(self) -> bool:
        return self._connection.read_only

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> TuningDatabase:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Writing

    def start_session(
        self,
        workload: Workload,
        target: Target,
        *,
        strategy: str,
        seed: int,
        options: Mapping[str, object],
    ) -> int:
        """Note that a search begins; its number goes with each of its records."""
        with self._writing():
            return self._writer.start_session(workload, target, strategy, seed, options)

    def end_session(self, session: int, outcome: str) -> None:
        """Note how a session ended: `"finished"`, `"interrupted"`, … Flushes to the disk."""
        with self._writing(durable=True):
            self._writer.end_session(session, outcome)

    def note_peaks(self, target: Target, peaks: Peaks) -> None:
        """Keep what was probed of a target, in place of what was known before."""
        if self.peaks().get(target) != peaks:
            with self._writing():
                self._writer.set_peaks(target, peaks)

    def add(self, record: TuningRecord, session: int | None = None) -> int:
        """Store a record and return its number.

        When it returns, the row is committed: no death of this process loses it.
        """
        with self._writing():
            return self._writer.insert(record, session)

    # Reading

    def records(
        self,
        workload: Workload | None = None,
        target: Target | None = None,
        *,
        op: str | None = None,
        kinds: Collection[Kind] = ALL_KINDS,
        ok_only: bool = False,
    ) -> Iterator[TuningRecord]:
        """Records that pass every filter given, oldest first, as they stand now."""
        wanted = _wanted(workload, target, op=op, kinds=kinds, ok_only=ok_only)
        found = queries.ids(self._connection, wanted)
        pages = queries.pages(self._connection, found)
        return (record for page in pages for record in decode(page, self._catalogue))

    def measured(
        self, workload: Workload, target: Target, environment: Items
    ) -> dict[Schedule, Measurement]:
        """What a search need not measure again under the same circumstances, failures too."""
        pair = self._pair(workload, target)
        number = self._catalogue.find_environment(environment)
        if pair is None or number is None:
            return {}
        rows = queries.measured(self._connection, pair, number)
        schedules = decode_schedules([row[:3] for row in rows])
        measurements = decode_measurements(
            [row[3:] for row in rows], repeat(environment, len(rows))
        )
        return dict(zip(schedules, measurements, strict=True))

    def best(
        self,
        workload: Workload,
        target: Target,
        *,
        environment: Items | None = None,
        include_libraries: bool = False,
        accept: Callable[[Schedule], bool] | None = None,
    ) -> Match:
        """The fastest usable schedule, by the rule in `records.queries`.

        With `include_libraries` it may be a library: a record of kind `LIBRARY`, whose schedule
        names it in place of a template.
        `environment`: the circumstances now; a schedule's measurement under them counts before
        its others. `accept` may refuse schedules, such as those of an outdated template.
        Raises `NotTunedError`, with the command that tunes, when nothing is usable.
        """
        for match in self._matches(workload, target, environment, include_libraries):
            if accept is None or accept(match.schedule):
                return match
        pair = self._pair(workload, target)
        outcomes = queries.outcomes(self._connection, pair) if pair else {}
        raise NotTunedError(not_tuned(workload, target, self.path, outcomes))

    def ranking(
        self,
        workload: Workload,
        target: Target,
        limit: int,
        *,
        include_libraries: bool = False,
        include_heats: bool = False,
        accept: Callable[[Schedule], bool] | None = None,
    ) -> list[Match]:
        """The `limit` fastest usable schedules, fastest first; the rest as for `best`.

        With `include_heats` also those of which nothing but a heat is known.
        """
        matches = self._matches(workload, target, None, include_libraries, include_heats)
        accepted = (match for match in matches if accept is None or accept(match.schedule))
        return list(islice(accepted, limit))

    def library(self, workload: Workload, target: Target) -> list[TuningRecord]:
        """Newest record of each library (a schedule of kind `LIBRARY`), fastest first."""
        pair = self._pair(workload, target)
        rows = queries.libraries(self._connection, pair) if pair else []
        return decode(rows, self._catalogue)

    def workloads(self) -> list[Workload]:
        """Every workload that was ever tuned or imported, oldest first."""
        rows = self._connection.rows("SELECT id FROM workloads ORDER BY id")
        return [self._catalogue.workload(number) for (number,) in rows]

    def targets(self) -> list[Target]:
        """Every target that anything was measured on, oldest first."""
        rows = self._connection.rows("SELECT id FROM targets ORDER BY id")
        return [self._catalogue.target(number) for (number,) in rows]

    def peaks(self) -> dict[Target, Peaks]:
        """Of the targets of which they are known: those probed last."""
        return self._catalogue.peaks()

    # Upkeep

    def info(self) -> DatabaseInfo:
        """What is in the file, and how large it is."""
        return inspection.info(self._connection, self._catalogue)

    def check(self) -> list[str]:
        """Everything that is wrong with the file, in words; `[]` if it is sound."""
        return soundness.check(self._connection)

    def export(
        self,
        path: str | Path,
        workload: Workload | None = None,
        target: Target | None = None,
        *,
        op: str | None = None,
    ) -> int:
        """Write records as JSON lines (gzip if `path` ends in `.gz`); returns how many.

        The peaks of their targets go with them. The file appears whole or not at all.
        """
        wanted = _wanted(workload, target, op=op)
        numbers = queries.target_ids(self._connection, wanted)
        peaks = {
            device: found
            for device, found in self.peaks().items()
            if self._catalogue.find_target(device) in numbers
        }
        return exchange.write_file(Path(path), self.records(workload, target, op=op), peaks)

    def import_(self, path: str | Path, *, skip_broken: bool = False) -> ImportReport:
        """Add the records of a file that `export` wrote, all of them or, on an error, none.

        Records that are already here, equal in everything, are skipped, and so are peaks of
        targets whose peaks are known. A broken line raises
        `InvalidInputError` with its number, unless `skip_broken`.
        """
        with exchange.open_file(Path(path)) as lines:
            return self.import_lines(lines, str(path), skip_broken=skip_broken)

    def import_lines(
        self, lines: Iterable[str], name: str, *, skip_broken: bool = False
    ) -> ImportReport:
        """`import_` from any lines of text; `name` is for messages."""
        report = ImportReport()
        with self._writing(durable=True):
            found = exchange.read(lines, name)
            for line in found.lines:
                try:
                    report.count(self._writer.insert_if_new(line.record()))
                except InvalidInputError as error:
                    if not skip_broken:
                        raise InvalidInputError(f"{line.place}: {error}") from error
                    report.broken.append(f"{line.place}: {error}")
            for target, peaks in found.peaks.items():
                self._writer.set_unknown_peaks(target, peaks)
        return report

    @contextmanager
    def _writing(self, *, durable: bool = False) -> Iterator[None]:
        try:
            with self._connection.transaction(durable=durable):
                yield
        except BaseException:
            self._catalogue.forget()
            raise

    def _pair(self, workload: Workload, target: Target) -> queries.Pair | None:
        workload_id = self._catalogue.find_workload(workload)
        target_id = self._catalogue.find_target(target)
        if workload_id is None or target_id is None:
            return None
        return queries.Pair(workload_id, target_id)

    def _matches(
        self,
        workload: Workload,
        target: Target,
        environment: Items | None,
        include_libraries: bool,
        include_heats: bool = False,
    ) -> Iterator[Match]:
        pair = self._pair(workload, target)
        if pair is None:
            return
        number = None if environment is None else self._catalogue.find_environment(environment)
        rows = queries.ranking(self._connection, pair, number, include_libraries, include_heats)
        for row in rows:
            (record,) = decode([row], self._catalogue)
            fits = environment is None or record.measurement.environment == environment
            yield Match(record, "exact" if fits else "stale")


def _wanted(
    workload: Workload | None,
    target: Target | None,
    *,
    op: str | None,
    kinds: Collection[Kind] = ALL_KINDS,
    ok_only: bool = False,
) -> queries.Wanted:
    workload_key = None if workload is None else workload.key
    target_key = None if target is None else target.key
    return queries.Wanted(workload_key, target_key, op, kinds, ok_only)
