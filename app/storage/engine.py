"""Connections to SQLite and PostgreSQL: one writer at a time on both, and which driver errors mean *unavailable*."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

LOCK_WAIT_S = 5.0  # how long a writer waits for another process to finish its transaction
QUEUE_WAIT_S = 10.0  # how long a caller waits for a free connection
CONNECT_WAIT_S = 5.0
STATEMENT_WAIT_S = 15.0  # PostgreSQL: longer than any statement of ours; a dead network ends here
READERS = 3
APPLICATION = "broking-terminal"  # as PostgreSQL lists our connections
WRITER_LOCK = 0x42_54_56_32  # PostgreSQL advisory lock of whoever writes

# SQLite is a library: it is called in threads of ours, whatever asynchronous driver its URL names.
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}

# Primary result codes of SQLite, https://www.sqlite.org/rescode.html
_SQLITE_UNAVAILABLE = {
    3: "access to the database file was refused",
    5: "the database is locked by another process",
    6: "the database is locked",
    7: "the database ran out of memory",
    8: "the database file is read-only",
    10: "the disk failed to read or write the database",
    11: "the database file is damaged",
    13: "the disk is full",
    14: "the database file cannot be opened",
    26: "the file is not a database",
}
_SQLITE_DUPLICATE = {1555, 2067, 2579}  # PRIMARYKEY, UNIQUE, ROWID

# SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html; a class is its first two letters
_POSTGRES_UNAVAILABLE = {
    "53100": "the database's disk is full",
    "55P03": "the database is locked by another writer",
    "3D000": "the database does not exist",
    "25006": "the database is read-only",
    "40001": "another writer was first",
    "40P01": "another writer was first",
    "08": "the connection to the database was lost",
    "28": "the database refused the credentials",
    "53": "the database is out of resources",
    "57": "the database is shutting down or starting",
    "58": "the database failed to read or write its files",
}
_POSTGRES_DUPLICATE = "23505"


class Transactions(Protocol):
    """A few connections to one database."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Call ``work`` on a connection within a transaction, committed unless it raises. May not be cancelled."""
        ...

    async def dispose(self) -> None:
        """Disconnect."""
        ...


@dataclass(frozen=True, slots=True)
class OnLoop:
    """PostgreSQL: the driver waits for the server on the event loop."""

    engine: AsyncEngine

    async def run(self, work: Callable[[Connection], T]) -> T:
        async with self.engine.begin() as connection:
            return await connection.run_sync(work)

    async def dispose(self) -> None:
        await self.engine.dispose()


class InThreads:
    """SQLite: a whole transaction in one go in a thread, a thread a connection.

    A driver that hands over each statement by itself crosses between the threads fifteen times for one commit.
    """

    def __init__(self, engine: Engine, threads: int) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sqlite")
        self._free = asyncio.Semaphore(threads)

    async def run(self, work: Callable[[Connection], T]) -> T:
        async with asyncio.timeout(QUEUE_WAIT_S):
            await self._free.acquire()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._transact, work)
        finally:
            self._free.release()

    async def dispose(self) -> None:
        # In a thread: the last connection to leave writes the log back into the database.
        await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.dispose)
        self._threads.shutdown()

    def _transact(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)


@dataclass(frozen=True, slots=True)
class Engines:
    """A writer with exactly one connection, and readers beside it. ``dialect`` is ``sqlite`` or ``postgresql``."""

    dialect: str
    writer: Transactions
    reader: Transactions

    async def dispose(self) -> None:
        await self.reader.dispose()
        await self.writer.dispose()


def database_url(text: str) -> URL:
    """Read a database URL and put in the driver that we use.

    Raises:
        ValueError: not a URL, another database, or SQLite without a file.
    """
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ValueError("not a database URL; write sqlite+aiosqlite:///FILE or postgresql+asyncpg://…") from error
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError(f"no driver for {url.drivername!r}; write sqlite+aiosqlite:///FILE or postgresql+asyncpg://…")
    if driver.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file: sqlite+aiosqlite:///FILE")
    return url.set(drivername=driver)


