"""The real servers are those of the contract suite, one of each for the whole run."""

from __future__ import annotations

from tests.contract.conftest import (
    clock,
    database_url,
    empty_postgres_url,
    nats_server,
    own_postgres,
    postgres,
    postgres_url,
    sqlite_url,
)

__all__ = [
    "clock",
    "database_url",
    "empty_postgres_url",
    "nats_server",
    "own_postgres",
    "postgres",
    "postgres_url",
    "sqlite_url",
]
