"""Sign-ins that last: opened, refreshed by rotation, ended. A stolen refresh token gives itself away (RFC 9700)."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta

from app.core.errors import Unauthenticated
from app.ports.access import AccessAction, AccessRow, SessionRow
from app.ports.clock import Clock
from app.ports.store import Store, UserRow
from app.rest import limits
from app.rest.tokens import Claims, TokenKind, TokenSigner


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Seconds: the life of a refreshable access token, and of a session; another access token lives as long as that."""

    access_s: int = limits.TOKEN_LIFE_S
    session_s: int = limits.SESSION_LIFE_S


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The answer of a sign-in; field names as OAuth2 has them."""

    access_token: str
    token_type: str
    expires_in: int
    user_id: int


@dataclass(frozen=True, slots=True)
class RefreshableToken(AccessToken):
    """The answer for a client that asked for the scope ``offline_access``."""

    refresh_token: str


class Sessions:
    """Opens, refreshes and ends sessions; the store holds them, so that every process knows of an end."""

    def __init__(self, store: Store, clock: Clock, secret_key: str, policy: SessionPolicy | None = None) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy or SessionPolicy()
        self._signer = TokenSigner(secret_key, clock)

    async def open(self, user: UserRow, address: str, *, refreshable: bool = False) -> AccessToken:
        """Sign in a user whose identity is proved."""
        session = self._new(user, address, self._policy.session_s)
        line = self._line(AccessAction.SIGN_IN, user, address)
        await self._store.open_session(session, line, limits.SESSIONS_PER_USER_MAX)
        return self._answer(session, refreshable=refreshable)

    async def open_for_machine(self, user: UserRow, address: str, life_s: int) -> AccessToken:
        """One token as long as its session, for a program that cannot sign in."""
        session = self._new(user, address, life_s)
        line = self._line(AccessAction.TOKEN_MADE, user, address, f"{life_s // 3600} hours")
        await self._store.open_session(session, line, limits.SESSIONS_PER_USER_MAX)
        token = self._signer.access(session, int(session.expires_at.timestamp()))
        return AccessToken(token, "bearer", life_s, user.id)

    async def refresh(self, token: str, address: str) -> RefreshableToken:
        """Exchange a refresh token for the next pair.

        A token that was exchanged before ends the whole session: either its owner or a thief holds a copy. The last one
        is answered alike for a short while, since an answer may be lost and a page may be open twice.

        Raises:
            Unauthenticated: it does not hold, was used before, or its session is over.
        """
        claims = self._signer.read(TokenKind.REFRESH, token)
        session, user = await self.holding(claims)
        now = self._clock.now()
        if claims.generation == session.generation:
            await self._store.rotate_session(session.handle, session.generation, now)
            session = replace(session, generation=session.generation + 1, rotated_at=now)
        elif not self._is_lost_answer(claims, session):
            line = self._line(AccessAction.REFRESH_REUSED, user, address, "a refresh token came twice: session ended")
            await self._store.end_sessions([session.handle], line)
            raise Unauthenticated("this refresh token was used before: the session is over, sign in again")
        answer = self._answer(session, refreshable=True)
        assert isinstance(answer, RefreshableToken)
        return answer

    async def owner(self, token: str) -> tuple[SessionRow, UserRow, int]:
        """The session and user behind an access token, and when the token ends, epoch seconds."""
        claims = self._signer.read(TokenKind.ACCESS, token)
        session, user = await self.holding(claims)
        return session, user, claims.expires_s

    async def holding(self, claims: Claims) -> tuple[SessionRow, UserRow]:
        """Raises ``Unauthenticated`` for a session that was ended, has run out, or is of a user since shut out."""
        found = await self._store.session(claims.session)
        if found is None or found[1].token_version != found[0].token_version or found[1].id != claims.user_id:
            raise Unauthenticated("this token was revoked")
        if found[0].expires_at <= self._clock.now():
            raise Unauthenticated("this session has run out; sign in again")
        return found

    async def live(self, handles: Collection[str]) -> set[str]:
        """Those of the sessions that still hold."""
        return await self._store.live_sessions(handles, self._clock.now())

    async def end(self, handle: str, user_id: int, name: str, address: str, *, everywhere: bool) -> int:
        """End one session, or all of its user; return how many."""
        detail = "everywhere" if everywhere else ""
        line = AccessRow(AccessAction.SIGN_OUT, user_id, name, address, detail, self._clock.now())
        if everywhere:
            return await self._store.end_sessions_of(user_id, line)
        return await self._store.end_sessions([handle], line)

    def _is_lost_answer(self, claims: Claims, session: SessionRow) -> bool:
        age = self._clock.now() - session.rotated_at
        return claims.generation == session.generation - 1 and age <= timedelta(seconds=limits.REFRESH_GRACE_S)

    def _new(self, user: UserRow, address: str, life_s: int) -> SessionRow:
        now = self._clock.now()
        ends = now + timedelta(seconds=life_s)
        return SessionRow(secrets.token_urlsafe(16), user.id, user.token_version, now, now, ends, address)

    def _answer(self, session: SessionRow, *, refreshable: bool) -> AccessToken:
        now_s = self._clock.now_ms() // 1000
        ends_s = int(session.expires_at.timestamp())
        expires_s = min(now_s + self._policy.access_s, ends_s) if refreshable else ends_s
        told = (self._signer.access(session, expires_s), "bearer", expires_s - now_s, session.user_id)
        return RefreshableToken(*told, self._signer.refresh(session)) if refreshable else AccessToken(*told)

    def _line(self, action: AccessAction, user: UserRow, address: str, detail: str = "") -> AccessRow:
        return AccessRow(action, user.id, user.name, address, detail, self._clock.now())
