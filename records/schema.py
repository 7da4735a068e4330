"""What marks a file as a tuning database, and how an older one becomes a current one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from records.connection import Connection
from records.errors import SchemaError
from records.migrations import first, second

APPLICATION_ID = 0x61547552  # "aTuR"; https://sqlite.org/pragma.html#pragma_application_id


@dataclass(frozen=True)
class Migration:
    """A step from one schema version to the next; `apply` runs inside a transaction.

    `stand_in` makes an older file look like a newer one to who only reads it, and leaves it as it
    is; `None` where that cannot be.
    """

    version: int
    apply: Callable[[Connection], None]
    stand_in: Callable[[Connection], None] | None = None


MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, first.apply),
    Migration(2, second.apply, second.stand_in),
)

TABLES = ("sessions", "workloads", "targets", "environments", "trials")
INDEXES = ("trials_by_time", "trials_by_schedule", "trials_by_session")
VIEWS = ("workload_names", "usable_trials", "best_schedules", "failures")


def version_of(connection: Connection) -> int:
    """Schema version of the file; 0 for an empty one. `SchemaError` if it is not ours."""
    application = connection.value("PRAGMA application_id")
    if application == APPLICATION_ID:
        return int(connection.value("PRAGMA user_version"))
    if application == 0 and not connection.value("SELECT count(*) FROM sqlite_master"):
        return 0
    raise SchemaError(
        f"{connection.path}: an SQLite database, but not a tuning database "
        f"(application id {application:#x}, need {APPLICATION_ID:#x}); name another file"
    )


def prepare(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the file to the newest schema, or raise `SchemaError` saying why that cannot be."""
    version, newest = version_of(connection), migrations[-1].version
    if version > newest:
        raise SchemaError(
            f"{connection.path}: schema version {version}, this autotune knows up to {newest}; "
            "upgrade with: pip install --upgrade autotune-kernels"
        )
    missing = [migration for migration in migrations if migration.version > version]
    if connection.read_only:
        _read_as_it_is(connection, version, missing)
        return
    connection.use_write_ahead_log()
    for migration in missing:
        _step(connection, migration)


def _read_as_it_is(connection: Connection, version: int, missing: Sequence[Migration]) -> None:
    stand_ins = [each.stand_in for each in missing if each.stand_in is not None]
    if len(stand_ins) < len(missing):
        raise SchemaError(
            f"{connection.path}: schema version {version}, need {missing[-1].version}, and it is "
            "open read-only; open it once for writing, as `autotune tune --db` does, to "
            "bring it up to date"
        )
    for stand_in in stand_ins:
        stand_in(connection)


def _step(connection: Connection, migration: Migration) -> None:
    """The migration and its version number share a transaction."""
    with connection.transaction(durable=True):
        if version_of(connection) >= migration.version:
            return  # another process was quicker
        migration.apply(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {migration.version}")
