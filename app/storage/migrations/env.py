"""Where Alembic meets our metadata: on a connection handed in, on a URL, or printing SQL."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from app.storage.engine import database_url, open_engines
from app.storage.models import metadata


def run() -> None:
    """Run the revisions that Alembic was asked for."""
    if context.is_offline_mode():
        context.configure(url=_url(), target_metadata=metadata, literal_binds=True, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run_on(connection)
    else:
        asyncio.run(_run_at(_url()))


async def _run_at(url: str) -> None:
    engines = open_engines(database_url(url))
    try:
        await engines.writer.run(_run_on)
    finally:
        await engines.dispose()


def _run_on(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


def _url() -> str:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not isinstance(url, str):
        raise SystemExit("name the database: alembic -x url=sqlite+aiosqlite:///app.db …")
    return database_url(url).render_as_string(hide_password=False)


# Alembic loads this file under this name; any other import is only a reader.
if __name__ == "env_py":
    run()
