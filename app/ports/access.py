"""What the store keeps about who came in: sessions, the trail of sign-ins and admin actions, viewers by segment.

Part of :class:`app.ports.store.Store`; the same obligations hold.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from app.ports.store import UserRow


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One sign-in. Table ``sessions``; a session that was ended is a row that is gone.

    ``handle`` is what tokens name it by, random. ``token_version`` is the user's at sign-in: raising the user's ends
    the session. ``generation`` counts rotations of the refresh token.
    """

    handle: str
    user_id: int
    token_version: int
    created_at: datetime
    rotated_at: datetime
    expires_at: datetime
    address: str
    generation: int = 0


class AccessAction(StrEnum):
    SIGN_IN = "SIGN_IN"
    SIGN_IN_FAILED = "SIGN_IN_FAILED"
    SIGN_OUT = "SIGN_OUT"
    REFRESH_REUSED = "REFRESH_REUSED"
    ADMIN = "ADMIN"
    ACTED_FOR = "ACTED_FOR"
    USER_ADDED = "USER_ADDED"
    PASSWORD_SET = "PASSWORD_SET"  # noqa: S105 - the name of an action
    USER_DISABLED = "USER_DISABLED"
    TOKEN_MADE = "TOKEN_MADE"  # noqa: S105 - the name of an action


@dataclass(frozen=True, slots=True)
class AccessRow:
    """Who did what, from where, when. Table ``access_log``. ``name`` is empty where no account is known."""

    action: AccessAction
    user_id: int | None
    name: str
    address: str
    detail: str
    timestamp: datetime
    id: int = 0


@dataclass(frozen=True, slots=True)
class AccessFilter:
    user_id: int | None = None
    action: AccessAction | None = None
    before_id: int | None = None  # cursor: rows with a smaller id
    limit: int = 100


@dataclass(frozen=True, slots=True)
class ViewerRow:
    """Somebody saw prices of a segment on a day. Table ``viewers``, unique over all fields."""

    day: date
    segment: str
    user_id: int
    address: str


@dataclass(frozen=True, slots=True)
class ViewerCount:
    """How many distinct users and addresses saw prices of a segment on a day."""

    day: date
    segment: str
    users: int
    addresses: int


class AccessStore(Protocol):
    async def open_session(self, session: SessionRow, line: AccessRow, keep: int) -> None:
        """Store a session and its line; of the user's others ``keep - 1`` stay, those that run out last."""
        ...

    async def session(self, handle: str) -> tuple[SessionRow, UserRow] | None:
        """The session and its user; None where it was ended."""
        ...

    async def rotate_session(self, handle: str, generation: int, at: datetime) -> bool:
        """Raise the generation by one if it is still ``generation``; False if another was first or it is gone."""
        ...

    async def end_sessions(self, handles: Collection[str], line: AccessRow) -> int:
        """End sessions and store the line; return how many there were."""
        ...

    async def end_sessions_of(self, user_id: int, line: AccessRow) -> int:
        """End all sessions of a user and store the line; return how many there were."""
        ...

    async def live_sessions(self, handles: Collection[str], now: datetime) -> set[str]:
        """Those of ``handles`` that were neither ended nor have run out."""
        ...

    async def note_access(self, line: AccessRow) -> None: ...

    async def access_log(self, wanted: AccessFilter) -> list[AccessRow]:
        """Newest first."""
        ...

    async def note_viewers(self, rows: Sequence[ViewerRow]) -> None:
        """Store what is not there yet."""
        ...

    async def viewer_counts(self, since: date) -> list[ViewerCount]:
        """By day and segment, oldest first."""
        ...

    async def prune_access(self, before: datetime, now: datetime) -> int:
        """Forget lines older than ``before`` and sessions that have run out; return how many rows."""
        ...
