"""The databases are those of the contract suite."""

from __future__ import annotations

from tests.contract.conftest import own_postgres, postgres, postgres_url, sqlite_url

__all__ = ["own_postgres", "postgres", "postgres_url", "sqlite_url"]
