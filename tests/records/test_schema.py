"""Which files open, which are refused and why, and how old ones become new."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
from pathlib import Path

import pytest
from make_schema_asset import ASSETS, RECORDS
from record_samples import PEAKS, TARGET, WORKLOAD, record, schedule

from records import schema
from records.connection import Connection
from records.errors import DatabaseError, SchemaError
from records.peaks import Peaks
from records.store import TuningDatabase
from records.target import Target

NOW = schema.MIGRATIONS[-1].version


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(("version", "peaks"), [(1, {}), (2, {TARGET: PEAKS})])
def test_the_kept_file_of_each_schema_still_opens(
    tmp_path: Path, version: int, peaks: dict[Target, Peaks]
) -> None:
    path = tmp_path / "old.db"
    shutil.copy(ASSETS / f"schema_{version}.db", path)
    with TuningDatabase(path) as database:
        assert database.peaks() == peaks
        assert tuple(database.records()) == RECORDS
        assert database.best(WORKLOAD, TARGET).schedule == schedule(8)
        assert database.check() == []
        assert database.info().schema_version == NOW
        database.add(record(64))


def test_an_older_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    shutil.copy(ASSETS / "schema_1.db", path)
    before = path.read_bytes()
    with TuningDatabase(path, read_only=True) as database:
        assert tuple(database.records()) == RECORDS
        assert database.best(WORKLOAD, TARGET).schedule == schedule(8)
        assert database.peaks() == {}
        assert database.check() == []
        assert database.info().schema_version == 1
    assert path.read_bytes() == before


def test_versions_rise_by_one() -> None:
    versions = [migration.version for migration in schema.MIGRATIONS]
    assert versions == list(range(1, len(versions) + 1))


def test_the_parts_are_all_there_and_known(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    TuningDatabase(path).close()
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    assert {name for (name,) in names} == {*schema.TABLES, *schema.INDEXES, *schema.VIEWS}
    connection.close()


def test_every_released_schema_has_its_kept_file() -> None:
    for migration in schema.MIGRATIONS:
        assert (ASSETS / f"schema_{migration.version}.db").is_file()


def test_a_database_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    change(path, "CREATE TABLE recipes (name)")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"not a tuning database.*name another file"):
        TuningDatabase(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    TuningDatabase(path).close()
    change(path, "PRAGMA user_version = 99")
    with pytest.raises(SchemaError, match=r"version 99.*upgrade"):
        TuningDatabase(path)


def test_a_text_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n" * 200)
    for read_only in (False, True):
        with pytest.raises(SchemaError, match="not an SQLite database"):
            TuningDatabase(path, read_only=read_only)
    assert path.read_text() == "buy milk\n" * 200


def overwrite(path: Path, pages: range) -> None:
    content = bytearray(path.read_bytes())
    for page in pages:
        start = 4096 * (page - 1)  # SQLite counts pages from 1
        content[start : start + 4096] = b"\xa5" * 4096
    path.write_bytes(content)


def test_a_damaged_table_is_found_and_told(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    shutil.copy(ASSETS / "schema_1.db", path)
    connection = sqlite3.connect(path)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'trials'"
    ).fetchone()
    connection.close()
    overwrite(path, range(page, page + 1))
    with TuningDatabase(path) as database:
        assert database.check()
        with pytest.raises(SchemaError, match="damaged"):
            list(database.records())


def test_a_file_damaged_all_over_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    shutil.copy(ASSETS / "schema_1.db", path)
    overwrite(path, range(2, path.stat().st_size // 4096 + 1))
    with pytest.raises(SchemaError, match="damaged.*restore a copy"):
        TuningDatabase(path)


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with TuningDatabase(path) as database:
        assert database.check() == [] and list(database.records()) == []


def test_reading_needs_a_file(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(DatabaseError, match="no such file.*autotune tune"):
        TuningDatabase(path, read_only=True)
    assert not path.exists()


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="is a directory"):
        TuningDatabase(tmp_path)
    with pytest.raises(DatabaseError, match="mkdir -p"):
        TuningDatabase(tmp_path / "absent" / "tuning.db")


def test_names_that_look_like_a_query(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#1 %41.db"
    with TuningDatabase(path) as database:
        database.add(record(4))
    assert path.is_file()
    with TuningDatabase(str(path), read_only=True) as database:
        assert list(database.records()) == [record(4)]


def test_a_link_to_a_database_serves_as_the_database(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "tuning.db", tmp_path / "there" / "real.db"
    link.symlink_to(file)
    with TuningDatabase(link) as database:
        database.add(record(4))
        assert database.info().bytes > file.stat().st_size  # its log counts too
    with TuningDatabase(file, read_only=True) as database:
        assert list(database.records()) == [record(4)]


def failing(connection: Connection) -> None:
    connection.execute("DROP TABLE trials")
    connection.execute("SELECT nonsense")


def adding(connection: Connection) -> None:
    connection.execute("ALTER TABLE trials ADD COLUMN note TEXT")


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as database:
        database.add(record(4))
    connection = Connection(path, False, 1.0)
    with pytest.raises(DatabaseError, match="nonsense"):
        schema.prepare(connection, (*schema.MIGRATIONS, schema.Migration(NOW + 1, failing)))
    connection.close()
    with TuningDatabase(path) as database:
        assert list(database.records()) == [record(4)]
        assert database.info().schema_version == NOW


def test_a_migration_keeps_the_records_and_old_versions_then_refuse(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as database:
        database.add(record(4))
    migrations = (*schema.MIGRATIONS, schema.Migration(NOW + 1, adding))
    reading = Connection(path, True, 1.0)
    with pytest.raises(SchemaError, match="open it once for writing"):
        schema.prepare(reading, migrations)
    reading.close()
    writing = Connection(path, False, 1.0)
    schema.prepare(writing, migrations)
    assert writing.rows("SELECT template, note FROM trials") == [("tiled", None)]
    writing.close()
    with pytest.raises(SchemaError, match=f"version {NOW + 1}"):
        TuningDatabase(path)


def add_one(path: Path, tile: int) -> None:
    with TuningDatabase(path) as database:
        database.add(record(tile))


def test_processes_may_create_the_same_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_one, args=(path, tile)) for tile in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    with TuningDatabase(path, read_only=True) as database:
        assert {found.schedule["tile"] for found in database.records()} == set(range(6))
        assert database.check() == []
