"""The durable store: SQLAlchemy Core on SQLite or PostgreSQL, one transaction a method, never a retry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any

import structlog
from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import AlreadyExists, StoreUnavailable
from app.ports.clock import Clock
from app.ports.store import AtmRow, AuditFilter, AuditRow, Changes, Role, StoredState, UserRow
from app.storage import rows
from app.storage.engine import Engines, database_url, is_duplicate, open_engines, why_unavailable
from app.storage.migrate import migrate
from app.storage.models import atm_cache, subscription_log, subscriptions, users, watchlist
from app.storage.values import (
    ROW_ID_MAX,
    audit_lines,
    auto_name,
    check_user_id,
    check_user_name,
    storable,
    utc,
)
from app.storage.writes import apply_changes, insert_user_if_unknown


class SqlStore:
    """Implements ``ports.store.Store``.

    A lost connection, a full disk or a locked database is ``StoreUnavailable`` once; the next call tries anew, so the
    service recovers by itself when the cause is gone. After ``StoreUnavailable`` from ``commit`` over a network it is
    unknown whether the server still committed: the caller must treat it as not done and may repeat it.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        """Raises ``ValueError`` for a URL of no database that we know."""
        self._url = database_url(url)
        self._clock = clock
        self._engines: Engines | None = None
        self._reachable = True
        self._log = structlog.get_logger()

    async def start(self) -> None:
        engines = open_engines(self._url)
        try:
            async with self._translating():
                await migrate(engines)
        except BaseException:
            await engines.dispose()
            raise
        self._engines = engines

    async def stop(self) -> None:
        engines, self._engines = self._engines, None
        if engines is not None:
            await engines.dispose()

    async def ping(self) -> None:
        async with self._reading() as connection:
            await connection.execute(select(users.c.id).limit(1))

    async def load(self) -> StoredState:
        async with self._reading() as connection:
            entries = (await connection.execute(select(watchlist).order_by(watchlist.c.id))).all()
            legs = (await connection.execute(select(subscriptions))).all()
            atm = (await connection.execute(select(atm_cache))).all()
        # Sorted here: a database sorts text by its own collation.
        return StoredState(
            entries=tuple(rows.to_entry(row) for row in entries),
            legs=tuple(sorted((rows.to_leg(row) for row in legs), key=lambda leg: leg.token)),
            atm=tuple(sorted((rows.to_atm(row) for row in atm), key=_chain)),
        )

    async def commit(self, changes: Changes) -> list[int]:
        lines = audit_lines(changes, self._clock.now())
        async with self._writing() as connection:
            return await connection.run_sync(apply_changes, changes, lines)

    async def was_done(self, once: str) -> bool:
        wanted = select(subscription_log.c.id).where(subscription_log.c.once == once)
        async with self._reading() as connection:
            return (await connection.execute(wanted)).first() is not None

    async def audit(self, wanted: AuditFilter) -> list[AuditRow]:
        if wanted.token is not None and not storable(wanted.token):
            return []
        async with self._reading() as connection:
            found = (await connection.execute(_audit_query(wanted))).all()
        return [rows.to_audit(row) for row in found]

    async def prune_audit(self, before: datetime) -> int:
        old = (subscription_log.c.timestamp < utc(before)) & subscription_log.c.once.is_(None)
        async with self._writing() as connection:
            return (await connection.execute(delete(subscription_log).where(old))).rowcount

    async def ensure_user(self, user_id: int) -> UserRow:
        known = await self.user_by_id(user_id)
        if known is not None:
            return known
        check_user_id(user_id)
        made = UserRow(user_id, auto_name(user_id), Role.USER, "", utc(self._clock.now()))
        async with self._writing() as connection:
            return await connection.run_sync(insert_user_if_unknown, made)

    async def user_by_name(self, name: str) -> UserRow | None:
        if not storable(name):
            return None
        return await self._one_user(select(users).where(users.c.name == name))

    async def user_by_id(self, user_id: int) -> UserRow | None:
        if not 0 < user_id <= ROW_ID_MAX:
            return None
        return await self._one_user(select(users).where(users.c.id == user_id))

    async def users(self) -> list[UserRow]:
        async with self._reading() as connection:
            found = (await connection.execute(select(users).order_by(users.c.id))).all()
        return [rows.to_user(row) for row in found]

    async def add_user(self, name: str, role: Role, password_hash: str) -> UserRow:
        check_user_name(name)
        values = rows.user_values(UserRow(0, name, role, password_hash, utc(self._clock.now())))
        async with self._writing() as connection:
            found = (await connection.execute(insert(users).values(values).returning(*users.c))).one()
        return rows.to_user(found)

    async def update_user(self, user: UserRow) -> None:
        change = (
            update(users)
            .where(users.c.id == user.id)
            .values(role=user.role.value, password_hash=user.password_hash, token_version=user.token_version)
        )
        async with self._writing() as connection:
            await connection.execute(change)

    async def _one_user(self, wanted: Select[*tuple[Any, ...]]) -> UserRow | None:
        async with self._reading() as connection:
            found = (await connection.execute(wanted)).first()
        return None if found is None else rows.to_user(found)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        async with self._translating(), self._started().reader.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        async with self._translating(), self._started().writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _translating(self) -> AsyncIterator[None]:
        try:
            yield
        except IntegrityError as error:
            if not is_duplicate(error):
                raise
            raise AlreadyExists("such a row exists already") from error
        except (SQLAlchemyError, OSError) as error:
            reason = why_unavailable(error)
            if reason is None:
                raise
            self._note(reason)
            raise StoreUnavailable(reason) from error
        self._note(None)

    def _note(self, trouble: str | None) -> None:
        if trouble is not None and self._reachable:
            self._log.error("store_unavailable", reason=trouble)
        elif trouble is None and not self._reachable:
            self._log.info("store_available")
        self._reachable = trouble is None

    def _started(self) -> Engines:
        if self._engines is None:
            raise StoreUnavailable("the store is not started")
        return self._engines


def _chain(row: AtmRow) -> tuple[str, date, str]:
    return row.underlying_symbol, row.expiry, row.exchange


def _audit_query(wanted: AuditFilter) -> Select[*tuple[Any, ...]]:
    log = subscription_log.c
    query = select(subscription_log).order_by(log.id.desc()).limit(min(max(wanted.limit, 0), ROW_ID_MAX))
    if wanted.token is not None:
        query = query.where(log.instrument_token == wanted.token)
    if wanted.action is not None:
        query = query.where(log.action == wanted.action.value)
    if wanted.since is not None:
        query = query.where(log.timestamp >= wanted.since)
    if wanted.before_id is not None:
        query = query.where(log.id < max(-ROW_ID_MAX, min(wanted.before_id, ROW_ID_MAX)))
    return query
