"""What goes into a tuning database comes out of it, and the right one is the best."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from record_samples import DRIVER_1, DRIVER_2, TARGET, WORKLOAD, record, schedule

from records import Kind, Measurement, Schedule, Status, Target, TuningRecord, Workload
from records.canonical import freeze
from records.errors import DatabaseError, InvalidInputError, NotTunedError
from records.store import TuningDatabase

OTHER_WORKLOAD = Workload.of("attention", {"heads": 8, "dtype": "float16", "causal": True})
OTHER_TARGET = Target.of("sim", "steady", "sim-1", {"kind": "cpu", "units": 8})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TuningDatabase]:
    with TuningDatabase(tmp_path / "tuning.db") as opened:
        yield opened


def rows(database: TuningDatabase, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_records_come_back_as_they_were_and_oldest_first(database: TuningDatabase) -> None:
    records = [record(4, at=3), record(8, None, at=1), record(8, kind=Kind.FINAL, at=2)]
    for each in records:
        database.add(each)
    assert list(database.records()) == [records[1], records[2], records[0]]


def test_equal_numbers_of_other_types_are_other_workloads(database: TuningDatabase) -> None:
    whole, real, truth = (Workload.of("scale", {"by": by}) for by in (1, 1.0, True))
    for workload in (whole, real, truth):
        database.add(record(workload=workload))
    assert [type(workload["by"]) for workload in database.workloads()] == [int, float, bool]
    assert len(list(database.records(real))) == 1


def test_every_filter_of_records(database: TuningDatabase) -> None:
    search, failed = record(4, at=0), record(8, None, at=1)
    final = record(4, at=2, kind=Kind.FINAL)
    elsewhere = record(4, at=3, target=OTHER_TARGET)
    attention = record(4, at=4, workload=OTHER_WORKLOAD)
    for each in (search, failed, final, elsewhere, attention):
        database.add(each)
    assert list(database.records(WORKLOAD)) == [search, failed, final, elsewhere]
    assert list(database.records(WORKLOAD, TARGET)) == [search, failed, final]
    assert list(database.records(target=OTHER_TARGET)) == [elsewhere]
    assert list(database.records(op="attention")) == [attention]
    assert list(database.records(kinds={Kind.FINAL})) == [final]
    assert list(database.records(kinds=())) == []
    assert list(database.records(WORKLOAD, TARGET, ok_only=True)) == [search, final]
    assert list(database.records(Workload.of("matmul", {"m": 1}))) == []


def test_more_records_than_a_page_keep_their_order(database: TuningDatabase) -> None:
    records = [record(tile, at=tile) for tile in range(2100)]
    for each in records:
        database.add(each)
    found = database.records()
    assert next(found) == records[0]
    database.add(record(5000, at=5000))  # writing while reading
    assert list(found) == records[1:]


def test_what_was_measured_goes_by_environment_and_the_last_wins(
    database: TuningDatabase,
) -> None:
    first, second = record(4, 1e-3, at=1), record(4, 2e-3, at=2)
    failed = record(8, None, at=3)
    for each in (
        second,
        first,
        failed,
        record(16, environment=DRIVER_2),
        record(32, kind=Kind.FINAL),
        record(64, target=OTHER_TARGET),
    ):
        database.add(each)
    assert database.measured(WORKLOAD, TARGET, freeze(DRIVER_1)) == {
        schedule(4): second.measurement,
        schedule(8): failed.measurement,
    }
    assert database.measured(WORKLOAD, TARGET, freeze({"driver": "3.0"})) == {}
    assert database.measured(OTHER_WORKLOAD, TARGET, freeze(DRIVER_1)) == {}


def test_a_final_race_overrides_a_lucky_search(database: TuningDatabase) -> None:
    database.add(record(4, 1.0e-3, at=1))
    database.add(record(8, 1.1e-3, at=1))
    assert database.best(WORKLOAD, TARGET).schedule == schedule(4)
    database.add(record(4, 1.3e-3, at=2, kind=Kind.FINAL))
    database.add(record(8, 1.2e-3, at=2, kind=Kind.FINAL))
    best = database.best(WORKLOAD, TARGET)
    assert (best.schedule, best.time_s, best.how) == (schedule(8), 1.2e-3, "exact")
    assert [match.time_s for match in database.ranking(WORKLOAD, TARGET, 5)] == [1.2e-3, 1.3e-3]
    assert len(database.ranking(WORKLOAD, TARGET, 1)) == 1


def test_a_newer_failure_disqualifies_and_a_newer_success_redeems(
    database: TuningDatabase,
) -> None:
    database.add(record(4, 1e-3, at=1))
    database.add(record(8, 2e-3, at=1))
    database.add(record(4, None, at=2))
    assert database.best(WORKLOAD, TARGET).schedule == schedule(8)
    database.add(record(4, 1e-3, at=3))
    assert database.best(WORKLOAD, TARGET).schedule == schedule(4)


def test_newest_is_by_the_clock_and_not_by_the_order_of_import(database: TuningDatabase) -> None:
    database.add(record(4, 1e-3, at=9))
    database.add(record(4, None, at=1))
    assert database.best(WORKLOAD, TARGET).schedule == schedule(4)


def test_another_environment_makes_stale_but_not_lost(database: TuningDatabase) -> None:
    database.add(record(4, 1e-3, at=1))
    now = freeze(DRIVER_2)
    assert database.best(WORKLOAD, TARGET, environment=freeze(DRIVER_1)).how == "exact"
    assert database.best(WORKLOAD, TARGET, environment=now).how == "stale"
    database.add(record(4, 3e-3, at=0, environment=DRIVER_2))
    found = database.best(WORKLOAD, TARGET, environment=now)
    assert (found.how, found.time_s) == ("exact", 3e-3)


def test_libraries_compete_only_when_asked(database: TuningDatabase) -> None:
    database.add(record(4, 2e-3))
    old = record(0, 3e-3, at=1, kind=Kind.LIBRARY, template="openblas")
    new = record(0, 1e-3, at=2, kind=Kind.LIBRARY, template="openblas")
    broken = record(0, None, at=2, kind=Kind.LIBRARY, template="other")
    for each in (old, new, broken):
        database.add(each)
    assert database.library(WORKLOAD, TARGET) == [new, broken]
    assert database.best(WORKLOAD, TARGET).schedule == schedule(4)
    assert database.best(WORKLOAD, TARGET, include_libraries=True).record == new
    assert len(database.ranking(WORKLOAD, TARGET, 9)) == 1


def test_schedules_can_be_refused(database: TuningDatabase) -> None:
    database.add(record(4, 1e-3))
    database.add(record(8, 2e-3))
    assert database.best(WORKLOAD, TARGET, accept=lambda found: found["tile"] > 4).time_s == 2e-3
    with pytest.raises(NotTunedError):
        database.best(WORKLOAD, TARGET, accept=lambda _: False)


def test_not_tuned_tells_what_to_type(database: TuningDatabase) -> None:
    with pytest.raises(NotTunedError, match="never tuned") as caught:
        database.best(WORKLOAD, TARGET)
    command = shlex.split(str(caught.value).splitlines()[-1])
    assert command[:3] == ["autotune", "tune", "matmul"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert options["-m"] == "64" and options["--epilogue"] == "bias"
    assert options["--db"] == str(database.path) and options["--device"] == "sim:steady"


def test_not_tuned_counts_the_failures(database: TuningDatabase) -> None:
    for tile in (1, 2):
        database.add(record(tile, None, status=Status.TIMEOUT))
    with pytest.raises(NotTunedError, match="2 timeout"):
        database.best(WORKLOAD, TARGET)


def test_flags_and_empty_parameters_on_the_command_line(database: TuningDatabase) -> None:
    workload = Workload.of("attention", {"causal": True, "bias": False, "q_len": 7, "epilogue": ()})
    with pytest.raises(NotTunedError, match="attention --causal --q-len 7 --device"):
        database.best(workload, TARGET)


def test_sessions_are_kept_with_their_trials(database: TuningDatabase) -> None:
    session = database.start_session(
        WORKLOAD, TARGET, strategy="random", seed=7, options={"trials": 200}
    )
    trial = database.add(record(4), session)
    database.end_session(session, "finished")
    assert rows(database, "SELECT strategy, seed, options, outcome FROM sessions") == [
        ("random", 7, '{"trials":200}', "finished")
    ]
    assert rows(database, "SELECT id, session_id FROM trials") == [(trial, session)]


def test_an_unknown_session_is_refused_and_nothing_is_stored(database: TuningDatabase) -> None:
    with pytest.raises(InvalidInputError, match="no session 5"):
        database.add(record(4), 5)
    with pytest.raises(InvalidInputError, match="no session 5"):
        database.end_session(5, "finished")
    assert rows(database, "SELECT count(*) FROM trials") == [(0,)]
    database.add(record(4))  # the numbers of the rolled-back rows are not remembered
    assert database.check() == []


@pytest.mark.parametrize("created_at", ["", "yesterday", "2030-01-01T00:00:00+02:00"])
def test_times_of_day_that_would_not_sort_are_refused(
    database: TuningDatabase, created_at: str
) -> None:
    with pytest.raises(InvalidInputError, match="created_at"):
        database.add(
            TuningRecord(
                WORKLOAD, TARGET, schedule(4), record(4).measurement, created_at, Kind.SEARCH
            )
        )


def test_numbers_beyond_sqlite_are_refused_in_words(database: TuningDatabase) -> None:
    too_large = Schedule.of("tiled", 2**70, {})
    with pytest.raises(InvalidInputError, match="64 bits"):
        database.add(TuningRecord(WORKLOAD, TARGET, too_large, record(4).measurement, "2030-01-01"))
    assert database.check() == []


def test_a_compiler_log_that_is_no_text_is_kept_readable(database: TuningDatabase) -> None:
    log = b"error: \xff in kernel\x00".decode("utf-8", "surrogateescape")
    failed = Measurement.failed(Status.COMPILE_ERROR, log, details={"largest_error": float("nan")})
    database.add(TuningRecord(WORKLOAD, TARGET, schedule(4), failed, "2030-01-01"))
    (found,) = database.records()
    assert found.measurement.error == "error: \\udcff in kernel\x00"
    assert found.measurement.detail("largest_error") == "nan"


def test_targets_and_workloads_are_listed_once(database: TuningDatabase) -> None:
    for tile in (1, 2):
        database.add(record(tile))
        database.add(record(tile, workload=OTHER_WORKLOAD, target=OTHER_TARGET))
    assert database.workloads() == [WORKLOAD, OTHER_WORKLOAD]
    assert database.targets() == [TARGET, OTHER_TARGET]


def test_info_counts(database: TuningDatabase) -> None:
    database.add(record(4, 2e-3))
    database.add(record(8, None))
    database.add(record(8, None, target=OTHER_TARGET))
    info = database.info()
    assert info.rows["trials"] == 3 and info.rows["targets"] == 2
    assert info.statuses == {"ok": 1, "wrong_result": 2}
    assert [(pair.target, pair.trials) for pair in info.pairs] == [(TARGET, 2), (OTHER_TARGET, 1)]
    assert info.pairs[0].best is not None and info.pairs[0].best.time_s == 2e-3
    assert info.pairs[1].best is None
    assert info.bytes >= database.path.stat().st_size > 0
    assert "2 ms" in str(info) and "none usable" in str(info)
    assert info.to_json()["pairs"][0]["best"] == record(4, 2e-3).to_json()


def test_views_for_people(database: TuningDatabase) -> None:
    database.add(record(4, 1e-3))
    database.add(record(8, None, status=Status.TIMEOUT))
    database.add(record(16, None, status=Status.TIMEOUT))
    (best,) = rows(
        database, "SELECT op, dtype, device, time_ms, gflops, template FROM best_schedules"
    )
    flops = 2 * 64 * 32 * 16
    assert best[:3] == ("matmul", "float32", "steady") and best[5] == "tiled"
    assert best[3:5] == pytest.approx((1.0, flops / 1e-3 / 1e9))
    (sizes,) = rows(database, "SELECT sizes FROM best_schedules")[0]
    assert set(str(sizes).split()) == {"batch=1", "k=16", "m=64", "n=32"}
    (failure,) = rows(database, "SELECT status, trials, example FROM failures")
    assert failure[:2] == ("timeout", 2) and "timeout of" in str(failure[2])


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path / "tuning.db")
    database.close()
    with pytest.raises(DatabaseError, match="closed"):
        database.add(record(4))


def test_the_best_of_many_is_found_by_index(database: TuningDatabase) -> None:
    """Counts the virtual machine's steps: as many for twice the trials."""
    steps = []
    for half in range(2):
        for tile in range(400):
            database.add(record(1000 * half + tile, 1e-3 + 1e-6 * tile))
        count = 0

        def progress() -> int:
            nonlocal count
            count += 1
            return 0

        database._connection._sqlite.set_progress_handler(progress, 10)
        database.best(WORKLOAD, TARGET)
        database._connection._sqlite.set_progress_handler(None, 10)
        steps.append(count)
    assert steps[1] <= steps[0] + 5
