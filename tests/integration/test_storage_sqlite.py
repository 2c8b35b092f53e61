"""SQLite as we set it up: no update is lost, and every way it can fail is survived."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from app.core.errors import StoreUnavailable
from app.ports.store import Changes, Role
from app.storage import engine as engine_module
from app.storage.engine import database_url as parsed
from app.storage.engine import open_engines, sqlite_writer, why_unavailable
from app.storage.migrate import upgrade
from app.storage.models import users
from app.storage.sql_store import SqlStore
from tests.contract.fakes import SetClock, entry, leg

TABLES = {"watchlist", "subscriptions", "atm_cache", "subscription_log", "users"}


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(str(make_url(sqlite_url).database))


@pytest.fixture
async def store(sqlite_url: str, clock: SetClock) -> AsyncIterator[SqlStore]:
    made = SqlStore(sqlite_url, clock)
    await made.start()
    yield made
    await made.stop()


async def test_every_connection_is_durable_and_readers_cannot_write(sqlite_url: str, store: SqlStore) -> None:
    engines = open_engines(parsed(sqlite_url))

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "busy_timeout", "query_only")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await engines.writer.run(pragmas) == ["wal", 2, 5000, 0]
    assert await engines.reader.run(pragmas) == ["wal", 2, 5000, 1]
    await engines.dispose()


def test_the_users_own_command_shows_the_tables(sqlite_url: str, path: Path) -> None:
    upgrade(sqlite_url)
    with closing(sqlite3.connect(path)) as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert found >= TABLES
    try:
        shown = subprocess.run(["sqlite3", str(path), ".tables"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return
    assert set(shown.stdout.split()) >= TABLES


async def test_the_files_are_their_owners_alone(store: SqlStore, path: Path) -> None:
    await store.add_user("asha", Role.ADMIN, "hash")
    files = list(path.parent.glob("app.db*"))
    assert {file.name for file in files} >= {"app.db", "app.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_database_that_may_not_grow_is_told_as_a_full_disk(sqlite_url: str) -> None:
    writer = sqlite_writer(parsed(sqlite_url))
    with writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        with pytest.raises(DBAPIError) as full:
            connection.exec_driver_sql("CREATE TABLE more (id INTEGER)")
    writer.dispose()
    assert why_unavailable(full.value) == "the disk is full"


async def test_a_lock_held_elsewhere_is_unavailable_until_it_is_gone(
    sqlite_url: str, path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOCK_WAIT_S", 0.1)
    store = SqlStore(sqlite_url, clock)
    await store.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as other, capture_logs() as logs:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.commit(Changes(entries_added=[entry()]))
            await store.load()  # readers do not mind
            assert store.trouble == "write: the database is locked by another process"
        other.execute("ROLLBACK")
        await store.ping_write()
        assert (store.trouble, store.failures) == (None, 3)
        await store.commit(Changes(entries_added=[entry()]))
    assert len((await store.load()).entries) == 1
    await store.stop()
    # A line per change, not per attempt.
    assert [(row["event"], row["what"]) for row in logs] == [
        ("store_unavailable", "write"),
        ("store_available", "write"),
    ]


def size_of_wal(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def test_a_full_disk_is_unavailable_until_there_is_room(store: SqlStore, path: Path) -> None:
    await store.commit(Changes(entries_added=[entry()], legs=[leg()]))
    before = await store.load()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = size_of_wal(path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, hard))  # the kernel now refuses to let files grow
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="disk"):
                await store.commit(Changes(entries_added=[entry("TCS")], legs=[leg(float(n)) for n in range(2_000)]))
            assert await store.load() == before
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        with pytest.raises(StoreUnavailable, match="disk"):
            await store.ping_write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await store.commit(Changes(entries_added=[entry("TCS")], legs=[leg(float(n)) for n in range(2_000)]))
    loaded = await store.load()
    assert [row.symbol for row in loaded.entries] == ["RELIANCE", "TCS"]
    assert len(loaded.legs) == 2_001  # one is leg(), whose strike is not below 2,000


async def test_a_writer_and_a_reader_do_not_wait_for_each_other(store: SqlStore, sqlite_url: str) -> None:
    await store.commit(Changes(legs=[leg()]))
    engines, loop = open_engines(parsed(sqlite_url)), asyncio.get_running_loop()

    def read_before_and_after(reading: Connection) -> None:
        first = reading.execute(select(users.c.id)).all()
        asyncio.run_coroutine_threadsafe(store.ensure_user(5), loop).result(2)
        assert reading.execute(select(users.c.id)).all() == first == []

    await engines.reader.run(read_before_and_after)
    await engines.dispose()
    assert await store.user_by_id(5) is not None


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, clock: SetClock) -> None:
    wrong = tmp_path / "wrong.db"
    wrong.write_bytes(b"this is not a database, it is a letter" * 100)
    store = SqlStore(f"sqlite+aiosqlite:///{wrong}", clock)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await store.start()
    with pytest.raises(StoreUnavailable, match="not started"):
        await store.ping()
    assert wrong.read_bytes().startswith(b"this is not")


async def test_a_directory_that_is_not_there_is_said(tmp_path: Path, clock: SetClock) -> None:
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        await SqlStore(f"sqlite+aiosqlite:///{tmp_path}/none/app.db", clock).start()


@pytest.mark.parametrize(
    "url", ["", "app.db", "mysql://localhost/x", "sqlite+aiosqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///"]
)
def test_an_url_of_no_database_of_ours_is_refused(url: str, clock: SetClock) -> None:
    with pytest.raises(ValueError, match=r"sqlite\+aiosqlite:///FILE"):
        SqlStore(url, clock)


async def test_an_unforeseen_error_of_the_database_is_not_hidden(store: SqlStore, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE atm_cache")
    with pytest.raises(Exception, match="no such table") as failure:
        await store.load()
    assert not isinstance(failure.value, StoreUnavailable)
