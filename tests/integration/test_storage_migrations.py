"""The revisions and the models say the same, on both databases, run by us or by the ``alembic`` command."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import make_url

from app.core.errors import StoreUnavailable
from app.ports.store import Changes, ListRow
from app.storage.engine import database_url as parsed
from app.storage.engine import open_engines
from app.storage.migrate import HEAD, MIGRATIONS, migrate, revision_of, upgrade
from app.storage.models import metadata
from app.storage.sql_store import SqlStore
from tests.contract.fakes import SetClock, entry

INI = MIGRATIONS / "alembic.ini"
TABLES = {
    "watchlist",
    "watchlists",
    "subscriptions",
    "atm_cache",
    "subscription_log",
    "users",
    "sessions",
    "access_log",
    "viewers",
}
CONTRACT_COLUMNS = {
    "watchlist": {"id", "user_id", "symbol", "expiry_date", "instrument_type", "added_at", "added_order"},
    "subscriptions": {
        "id",
        "instrument_token",
        "symbol",
        "expiry_date",
        "strike_price",
        "option_type",
        "tier",
        "subscribed_at",
        "ws_connection_id",
        "active",
    },
    "atm_cache": {
        "id",
        "underlying_symbol",
        "expiry_date",
        "current_ltp",
        "atm_strike",
        "strike_step",
        "cached_at",
        "generated_strikes",
    },
    "subscription_log": {"id", "action", "instrument_token", "reason", "timestamp"},
    "users": {"id"},
}


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """A URL of each database, without a table."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "empty_postgres_url")
    return url


