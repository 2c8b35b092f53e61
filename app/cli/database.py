"""``bt migrate``, ``backup`` and ``restore``: the database itself, without a running service."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

from app.cli.failure import CommandFailed
from app.storage import backup as copies
from app.storage.engine import database_url
from app.storage.migrate import upgrade


def read_url(text: str) -> URL:
    """Raises ``CommandFailed`` for a URL of no database that we know."""
    try:
        return database_url(text)
    except ValueError as error:
        raise CommandFailed(str(error)) from None


def migrate(url: str) -> str:
    """Bring the database to the newest schema; return its revision."""
    read_url(url)
    return upgrade(url)


def backup(url: str, target: Path) -> copies.BackupReport:
    """Copy the database into one file, while the service goes on.

    Raises:
        CommandFailed, StoreUnavailable: no such database, or none of this program, or the copy cannot be written.
    """
    read_url(url)
    if target.is_dir():
        raise CommandFailed(f"{target} is a folder; name the file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"{target} cannot be written: {error.strerror}") from None
    try:
        return asyncio.run(copies.backup(url, target))
    except copies.BackupRefused as error:
        raise CommandFailed(str(error)) from None


def restore(url_text: str, source: Path, *, overwrite: bool) -> copies.BackupReport:
    """Put a backup in place of what the database holds. The service must not be running.

    Raises:
        CommandFailed: no usable backup, a database in use or damaged, or one is there and ``overwrite`` is not given.
        StoreUnavailable: the database cannot be written.
    """
    url = read_url(url_text)
    if url.drivername.startswith("sqlite"):
        _require_free(Path(str(url.database)), overwrite=overwrite)
    elif not overwrite:
        raise CommandFailed("this replaces everything in the database; say so with --overwrite")
    try:
        return asyncio.run(copies.restore(url_text, source))
    except copies.BackupRefused as error:
        raise CommandFailed(str(error)) from None


def _require_free(database: Path, *, overwrite: bool) -> None:
    """A service that has the file open would not notice that its rows are others; a damaged file would stay so."""
    if not database.exists() or not database.stat().st_size:
        return
    if not overwrite:
        raise CommandFailed(f"{database} is there already; say --overwrite to replace what it holds")
    with closing(sqlite3.connect(database, timeout=0.5, isolation_level=None)) as opened:
        try:
            # In WAL mode the exclusive lock is only given to the one connection there is.
            opened.execute("PRAGMA locking_mode=EXCLUSIVE")
            opened.execute("BEGIN EXCLUSIVE")
            opened.execute("ROLLBACK")
            (found,) = opened.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            raise CommandFailed(f"{database} is in use or cannot be read ({error}); stop the service first") from None
        except sqlite3.DatabaseError as error:
            found = str(error)
    if found != "ok":
        raise CommandFailed(
            f"{database} is damaged ({found}); move it away, with the -wal and -shm beside it, and restore again"
        )
