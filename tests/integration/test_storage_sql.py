"""What both SQL databases do alike: no update is lost, a cut caller loses nothing, a fault is called by its name."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, create_engine, select, update
from sqlalchemy.exc import IntegrityError

from app.ports.store import Changes
from app.storage.engine import InThreads, Transactions, open_engines
from app.storage.engine import database_url as parsed
from app.storage.models import users
from app.storage.sql_store import SqlStore
from tests.contract.fakes import SetClock, entry, leg, line


@pytest.fixture
async def store(database_url: str, clock: SetClock) -> AsyncIterator[SqlStore]:
    made = SqlStore(database_url, clock)
    await made.start()
    yield made
    await made.stop()


def raise_version(connection: Connection) -> None:
    """Read, think, write: the pattern that loses updates where a transaction begins only at the write."""
    found = connection.execute(select(users.c.token_version).where(users.c.id == 1)).scalar_one()
    time.sleep(0.001)
    connection.execute(update(users).where(users.c.id == 1).values(token_version=found + 1))


async def raise_versions(engine: Transactions, times: int) -> None:
    for _ in range(times):
        await engine.run(raise_version)


async def version(store: SqlStore) -> int:
    user = await store.user_by_id(1)
    assert user is not None
    return user.token_version


async def test_no_update_is_lost_between_a_read_and_its_write(store: SqlStore, database_url: str) -> None:
    await store.ensure_user(1)
    several = [open_engines(parsed(database_url)) for _ in range(3)]  # as processes would
    await asyncio.gather(*(raise_versions(engines.writer, 20) for engines in several for _ in range(3)))
    for engines in several:
        await engines.dispose()
    assert await version(store) == 3 * 3 * 20


async def test_the_drivers_defaults_do_lose_updates(sqlite_url: str, clock: SetClock) -> None:
    # Shows that the test above can fail at all.
    store = SqlStore(sqlite_url, clock)
    await store.start()
    await store.ensure_user(1)
    default = InThreads(create_engine(parsed(sqlite_url)), 4)
    await asyncio.gather(*(raise_versions(default, 20) for _ in range(4)))
    await default.dispose()
    assert await version(store) < 4 * 20
    await store.stop()


async def test_a_commit_whose_caller_is_cancelled_is_still_whole(store: SqlStore) -> None:
    rng = random.Random(5)
    symbols = [f"S{number}" for number in range(40)]
    for symbol in symbols:
        changes = Changes(entries_added=[entry(symbol)], legs=[leg(token=f"{symbol}_{n}") for n in range(20)])
        task = asyncio.ensure_future(store.commit(changes))
        await asyncio.sleep(rng.uniform(0.0, 0.006))
        task.cancel()
        await asyncio.wait([task])
    await store.commit(Changes(audit=[line()]))
    loaded = await store.load()
    assert [row.symbol for row in loaded.entries] == symbols  # what had begun was finished, however soon the cut
    assert Counter(row.token.split("_")[0] for row in loaded.legs) == dict.fromkeys(symbols, 20)


async def test_a_broken_constraint_that_is_a_fault_of_ours_is_not_called_a_duplicate(store: SqlStore) -> None:
    with pytest.raises(IntegrityError):
        await store.commit(Changes(entries_added=[entry(symbol=None)]))  # type: ignore[arg-type]
    assert (await store.load()).entries == ()