def alembic(*arguments: str, cwd: Path | None = None) -> str:
    """Run the command as a person would, in the project or elsewhere."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(INI), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": metadata}
    )
    return list(compare_metadata(context, metadata))


async def on(url: str, work: object) -> object:
    engines = open_engines(parsed(url))
    found: object = await engines.writer.run(work)  # type: ignore[arg-type]
    await engines.dispose()
    return found


def test_an_empty_database_becomes_what_the_models_say(empty_url: str) -> None:
    assert upgrade(empty_url) == HEAD
    assert asyncio.run(on(empty_url, differences)) == []
    assert asyncio.run(on(empty_url, revision_of)) == HEAD


def test_the_comparison_sees_a_difference(empty_url: str) -> None:
    upgrade(empty_url)

    def change(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE users ADD COLUMN extra INTEGER"))
        connection.execute(text("DROP INDEX ix_subscription_log_timestamp"))

    asyncio.run(on(empty_url, change))
    found = asyncio.run(on(empty_url, differences))
    assert isinstance(found, list)
    assert {item[0] for item in found} == {"remove_column", "add_index"}


def test_the_columns_of_the_contract_are_there(empty_url: str) -> None:
    upgrade(empty_url)

    def columns(connection: Connection) -> dict[str, set[str]]:
        seen = inspect(connection)
        return {name: {column["name"] for column in seen.get_columns(name)} for name in seen.get_table_names()}

    found = asyncio.run(on(empty_url, columns))
    assert isinstance(found, dict)
    assert set(found) == TABLES | {"alembic_version"}
    for table, wanted in CONTRACT_COLUMNS.items():
        assert found[table] >= wanted


def test_both_databases_get_the_same_tables(sqlite_url: str, empty_postgres_url: str) -> None:
    def shape(connection: Connection) -> dict[str, object]:
        seen = inspect(connection)
        return {
            name: (
                {(column["name"], column["nullable"]) for column in seen.get_columns(name)},
                {(unique["name"], tuple(unique["column_names"])) for unique in seen.get_unique_constraints(name)},
                {
                    (index["name"], tuple(index["column_names"]))
                    for index in seen.get_indexes(name)
                    if not index.get("duplicates_constraint")
                },
            )
            for name in TABLES
        }

    upgrade(sqlite_url)
    upgrade(empty_postgres_url)
    assert asyncio.run(on(sqlite_url, shape)) == asyncio.run(on(empty_postgres_url, shape))


def test_the_named_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory.from_config(Config(str(INI)))
    assert scripts.get_heads() == [HEAD]
    revisions = [script.revision for script in scripts.walk_revisions()]
    # Backups compare revisions as text.
    assert revisions == sorted(revisions, reverse=True)
    assert {len(revision) for revision in revisions} == {4}


OLD_ENTRY = (
    "INSERT INTO watchlist (user_id, list_name, symbol, exchange, expiry_date, instrument_type, added_at, added_order,"
    " last_used_at, state) VALUES (1, 'default', 'TCS', 'NSE', '', 'EQUITY', '2026-02-03 10:00:00', 7,"
    " '2026-02-03 10:00:00', 'ACTIVE')"
)

MOVED = [("swing", "TCS"), ("swing", "INFY"), ("other", "INFY"), ("@explicit", "SBIN")]


def test_named_lists_come_and_go_with_their_revision(empty_url: str) -> None:
    """Down, an entry of a named list joins the default list, unless that has the same one."""

    def rows(connection: Connection) -> list[tuple[object, ...]]:
        found = connection.execute(text("SELECT symbol, list_name, added_order FROM watchlist ORDER BY id"))
        return [tuple(row) for row in found]

    async def add() -> None:
        store = SqlStore(empty_url, SetClock())
        await store.start()
        (old,) = (await store.load()).entries
        assert (old.added_order, old.position) == (7, 7)
        twice = [replace(old, id=0, list_name=name, symbol=symbol) for name, symbol in MOVED]
        await store.commit(Changes(lists=[ListRow(1, "swing", 2)], entries_added=twice))
        await store.stop()

    alembic("-x", f"url={empty_url}", "upgrade", "0001")
    asyncio.run(on(empty_url, lambda connection: connection.execute(text(OLD_ENTRY))))
    upgrade(empty_url)
    assert asyncio.run(on(empty_url, differences)) == []
    asyncio.run(add())
    alembic("-x", f"url={empty_url}", "downgrade", "0001")
    assert asyncio.run(on(empty_url, rows)) == [("TCS", "default", 7), ("INFY", "default", 7), ("SBIN", "@explicit", 7)]
    upgrade(empty_url)
    assert asyncio.run(on(empty_url, differences)) == []


def test_an_upgrade_may_be_repeated_and_keeps_the_rows(empty_url: str) -> None:
    async def add() -> None:
        store = SqlStore(empty_url, SetClock())
        await store.start()
        await store.commit(Changes(entries_added=[entry()]))
        await store.stop()

    async def count() -> int:
        store = SqlStore(empty_url, SetClock())
        await store.start()
        loaded = await store.load()
        await store.stop()
        return len(loaded.entries)

    upgrade(empty_url)
    asyncio.run(add())
    upgrade(empty_url)
    assert asyncio.run(count()) == 1


def test_every_earlier_revision_is_brought_up_to_date(empty_url: str, tmp_path: Path) -> None:
    """A database as each earlier program left it, with a user and a list in it."""
    scripts = ScriptDirectory.from_config(Config(str(INI)))
    earlier = sorted(script.revision for script in scripts.walk_revisions() if script.revision != HEAD)
    assert earlier

    def leave_behind(connection: Connection) -> None:
        at = "'2026-02-03 00:00:00+00:00'" if connection.dialect.name == "postgresql" else "'2026-02-03 00:00:00'"
        connection.execute(
            text(
                "INSERT INTO users (name, role, password_hash, created_at, token_version)"
                f" VALUES ('asha', 'user', '', {at}, 0)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO watchlist (user_id, list_name, symbol, exchange, expiry_date, instrument_type, added_at,"
                " added_order, last_used_at, state)"
                f" VALUES (1, 'default', 'TCS', 'NSE', '', 'EQUITY', {at}, 1, {at}, 'ACTIVE')"
            )
        )

    def wipe(connection: Connection) -> None:
        for table in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {table}"))

    async def kept() -> tuple[list[str], list[str]]:
        store = SqlStore(empty_url, SetClock())
        await store.start()
        found = [row.symbol for row in (await store.load()).entries], [user.name for user in await store.users()]
        await store.stop()
        return found

    for revision in earlier:
        alembic("-x", f"url={empty_url}", "upgrade", revision)
        asyncio.run(on(empty_url, leave_behind))
        assert asyncio.run(kept()) == (["TCS"], ["asha"]), revision
        assert asyncio.run(on(empty_url, revision_of)) == HEAD
        assert asyncio.run(on(empty_url, differences)) == []
        asyncio.run(on(empty_url, wipe))


async def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    several = [open_engines(parsed(empty_url)) for _ in range(4)]
    await asyncio.gather(*(migrate(engines) for engines in several))
    for engines in several:
        await engines.dispose()
    assert await on(empty_url, differences) == []


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    def block(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE users (id INTEGER)"))

    await on(empty_url, block)
    store = SqlStore(empty_url, SetClock())
    with pytest.raises(Exception, match="already exists"):
        await store.start()
    assert await on(empty_url, lambda connection: inspect(connection).get_table_names()) == ["users"]


async def test_a_database_of_a_newer_program_is_refused_and_left_alone(empty_url: str) -> None:
    store = SqlStore(empty_url, SetClock())
    await store.start()
    await store.stop()

    def age(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    await on(empty_url, age)
    with pytest.raises(StoreUnavailable, match="schema 9999"):
        await store.start()
    assert await on(empty_url, revision_of) == "9999"


def test_the_alembic_command_does_the_same(empty_url: str, tmp_path: Path) -> None:
    alembic("-x", f"url={empty_url}", "upgrade", "head", cwd=tmp_path)
    assert asyncio.run(on(empty_url, differences)) == []
    assert HEAD in alembic("-x", f"url={empty_url}", "current")
    assert "No new upgrade operations" in alembic("-x", f"url={empty_url}", "check")


@pytest.mark.parametrize("dialect", ["sqlite+aiosqlite:///nowhere.db", "postgresql+asyncpg://nobody@nowhere/none"])
def test_offline_it_prints_the_statements(dialect: str, tmp_path: Path) -> None:
    printed = alembic("-x", f"url={dialect}", "upgrade", "head", "--sql", cwd=tmp_path)
    for table in TABLES:
        assert f"CREATE TABLE {table} (" in printed
    assert list(tmp_path.iterdir()) == []


def test_the_printed_statements_make_the_same_database(sqlite_url: str, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    printed = alembic("-x", f"url={sqlite_url}", "upgrade", "head", "--sql", cwd=tmp_path)
    with closing(sqlite3.connect(str(make_url(sqlite_url).database))) as connection:
        connection.executescript(printed)
    assert asyncio.run(on(sqlite_url, differences)) == []
    assert asyncio.run(on(sqlite_url, revision_of)) == HEAD


def test_without_a_url_the_command_says_what_it_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(INI), "upgrade", "head"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode != 0
    assert "name the database" in done.stderr
