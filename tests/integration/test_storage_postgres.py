"""PostgreSQL as we set it up: what a network and a server of its own can do, on a real cluster."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.errors import StoreUnavailable
from app.ports.store import Changes, Role
from app.storage import engine as engine_module
from app.storage.engine import OnLoop, Transactions, open_engines
from app.storage.engine import database_url as parsed
from app.storage.sql_store import SqlStore
from tests.contract.conftest import administer
from tests.contract.fakes import SetClock, entry, leg
from tests.contract.servers import Postgres, free_port


@pytest.fixture
async def store(postgres_url: str, clock: SetClock) -> AsyncIterator[SqlStore]:
    made = SqlStore(postgres_url, clock)
    await made.start()
    yield made
    await made.stop()


def engine_of(transactions: Transactions) -> AsyncEngine:
    """To hold a transaction open."""
    assert isinstance(transactions, OnLoop)
    return transactions.engine


async def test_writers_that_meet_do_not_deadlock(postgres_url: str, clock: SetClock) -> None:
    stores = [SqlStore(postgres_url, clock) for _ in range(3)]
    for store in stores:
        await store.start()
    rng = random.Random(3)

    async def write(store: SqlStore) -> None:
        for _ in range(15):
            legs = [leg(float(n)) for n in rng.sample(range(60), 30)]
            gone = [leg(float(n)).token for n in rng.sample(range(60), 30)]
            await store.commit(Changes(legs=legs, leg_tokens_removed=gone))

    await asyncio.gather(*(write(store) for store in stores))
    for store in stores:
        await store.stop()


async def test_the_server_may_go_and_come_back(own_postgres: Postgres, clock: SetClock) -> None:
    store = SqlStore(own_postgres.url("postgres"), clock)
    await store.start()
    await store.commit(Changes(entries_added=[entry()]))
    for _ in range(2):
        own_postgres.stop()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.commit(Changes(legs=[leg()]))
            with pytest.raises(StoreUnavailable):
                await store.load()
        own_postgres.start()
        await store.ping()
        await store.commit(Changes(legs=[leg()]))
    loaded = await store.load()
    assert [row.symbol for row in loaded.entries] == ["RELIANCE"]
    assert loaded.legs == (leg(),)
    await store.stop()


async def test_a_restart_between_two_calls_goes_unnoticed(own_postgres: Postgres, clock: SetClock) -> None:
    store = SqlStore(own_postgres.url("postgres"), clock)
    await store.start()
    await store.load()
    own_postgres.stop()
    own_postgres.start()
    await store.commit(Changes(legs=[leg()]))
    assert (await store.load()).legs == (leg(),)
    await store.stop()


async def test_a_server_that_is_shutting_down_says_so(own_postgres: Postgres, clock: SetClock) -> None:
    staying = open_engines(parsed(own_postgres.url("postgres")))
    async with engine_of(staying.reader).connect() as connection:  # a smart shutdown waits for it and takes nobody else
        await connection.execute(text("SELECT 1"))
        own_postgres.ask_to_stop()
        store = SqlStore(own_postgres.url("postgres"), clock)
        with pytest.raises(StoreUnavailable, match="shutting down"):
            await store.start()
    await staying.dispose()


async def test_a_server_that_is_not_there_fails_the_start_and_tells_no_password(clock: SetClock) -> None:
    store = SqlStore(f"postgresql+asyncpg://bt:hunter2@127.0.0.1:{free_port()}/bt", clock)
    with pytest.raises(StoreUnavailable) as failure:
        await store.start()
    assert "hunter2" not in f"{failure.value!r} {failure.value.__cause__!r}"


async def test_a_server_that_says_nothing_is_unavailable(clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CONNECT_WAIT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        store = SqlStore(f"postgresql+asyncpg://bt@127.0.0.1:{mute.getsockname()[1]}/bt", clock)
        with pytest.raises(StoreUnavailable, match="in time"):
            await store.start()


async def test_a_database_that_does_not_exist_is_said(postgres: Postgres, clock: SetClock) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await SqlStore(postgres.url("no_such_database"), clock).start()


async def test_cut_connections_cost_at_most_the_call_they_carried(store: SqlStore, postgres: Postgres) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'broking-terminal'"
    answered = 0
    for number in range(20):
        commit = asyncio.ensure_future(
            store.commit(Changes(entries_added=[entry(f"S{number}")], legs=[leg(float(n)) for n in range(500)]))
        )
        if number % 2:
            await asyncio.sleep(0.003 * (number % 7))
        administer(postgres, cut)
        await asyncio.wait([commit])
        error = commit.exception()
        assert error is None or isinstance(error, StoreUnavailable)
        answered += error is None
    await store.commit(Changes(entries_added=[entry("LAST")]))
    stored = len((await store.load()).entries)
    assert stored >= answered + 1


async def test_a_foreign_writers_lock_is_unavailable_until_it_is_gone(
    postgres_url: str, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOCK_WAIT_S", 1.0)
    store = SqlStore(postgres_url, clock)
    await store.start()
    other = open_engines(parsed(postgres_url))
    async with engine_of(other.writer).begin() as holding:
        await holding.execute(text("SELECT 1"))
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.commit(Changes(entries_added=[entry()]))
        await store.load()
    await store.commit(Changes(entries_added=[entry()]))
    assert len((await store.load()).entries) == 1
    await other.dispose()
    await store.stop()


async def test_a_full_disk_is_unavailable(store: SqlStore, postgres: Postgres, postgres_url: str) -> None:
    name = postgres_url.rsplit("/", 1)[1]
    # A server that reports what a full disk reports (SQLSTATE 53100): a trigger raises it.
    administer(
        postgres,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file'; END $$",
        name,
    )
    administer(
        postgres,
        "CREATE TRIGGER full_disk BEFORE INSERT ON subscriptions FOR EACH ROW EXECUTE FUNCTION full_disk()",
        name,
    )
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await store.commit(Changes(entries_added=[entry()], legs=[leg()]))
    administer(postgres, "DROP TRIGGER full_disk ON subscriptions", name)
    await store.commit(Changes(entries_added=[entry()], legs=[leg()]))
    assert len((await store.load()).entries) == 1


async def test_commits_are_durable_even_where_the_server_is_set_otherwise(
    postgres: Postgres, postgres_url: str, clock: SetClock
) -> None:
    name = postgres_url.rsplit("/", 1)[1]
    administer(postgres, f"ALTER DATABASE {name} SET synchronous_commit = off")
    engines = open_engines(parsed(postgres_url))
    async with engine_of(engines.writer).connect() as connection:
        assert (await connection.exec_driver_sql("SHOW synchronous_commit")).scalar() == "on"
    await engines.dispose()


async def test_accounts_from_two_processes_get_different_ids(postgres_url: str, clock: SetClock) -> None:
    stores = [SqlStore(postgres_url, clock) for _ in range(2)]
    for store in stores:
        await store.start()
    await asyncio.gather(
        *(stores[n % 2].add_user(f"user{n}", Role.USER, "h") for n in range(10)),
        *(stores[n % 2].ensure_user(n) for n in range(3, 9)),
        return_exceptions=True,
    )
    everyone = await stores[0].users()
    assert len({user.id for user in everyone}) == len(everyone)
    for store in stores:
        await store.stop()
