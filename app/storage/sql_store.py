"""The durable store: SQLAlchemy Core on SQLite or PostgreSQL, one transaction a method, never a retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from app.core.errors import AlreadyExists, StoreUnavailable
from app.ports.clock import Clock
from app.ports.store import AuditFilter, AuditRow, Changes, Role, StoredState, UserRow
from app.storage import reads, writes
from app.storage.engine import Engines, Transactions, database_url, is_duplicate, open_engines, why_unavailable
from app.storage.migrate import migrate
from app.storage.sql_access import SqlAccess
from app.storage.values import (
    ROW_ID_MAX,
    audit_lines,
    auto_name,
    check_user_id,
    check_user_name,
    storable,
    utc,
)
from app.storage.whole import whole

_Result = TypeVar("_Result")


class SqlStore(SqlAccess):
    """Implements ``ports.store.Store``.

    A lost connection, a full disk or a locked database is ``StoreUnavailable`` once; the next call tries anew, so the
    service recovers by itself when the cause is gone. After ``StoreUnavailable`` from ``commit`` over a network it is
    unknown whether the server still committed: the caller must treat it as not done and may repeat it. A cancelled
    call is done whole or not at all.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        """Raises ``ValueError`` for a URL of no database that we know."""
        self._url = database_url(url)
        self._clock = clock
        self._engines: Engines | None = None
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._troubles: dict[str, str] = {}  # what cannot be done now -> why
        self._failures = 0
        self._log = structlog.get_logger()

    async def start(self) -> None:
        if self._engines is None:
            self._engines = await whole(self._open())

    async def stop(self) -> None:
        """Refuse new work, let what is under way end, and disconnect."""
        engines, self._engines = self._engines, None
        if engines is not None:
            await whole(self._close(engines))

    async def ping(self) -> None:
        await self._read(reads.ping)

    async def ping_write(self) -> None:
        await self._write(writes.ping)

    @property
    def trouble(self) -> str | None:
        return "; ".join(f"{kind}: {reason}" for kind, reason in self._troubles.items()) or None

    @property
    def failures(self) -> int:
        return self._failures

    async def load(self) -> StoredState:
        return await self._read(reads.stored_state)

    async def commit(self, changes: Changes) -> list[int]:
        lines = audit_lines(changes, self._clock.now())
        return await self._write(lambda connection: writes.apply_changes(connection, changes, lines))

    async def was_done(self, once: str) -> bool:
        return await self._read(lambda connection: reads.was_done(connection, once))

    async def audit(self, wanted: AuditFilter) -> list[AuditRow]:
        if wanted.token is not None and not storable(wanted.token):
            return []
        return await self._read(lambda connection: reads.audit(connection, wanted))

    async def prune_audit(self, before: datetime) -> int:
        moment = utc(before)
        return await self._write(lambda connection: writes.prune_audit(connection, moment))

    async def ensure_user(self, user_id: int) -> UserRow:
        known = await self.user_by_id(user_id)
        if known is not None:
            return known
        check_user_id(user_id)
        made = UserRow(user_id, auto_name(user_id), Role.USER, "", self._clock.now())
        return await self._write(lambda connection: writes.insert_user_if_unknown(connection, made))

    async def user_by_name(self, name: str) -> UserRow | None:
        if not storable(name):
            return None
        return await self._read(lambda connection: reads.user_by_name(connection, name))

    async def user_by_id(self, user_id: int) -> UserRow | None:
        if not 0 < user_id <= ROW_ID_MAX:
            return None
        return await self._read(lambda connection: reads.user_by_id(connection, user_id))

    async def users(self) -> list[UserRow]:
        return await self._read(reads.all_users)

    async def add_user(self, name: str, role: Role, password_hash: str) -> UserRow:
        check_user_name(name)
        made = UserRow(0, name, role, password_hash, self._clock.now())
        return await self._write(lambda connection: writes.insert_user(connection, made))

    async def update_user(self, user: UserRow) -> None:
        await self._write(lambda connection: writes.update_user(connection, user))

    async def _open(self) -> Engines:
        with self._translating("start"):
            engines = open_engines(self._url)
            try:
                await migrate(engines)
            except BaseException:
                await engines.dispose()
                raise
        return engines

    async def _close(self, engines: Engines) -> None:
        await self._idle.wait()
        await engines.dispose()

    async def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        return await whole(self._in_transaction("read", self._started().reader, work))

    async def _write(self, work: Callable[[Connection], _Result]) -> _Result:
        return await whole(self._in_transaction("write", self._started().writer, work))

    async def _in_transaction(self, kind: str, engine: Transactions, work: Callable[[Connection], _Result]) -> _Result:
        self._in_flight += 1
        self._idle.clear()
        try:
            with self._translating(kind):
                return await engine.run(work)
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    def _started(self) -> Engines:
        if self._engines is None:
            raise StoreUnavailable("the store is not started")
        return self._engines

    @contextmanager
    def _translating(self, kind: str) -> Iterator[None]:
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
            self._failures += 1
            self._note(kind, reason)
            raise StoreUnavailable(reason) from error
        self._note(kind, None)

    def _note(self, kind: str, trouble: str | None) -> None:
        # One line per change: reads may work while writes do not.
        if trouble is not None and kind not in self._troubles:
            self._troubles[kind] = trouble
            self._log.error("store_unavailable", what=kind, reason=trouble)
        elif trouble is None and self._troubles.pop(kind, None) is not None:
            self._log.info("store_available", what=kind)
