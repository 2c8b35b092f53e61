"""The half of the memory store that remembers who came in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date, datetime

from app.ports.access import AccessFilter, AccessRow, SessionRow, ViewerCount, ViewerRow
from app.ports.store import UserRow
from app.storage.values import utc


class MemoryAccess(ABC):
    """Implements ``ports.access.AccessStore`` over plain dictionaries; the heir brings the users."""

    _users: dict[int, UserRow]

    def __init__(self) -> None:
        self._sessions: dict[str, SessionRow] = {}
        self._access: list[AccessRow] = []
        self._last_access_id = 0
        self._viewers: set[ViewerRow] = set()

    @abstractmethod
    def _require_started(self) -> None: ...

    async def open_session(self, session: SessionRow, line: AccessRow, keep: int) -> None:
        self._require_started()
        others = [each for each in self._sessions.values() if each.user_id == session.user_id]
        by_end = sorted(others, key=lambda each: each.expires_at)
        for each in by_end[: max(0, len(others) - keep + 1)]:
            del self._sessions[each.handle]
        self._sessions[session.handle] = replace(
            session,
            created_at=utc(session.created_at),
            rotated_at=utc(session.rotated_at),
            expires_at=utc(session.expires_at),
        )
        self._note(line)

    async def session(self, handle: str) -> tuple[SessionRow, UserRow] | None:
        self._require_started()
        found = self._sessions.get(handle)
        user = self._users.get(found.user_id) if found else None
        return (found, user) if found and user else None

    async def rotate_session(self, handle: str, generation: int, at: datetime) -> bool:
        self._require_started()
        found = self._sessions.get(handle)
        if found is None or found.generation != generation:
            return False
        self._sessions[handle] = replace(found, generation=generation + 1, rotated_at=utc(at))
        return True

    async def end_sessions(self, handles: Collection[str], line: AccessRow) -> int:
        self._require_started()
        self._note(line)
        return sum(self._sessions.pop(handle, None) is not None for handle in handles)

    async def end_sessions_of(self, user_id: int, line: AccessRow) -> int:
        handles = [each.handle for each in self._sessions.values() if each.user_id == user_id]
        return await self.end_sessions(handles, line)

    async def live_sessions(self, handles: Collection[str], now: datetime) -> set[str]:
        self._require_started()
        return {handle for handle in handles if self._is_live(handle, now)}

    async def note_access(self, line: AccessRow) -> None:
        self._require_started()
        self._note(line)

    async def access_log(self, wanted: AccessFilter) -> list[AccessRow]:
        self._require_started()
        fitting = [line for line in reversed(self._access) if _fits(line, wanted)]
        return fitting[: wanted.limit]

    async def note_viewers(self, rows: Sequence[ViewerRow]) -> None:
        self._require_started()
        self._viewers.update(rows)

    async def viewer_counts(self, since: date) -> list[ViewerCount]:
        self._require_started()
        groups = sorted({(row.day, row.segment) for row in self._viewers if row.day >= since})
        return [ViewerCount(day, segment, *self._distinct(day, segment)) for day, segment in groups]

    async def prune_access(self, before: datetime, now: datetime) -> int:
        self._require_started()
        kept = [line for line in self._access if line.timestamp >= utc(before)]
        over = [each.handle for each in self._sessions.values() if each.expires_at <= utc(now)]
        pruned = len(self._access) - len(kept) + len(over)
        self._access = kept
        for handle in over:
            del self._sessions[handle]
        return pruned

    def _note(self, line: AccessRow) -> None:
        self._last_access_id += 1
        self._access.append(replace(line, id=self._last_access_id, timestamp=utc(line.timestamp)))

    def _is_live(self, handle: str, now: datetime) -> bool:
        found = self._sessions.get(handle)
        user = self._users.get(found.user_id) if found else None
        if found is None or user is None:
            return False
        return found.token_version == user.token_version and found.expires_at > utc(now)

    def _distinct(self, day: date, segment: str) -> tuple[int, int]:
        rows = [row for row in self._viewers if (row.day, row.segment) == (day, segment)]
        return len({row.user_id for row in rows}), len({row.address for row in rows})


def _fits(line: AccessRow, wanted: AccessFilter) -> bool:
    return (
        wanted.user_id in (None, line.user_id)
        and wanted.action in (None, line.action)
        and (wanted.before_id is None or line.id < wanted.before_id)
    )