def open_engines(url: URL) -> Engines:
    """Build the engines; nothing connects before the first transaction."""
    if url.drivername.startswith("sqlite"):
        _make_private(str(url.database))
        reading = _sqlite_engine(url, connections=READERS, begin="BEGIN", query_only=True)
        return Engines("sqlite", InThreads(sqlite_writer(url), 1), InThreads(reading, READERS))
    writing = _postgres_engine(url, connections=1)
    _begin_with(writing.sync_engine, f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
    reading_only = _postgres_engine(url, connections=READERS, isolation_level="REPEATABLE READ")
    return Engines("postgresql", OnLoop(writing), OnLoop(reading_only))


def sqlite_writer(url: URL) -> Engine:
    """One connection to a SQLite file, for programs that wait for it where they are."""
    return _sqlite_engine(url, connections=1, begin="BEGIN IMMEDIATE", query_only=False)


def why_unavailable(error: BaseException) -> str | None:
    """The cause in words if the error means that the database cannot serve now; None for any other error."""
    if isinstance(error, PoolTimeout):
        return "the database is too busy"
    if isinstance(error, TimeoutError):
        return "the database did not answer in time"
    if isinstance(error, OSError):
        return "the database cannot be reached"
    if not isinstance(error, DBAPIError):
        return None
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE_UNAVAILABLE.get(code & 0xFF)
    state = getattr(error.orig, "sqlstate", None) or ""
    if reason := _POSTGRES_UNAVAILABLE.get(state) or _POSTGRES_UNAVAILABLE.get(state[:2]):
        return reason
    return "the connection to the database was lost" if error.connection_invalidated else None


@contextmanager
def translated() -> Iterator[None]:
    """Raises ``StoreUnavailable`` in words where the database cannot serve now; other errors pass."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        reason = why_unavailable(error)
        if reason is None:
            raise
        raise StoreUnavailable(reason) from error


def is_in_use(connection: Connection) -> bool:
    """Whether another process of ours has the PostgreSQL database open; ``connection`` is the only one of this one."""
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = :ours AND pid <> pg_backend_pid()"
    )
    return bool(connection.execute(others, {"ours": APPLICATION}).scalar())


def is_duplicate(error: IntegrityError) -> bool:
    """Tell a broken unique constraint from the other constraints, which are faults of ours."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code in _SQLITE_DUPLICATE
    return getattr(error.orig, "sqlstate", None) == _POSTGRES_DUPLICATE


def _sqlite_engine(url: URL, *, connections: int, begin: str, query_only: bool) -> Engine:
    # The driver's own transaction control is off (isolation_level None): it begins late and deferred, and so loses
    # updates between a read and the write that follows it. We begin ourselves, writers at once with the write lock.
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": LOCK_WAIT_S, "isolation_level": None, "check_same_thread": False},
    )

    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        if query_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    event.listen(engine, "connect", prepare)
    _begin_with(engine, begin)
    return engine


def _postgres_engine(url: URL, *, connections: int, **options: Any) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # late: SQLite does without

    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=QUEUE_WAIT_S,
        pool_pre_ping=True,  # a restart of the server between two transactions goes unnoticed
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_WAIT_S,
            "command_timeout": STATEMENT_WAIT_S,
            "server_settings": {
                "application_name": APPLICATION,
                "timezone": "UTC",
                "synchronous_commit": "on",
                "lock_timeout": f"{LOCK_WAIT_S:.0f}s",
            },
        },
        **options,
    )


def _begin_with(engine: Engine, statement: str) -> None:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(engine, "begin", begin)


def _make_private(path: str) -> None:
    # The file holds password hashes. SQLite gives its WAL the mode of the database.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except PermissionError:
        return  # an existing file that we may only read: the first write will say so
    except OSError as error:
        raise StoreUnavailable(f"the database file cannot be opened: {error.strerror}") from error
