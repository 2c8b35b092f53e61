"""Copies of the database that can be kept, checked and put back.

A backup is always one SQLite file with our schema, whichever database it was taken from, and may be put back into
either. Taking one does not stop the service; putting one back replaces every row in one transaction.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.engine import URL

from app.core.errors import StoreUnavailable
from app.storage.engine import Engines, database_url, is_in_use, open_engines, sqlite_writer, translated
from app.storage.migrate import HEAD, migrate, revision_of, upgrade_on
from app.storage.models import ADDED_WITH, metadata, sessions
from app.storage.writes import last_id, set_last_id

ROWS_AT_ONCE = 2_000
FREE_WAIT_S, FREE_LOOK_S = 2.0, 0.2


class BackupRefused(Exception):
    """The file is damaged, is no backup of ours, or comes from a newer program; or there is nothing to copy so."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds. ``rows`` by table."""

    revision: str
    rows: dict[str, int]


async def backup(url: str, out: Path) -> BackupReport:
    """Copy the database at ``url``, as of one moment, to the file ``out``, and verify the copy.

    The file appears under its name only when it is whole, readable by its owner alone.

    Raises:
        ValueError: not a database URL.
        BackupRefused: the database is not of this program's schema, or ``out`` is a file of it.
        StoreUnavailable: the database cannot be read, or the copy not written.
    """
    source = database_url(url)
    with _translated():
        _require_present(source)
        _require_elsewhere(source, out)
        with _beside(out) as partial:
            engines = open_engines(source)
            try:
                await engines.reader.run(lambda reading: _require_known(reading, engines.dialect))
                if engines.dialect == "sqlite":
                    await asyncio.to_thread(_copy_sqlite, str(source.database), partial)
                else:
                    await engines.reader.run(lambda reading: _copy_rows_out(reading, partial))
            finally:
                await engines.dispose()
            report = await asyncio.to_thread(verify, partial)
            _publish(partial, out)
    return report


def verify(file: Path) -> BackupReport:
    """Read a backup through and count its rows.

    Raises:
        BackupRefused: damaged, not ours, or from a newer program.
    """
    if not file.is_file():
        raise BackupRefused(f"there is no file {file}")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise BackupRefused(f"{file} is damaged: {found}")
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            counts = {name: _count(connection, name) for name in _tables_of(revision)}
    except (sqlite3.DatabaseError, TypeError) as error:
        raise BackupRefused(f"{file} is not a backup of this program") from error
    if revision > HEAD:  # revisions are numbered
        raise BackupRefused(f"{file} has schema {revision}, this program knows up to {HEAD}")
    return BackupReport(revision, counts)


async def restore(url: str, file: Path) -> BackupReport:
    """Replace everything in the database at ``url`` by what the backup holds, in one transaction.

    The database is created and migrated if it is not there; an older backup is migrated on the way. Ids given since
    the backup was taken are not given again. The service must not run: it would not notice. On PostgreSQL that is seen
    here, on SQLite by the caller, who knows the file.

    Raises:
        ValueError: not a database URL.
        BackupRefused: the file cannot be used, or a service has the database open; nothing was changed.
        StoreUnavailable: the database cannot be written; nothing was changed.
    """
    await asyncio.to_thread(verify, file)
    with _translated(), tempfile.TemporaryDirectory(prefix="bt-restore-") as scratch:
        copy = Path(scratch) / "backup.db"
        await asyncio.to_thread(_copy_sqlite, str(file), copy)  # with what still is in a WAL beside it
        target = open_engines(database_url(url))
        try:
            await migrate(target)
            await _require_free(target)
            await target.writer.run(lambda writing: _copy_rows_in(copy, writing))
        finally:
            await target.dispose()
        return await asyncio.to_thread(verify, copy)


