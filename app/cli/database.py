"""``bt migrate``, ``backup`` and ``restore``: the database file or server, without a running service."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO

import zstandard
from sqlalchemy.engine import URL

from app.cli.failure import CommandFailed
from app.storage.engine import database_url
from app.storage.migrate import upgrade

PAGES_PER_STEP = 256
COPY_BYTES = 1 << 20
Progress = Callable[[float], None]
"""Told how much is done, 0 to 1."""


def read_url(text: str) -> URL:
    try:
        return database_url(text)
    except ValueError as error:
        raise CommandFailed(str(error)) from None


def migrate(url: str) -> str:
    """Bring the database to the newest schema; return its revision."""
    read_url(url)
    return upgrade(url)


def backup(url_text: str, target: Path, progress: Progress) -> None:
    """Copy the database into one compressed file, while the service runs.

    Raises:
        CommandFailed: no such database, or the tool that PostgreSQL needs is missing.
    """
    url = read_url(url_text)
    target.parent.mkdir(parents=True, exist_ok=True)
    if url.drivername.startswith("sqlite"):
        _backup_sqlite(Path(str(url.database)), target, progress)
    else:
        _run_tool("pg_dump", ["--format=custom", "--no-owner", f"--file={target}"], url)
    progress(1.0)


def restore(url_text: str, source: Path, progress: Progress, *, overwrite: bool) -> None:
    """Put a backup in place of the database. The service must not be running.

    Raises:
        CommandFailed: no such backup, damaged, or a database is there and ``overwrite`` is not given.
    """
    url = read_url(url_text)
    if not source.is_file():
        raise CommandFailed(f"{source} is no file")
    if url.drivername.startswith("sqlite"):
        _restore_sqlite(source, Path(str(url.database)), progress, overwrite=overwrite)
    elif overwrite:
        _run_tool("pg_restore", ["--clean", "--if-exists", "--no-owner", "--single-transaction", str(source)], url)
    else:
        raise CommandFailed("this replaces what is in the database; say so with --overwrite")
    progress(1.0)


def _backup_sqlite(database: Path, target: Path, progress: Progress) -> None:
    if not database.is_file():
        raise CommandFailed(f"there is no database at {database}")
    plain, packed = _beside(target, ".plain"), _beside(target, ".part")
    try:
        with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(plain)) as copy:
            live.backup(copy, pages=PAGES_PER_STEP, progress=lambda _status, left, total: progress(_share(left, total)))
            copy.execute("PRAGMA journal_mode=DELETE")  # a WAL beside the copy would not be in the backup
        with plain.open("rb") as raw, _private(packed) as out:
            zstandard.ZstdCompressor().copy_stream(raw, out)
        packed.replace(target)
    except sqlite3.Error as error:
        raise CommandFailed(f"{database}: {error}") from None
    finally:
        plain.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)


def _restore_sqlite(source: Path, database: Path, progress: Progress, *, overwrite: bool) -> None:
    if database.exists() and database.stat().st_size and not overwrite:
        raise CommandFailed(f"{database} is there already; say --overwrite to replace it")
    fresh = _beside(database, ".restoring")
    try:
        with source.open("rb") as packed, _private(fresh) as out:
            zstandard.ZstdDecompressor().copy_stream(packed, out)
        progress(0.5)
        _check(fresh, source)
        _refuse_if_used(database)
        for suffix in ("-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        fresh.replace(database)
    except zstandard.ZstdError:
        raise CommandFailed(f"{source} is no backup made by bt backup") from None
    finally:
        fresh.unlink(missing_ok=True)


def _check(database: Path, source: Path) -> None:
    try:
        with closing(sqlite3.connect(database)) as opened:
            verdict = opened.execute("PRAGMA integrity_check").fetchone()[0]
            tables = {row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise CommandFailed(f"{source} does not hold a database: {error}") from None
    if verdict != "ok" or "watchlist" not in tables:
        raise CommandFailed(f"{source} does not hold a sound database of this service")


def _refuse_if_used(database: Path) -> None:
    """A service that has the file open would go on writing to the one that is replaced."""
    if not database.exists():
        return
    with closing(sqlite3.connect(database, timeout=0.5, isolation_level=None)) as opened:
        try:
            opened.execute("PRAGMA locking_mode=EXCLUSIVE")
            opened.execute("BEGIN EXCLUSIVE")
            opened.execute("ROLLBACK")
        except sqlite3.OperationalError:
            raise CommandFailed(f"{database} is in use; stop the service first") from None
        except sqlite3.DatabaseError:
            return  # damaged: exactly what a restore is for


def _run_tool(tool: str, arguments: list[str], url: URL) -> None:
    found = shutil.which(tool)
    if found is None:
        raise CommandFailed(f"PostgreSQL needs {tool}, which is not installed (package postgresql-client)")
    # The password goes by the environment of the child: a command line can be read by every user of the machine.
    secrets = {"PGPASSWORD": str(url.password)} if url.password else {}
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    done = subprocess.run(  # noqa: S603 - the tool is found by name, the arguments are ours
        [found, f"--dbname={plain}", *arguments],
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise CommandFailed(f"{tool}: {lines[-1] if lines else f'ended with code {done.returncode}'}")


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _share(left: int, total: int) -> float:
    return 1.0 - left / total if total else 1.0
