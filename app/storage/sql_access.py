"""The half of the SQL store that remembers who came in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from typing import TypeVar

from sqlalchemy import Connection

from app.ports.access import AccessFilter, AccessRow, SessionRow, ViewerCount, ViewerRow
from app.ports.store import UserRow
from app.storage import access_rows
from app.storage.values import storable, utc

_Result = TypeVar("_Result")


class SqlAccess(ABC):
    """Implements ``ports.access.AccessStore``; the heir brings the transactions."""

    @abstractmethod
    async def _read(self, work: Callable[[Connection], _Result]) -> _Result: ...

    @abstractmethod
    async def _write(self, work: Callable[[Connection], _Result]) -> _Result: ...

    async def open_session(self, session: SessionRow, line: AccessRow, keep: int) -> None:
        await self._write(lambda connection: access_rows.open_session(connection, session, line, keep))

    async def session(self, handle: str) -> tuple[SessionRow, UserRow] | None:
        if not storable(handle):
            return None
        return await self._read(lambda connection: access_rows.session(connection, handle))

    async def rotate_session(self, handle: str, generation: int, at: datetime) -> bool:
        moment = utc(at)
        return await self._write(lambda connection: access_rows.rotate(connection, handle, generation, moment))

    async def end_sessions(self, handles: Collection[str], line: AccessRow) -> int:
        return await self._write(lambda connection: access_rows.end(connection, handles, line))

    async def end_sessions_of(self, user_id: int, line: AccessRow) -> int:
        return await self._write(lambda connection: access_rows.end_of_user(connection, user_id, line))

    async def live_sessions(self, handles: Collection[str], now: datetime) -> set[str]:
        moment = utc(now)
        return await self._read(lambda connection: access_rows.live(connection, handles, moment))

    async def note_access(self, line: AccessRow) -> None:
        await self._write(lambda connection: access_rows.note(connection, line))

    async def access_log(self, wanted: AccessFilter) -> list[AccessRow]:
        return await self._read(lambda connection: access_rows.log(connection, wanted))

    async def note_viewers(self, rows: Sequence[ViewerRow]) -> None:
        if rows:
            await self._write(lambda connection: access_rows.note_viewers(connection, rows))

    async def viewer_counts(self, since: date) -> list[ViewerCount]:
        return await self._read(lambda connection: access_rows.viewer_counts(connection, since))

    async def prune_access(self, before: datetime, now: datetime) -> int:
        old, moment = utc(before), utc(now)
        return await self._write(lambda connection: access_rows.prune(connection, old, moment))