async def _require_free(target: Engines) -> None:
    """PostgreSQL takes a moment to forget a process that has just ended."""
    looks = int(FREE_WAIT_S / FREE_LOOK_S) if target.dialect == "postgresql" else 0
    for _ in range(looks):
        if not await target.writer.run(is_in_use):
            return
        await asyncio.sleep(FREE_LOOK_S)
    if looks:
        raise BackupRefused("the database is in use: stop the service first")


def _require_present(source: URL) -> None:
    # Opening the engines would make an empty one.
    if source.drivername.startswith("sqlite") and not Path(str(source.database)).exists():
        raise StoreUnavailable(f"there is no database {source.database}")


def _require_elsewhere(source: URL, out: Path) -> None:
    # A service that has the database open would go on writing to a file without a name.
    if source.drivername.startswith("sqlite"):
        database = Path(str(source.database)).resolve()
        if out.resolve() in (database, *(database.with_name(database.name + end) for end in ("-wal", "-shm"))):
            raise BackupRefused(f"{out} is the database itself; name another file")


def _require_known(reading: Connection, dialect: str) -> None:
    found = revision_of(reading)
    if found is None:
        raise BackupRefused("the database holds nothing of this program")
    if found > HEAD:  # revisions are numbered
        raise BackupRefused(f"the database has schema {found}, this program knows up to {HEAD}: use a newer one")
    if found < HEAD and dialect != "sqlite":  # row by row only what has the tables and columns of now
        raise BackupRefused(f"the database has schema {found}, this program has {HEAD}: run bt migrate")


def _copy_sqlite(database: str, out: Path) -> None:
    # VACUUM INTO reads one snapshot while writers go on, and leaves a compact file without a WAL.
    with closing(sqlite3.connect(database, timeout=30.0)) as connection:
        connection.execute("VACUUM INTO ?", (str(out),))


def _copy_rows_out(reading: Connection, out: Path) -> None:
    with _copy_at(out) as writing:
        _replace_all(reading, writing)
    _leave_wal(out)


def _copy_rows_in(copy: Path, writing: Connection) -> None:
    with _copy_at(copy) as reading:
        _replace_all(reading, writing)


@contextmanager
def _copy_at(file: Path) -> Iterator[Connection]:
    """A SQLite file of our newest schema, in a transaction."""
    engine = sqlite_writer(database_url(f"sqlite:///{file}"))
    try:
        with engine.begin() as connection:
            upgrade_on(connection)
            yield connection
    finally:
        engine.dispose()


def _replace_all(reading: Connection, writing: Connection) -> None:
    for table in metadata.sorted_tables:
        reached = last_id(reading, table)
        writing.execute(delete(table))
        if table is sessions:
            continue  # a session that was ended since must not come back to life
        # A statement of its own: the ids that came with the rows are kept.
        in_parts = {"yield_per": ROWS_AT_ONCE}
        rows = reading.execute(select(table).order_by(table.c.id), execution_options=in_parts)
        for batch in rows.mappings().partitions():
            writing.execute(insert(table), [dict(row) for row in batch])
        set_last_id(writing, table, max(reached, last_id(writing, table)))


def _leave_wal(database: Path) -> None:
    # Back to one plain file: a backup is copied about.
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    # In the same directory, so that the final rename is one step; a directory of its own, so that nobody else looks.
    try:
        scratch = tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent)
    except OSError as error:
        raise StoreUnavailable(f"{out} cannot be written: {error.strerror}") from error
    with scratch as name:
        yield Path(name) / out.name


def _publish(partial: Path, out: Path) -> None:
    os.chmod(partial, 0o600)
    _force_to_disk(partial)
    os.replace(partial, out)
    _force_to_disk(out.absolute().parent)


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with translated():
            yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the database cannot be copied: {error}") from error


def _tables_of(revision: str) -> list[str]:
    """The tables that a schema has; an earlier one has fewer than there are now."""
    return [name for name in metadata.tables if ADDED_WITH.get(name, "") <= revision]


def _count(connection: sqlite3.Connection, table: str) -> int:
    (count,) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608 - our own tables  # nosec B608
    return int(count)
