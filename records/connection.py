"""One SQLite connection: how it is opened, how it commits, and what its errors mean in words.

Durability. The journal is a write-ahead log with `synchronous=NORMAL`: a commit has reached the
operating system when it returns, so no death of a process (kill -9 included) loses it. A power
failure may lose the last commits, never the database. A *durable* transaction is flushed to the
disk itself, and with it all commits before it: sessions end with one, and imports are one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from records.errors import DatabaseBusyError, DatabaseError, InvalidInputError, SchemaError

Row: TypeAlias = tuple[Any, ...]
Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]

REMEDIES: Mapping[int, tuple[type[DatabaseError], str]] = {
    sqlite3.SQLITE_BUSY: (
        DatabaseBusyError,
        "another process is writing to it; wait for that one, or give it more time",
    ),
    sqlite3.SQLITE_LOCKED: (DatabaseBusyError, "it is in use; wait and try again"),
    sqlite3.SQLITE_NOTADB: (SchemaError, "not an SQLite database; name another file"),
    sqlite3.SQLITE_CORRUPT: (
        SchemaError,
        "the file is damaged; restore a copy, or rescue its rows with "
        "`sqlite3 FILE .recover` into a new file",
    ),
    sqlite3.SQLITE_FULL: (
        DatabaseError,
        "the disk is full; free some space and run the same command again: "
        "what was stored before is kept",
    ),
    sqlite3.SQLITE_IOERR: (
        DatabaseError,
        "the disk refuses to read or write; look at its space, quota and health",
    ),
    sqlite3.SQLITE_READONLY: (
        DatabaseError,
        "the file or its directory may not be written; change its permissions or copy it",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        DatabaseError,
        "the file or its directory cannot be opened; check that both exist and may be read",
    ),
}
"""What each of SQLite's primary result codes means to a user: https://sqlite.org/rescode.html"""


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, or 0 where Python itself raised the error."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


@contextmanager
def errors_in_words(path: Path) -> Iterator[None]:
    """Turn any `sqlite3.Error` into a `DatabaseError` that names the file and a remedy.

    A value that SQLite cannot hold is an `InvalidInputError`.
    """
    try:
        yield
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidInputError(
            f"{path}: cannot store a number beyond 64 bits or a text that is not Unicode: {error}"
        ) from error
    except sqlite3.Error as error:
        kind, remedy = REMEDIES.get(primary_code(error), (DatabaseError, ""))
        raise kind(f"{path}: {error}" + (f" ({remedy})" if remedy else "")) from error


class Connection:
    """An open database file. Used by one thread.

    `read_only` tells the truth: also true when writing was asked for and the file, or its
    directory, may not be written. Every method raises a `DatabaseError` in words.
    """

    def __init__(self, path: Path, read_only: bool, busy_timeout_s: float) -> None:
        self.path = path
        self.busy_timeout_s = busy_timeout_s
        self.read_only = read_only or _unwritable(path)
        _require_openable(path, self.read_only)
        with errors_in_words(path):
            self._sqlite = self._open_reading() if self.read_only else self._open("mode=rwc")
        try:
            self.execute("PRAGMA foreign_keys = ON")
            self.execute("PRAGMA synchronous = NORMAL")
        except DatabaseError:
            self.close()
            raise

    def close(self) -> None:
        with errors_in_words(self.path):
            self._sqlite.close()

    def execute(self, sql: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        with errors_in_words(self.path):
            return self._sqlite.execute(sql, parameters)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        with errors_in_words(self.path):
            return self._sqlite.execute(sql, parameters).fetchall()

    def stream(self, sql: str, parameters: Parameters = ()) -> Iterator[Row]:
        """Rows as they are asked for; holds a snapshot of the file until it is closed or done."""
        with errors_in_words(self.path):
            cursor = self._sqlite.execute(sql, parameters)
            try:
                yield from cursor
            finally:
                cursor.close()

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """First column of the first row, or `None`."""
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def insert(self, table: str, columns: Mapping[str, Any]) -> int:
        """Insert a row and return its id."""
        with errors_in_words(self.path):
            return int(self._utilities.table(table).insert(dict(columns)).last_pk)

    def create_view(self, name: str, select: str) -> None:
        with errors_in_words(self.path):
            self._utilities.create_view(name, select)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing, alone: waits for another writer up to the busy timeout.

        `durable`: flushed to the disk before it returns.
        """
        if self.read_only:
            raise DatabaseError(
                f"{self.path}: opened read-only, because that was asked for or because the file "
                "or its directory may not be written; open it for writing, or copy it"
            )
        if durable:
            self.execute("PRAGMA synchronous = FULL")
        try:
            self.execute("BEGIN IMMEDIATE")
            yield
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            if durable:
                with suppress(sqlite3.Error):
                    self._sqlite.execute("PRAGMA synchronous = NORMAL")

    @cached_property
    def _utilities(self) -> Any:
        """sqlite-utils on this connection; imported late, because `import records` is to be quick.

        Its plugins stay out: they are other people's code with a hand on every connection.
        """
        from sqlite_utils import Database

        return Database(self._sqlite, recursive_triggers=False, execute_plugins=False)

    def use_write_ahead_log(self) -> None:
        """Switch to a write-ahead log, or keep the file system's only journal if it has no WAL.

        SQLite does not wait for other connections here, so we do.
        """
        deadline = time.monotonic() + self.busy_timeout_s
        while True:
            try:
                self.execute("PRAGMA journal_mode = WAL")
                return
            except DatabaseBusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def _roll_back(self) -> None:
        """SQLite has already rolled back by itself after some errors, such as a full disk.

        Whatever goes wrong here must not hide the error that led here.
        """
        with suppress(sqlite3.Error):
            if self._sqlite.in_transaction:
                self._sqlite.execute("ROLLBACK")

    def _open(self, query: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{query}",
            uri=True,
            timeout=self.busy_timeout_s,
            isolation_level=None,
        )

    def _open_reading(self) -> sqlite3.Connection:
        """Where the log's shared memory cannot be made, read the file as it lies."""
        connection = self._open("mode=ro")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()
            return connection
        except sqlite3.Error as error:
            connection.close()
            if primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
        log = log_of(self.path)
        if log.exists() and log.stat().st_size:
            raise DatabaseError(
                f"{self.path}: its newest rows are still in {log.name}, which cannot be read in "
                "a directory that may not be written; copy both files to one that may"
            )
        return self._open("immutable=1")


def log_of(path: Path) -> Path:
    """The write-ahead log, which SQLite keeps beside the file itself, not beside a link to it."""
    file = path.resolve()
    return file.with_name(file.name + "-wal")


def _unwritable(path: Path) -> bool:
    directory = path.resolve().parent
    return path.exists() and not (os.access(path, os.W_OK) and os.access(directory, os.W_OK))


def _require_openable(path: Path, read_only: bool) -> None:
    if path.is_dir():
        raise DatabaseError(f"{path}: need a database file, this is a directory; name a file in it")
    if not path.exists() and read_only:
        raise DatabaseError(f"{path}: no such file; `autotune tune` makes one")
    if not path.parent.is_dir():
        raise DatabaseError(
            f"{path}: its directory does not exist; make it: mkdir -p {path.parent}"
        )
