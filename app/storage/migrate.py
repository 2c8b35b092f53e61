"""Bring a database to the newest schema. The revisions in ``migrations`` are the only way a schema changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from app.core.errors import StoreUnavailable
from app.storage.engine import Engines, database_url, open_engines, translated

HEAD = "0003"  # newest revision; a test compares it with the scripts
MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(url: str) -> str:
    """Bring the database at ``url`` to the newest schema, from a program without an event loop.

    Returns:
        The revision that the database is at.

    Raises:
        ValueError: not a database URL.
        StoreUnavailable: it cannot be reached, or was written by a newer program.
    """

    async def run() -> None:
        engines = open_engines(database_url(url))
        try:
            with translated():
                await migrate(engines)
        finally:
            await engines.dispose()

    asyncio.run(run())
    return HEAD


async def migrate(engines: Engines) -> None:
    """Bring the database to the newest schema in one transaction, under the writer's lock.

    Two processes that start together migrate once. Raises ``StoreUnavailable`` for a database of a newer program.
    """
    await engines.writer.run(upgrade_on)


def upgrade_on(connection: Connection) -> None:
    """The same, on a connection that is in a transaction."""
    found = revision_of(connection)
    if found == HEAD:
        return
    # Imported late: a start on a current database does without.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(str(MIGRATIONS / "alembic.ini"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StoreUnavailable(f"the database has schema {found}, this program knows up to {HEAD}: use a newer one")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def revision_of(connection: Connection) -> str | None:
    """The revision a database is at; None for one without our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found
