"""Every adapter behind its port: the stores, the buses, and the real servers they need."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import asyncpg
import pytest

from app.ports.store import Store
from app.storage.memory_store import MemoryStore
from app.storage.migrate import upgrade
from app.storage.models import metadata
from app.storage.sql_store import SqlStore
from tests.contract.fakes import SetClock
from tests.contract.servers import NatsServer, Postgres, ServerMissing, make_nats, make_postgres

TEMPLATE = "bt_template"
POSTGRES = pytest.StashKey[Postgres]()
_Server = TypeVar("_Server")


def made_or_skipped(make: Callable[[], _Server]) -> _Server:
    """Build a server; where its program is missing, fail in CI and skip by name elsewhere."""
    try:
        return make()
    except ServerMissing as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Postgres:
    """A running cluster with a migrated template database; started when first asked for, one for the whole run."""
    server = pytestconfig.stash.get(POSTGRES, None)
    if server is None:
        server = made_or_skipped(make_postgres)
        pytestconfig.add_cleanup(server.destroy)
        server.start()
        administer(server, f"CREATE DATABASE {TEMPLATE}")
        apart(lambda: upgrade(server.url(TEMPLATE)))
        pytestconfig.stash[POSTGRES] = server
    return server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A cluster that the test may stop."""
    server = made_or_skipped(make_postgres)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, migrated database."""
    name = f"t_{uuid4().hex}"
    administer(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield postgres.url(name)
    administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh database without a table."""
    name = f"e_{uuid4().hex}"
    administer(postgres, f"CREATE DATABASE {name}")
    yield postgres.url(name)
    administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A URL of each SQL database in turn."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="session")
def shared_postgres_url(postgres: Postgres) -> str:
    """One migrated database for the whole run: making one takes longer than most tests."""
    administer(postgres, f"CREATE DATABASE shared TEMPLATE {TEMPLATE}")
    return postgres.url("shared")


@pytest.fixture
def emptied_postgres_url(postgres: Postgres, shared_postgres_url: str) -> str:
    """The shared database with empty tables, counting from one again."""
    tables = ", ".join(f'"{name}"' for name in metadata.tables)
    administer(postgres, f"TRUNCATE {tables} RESTART IDENTITY", "shared")
    return shared_postgres_url


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def unstarted_store(request: pytest.FixtureRequest, clock: SetClock) -> Store:
    """Each store in turn, empty."""
    if request.param == "memory":
        return MemoryStore(clock)
    name = "sqlite_url" if request.param == "sqlite" else "emptied_postgres_url"
    return SqlStore(request.getfixturevalue(name), clock)


@pytest.fixture
async def store(unstarted_store: Store) -> AsyncIterator[Store]:
    """Each store in turn, started and empty."""
    made = unstarted_store
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """A nats-server of the test's own; it may be stopped, frozen and started again."""
    server = made_or_skipped(make_nats)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


def apart(work: Callable[[], object]) -> None:
    """Run work that needs an event loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(work).result()


def administer(server: Postgres, statement: str, database: str = "postgres") -> None:
    """Run one statement outside a transaction, as the cluster's owner."""

    async def run() -> None:
        connection = await asyncpg.connect(server.url(database).replace("+asyncpg", ""))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    apart(lambda: asyncio.run(run()))
