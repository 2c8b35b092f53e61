"""The databases are those of the contract suite."""

from __future__ import annotations

from tests.contract.conftest import postgres, postgres_url, sqlite_url

__all__ = ["postgres", "postgres_url", "sqlite_url"]
