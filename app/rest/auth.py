"""Who is calling: access tokens, sign-in, roles, own objects only (contract, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.core.errors import AlreadyExists, Forbidden, RateLimited, Unauthenticated
from app.ports.access import AccessAction, AccessRow
from app.ports.clock import Clock
from app.ports.store import Role, Store
from app.rest import limits
from app.rest.origin import address_of, is_local, is_same_site
from app.rest.passwords import NO_LOGIN, Passwords, one_time_password
from app.rest.sessions import AccessToken, RefreshableToken, SessionPolicy, Sessions
from app.rest.throttle import AttemptLimiter

AuthMode = Literal["auto", "required", "off"]

LOCAL_USER_ID = 1
FIRST_ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. ``expires_ms`` is when the token behind it ends, epoch ms UTC; None without a token.

    ``session`` names the sign-in behind the token; ``address`` is where the request came from.
    """

    user_id: int
    role: Role
    name: str
    expires_ms: int | None = None
    session: str = ""
    address: str = ""

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    @property
    def has_token(self) -> bool:
        return self.expires_ms is not None

    def may_act_for(self, user_id: int) -> bool:
        """Own objects only, unless an admin. Without a token every caller is an admin."""
        return self.is_admin or self.user_id == user_id

    def require_act_for(self, user_id: int) -> None:
        """Raises ``Forbidden`` unless :meth:`may_act_for`."""
        if not self.may_act_for(user_id):
            raise Forbidden(f"user {self.user_id} may not act for user {user_id}")

    def require_admin(self) -> None:
        """Raises ``Forbidden`` for a plain user."""
        if not self.is_admin:
            raise Forbidden("this needs the role admin")


class Authenticator:
    """Judges requests and sign-ins. Holds no state but the counts of failed sign-ins."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        secret_key: str,
        mode: AuthMode = "auto",
        *,
        own_hosts: Collection[str] = (),
        passwords: Passwords | None = None,
        policy: SessionPolicy | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._mode = mode
        self._own_hosts = frozenset(own_hosts)
        self._passwords = passwords or Passwords()
        self._sessions = Sessions(store, clock, secret_key, policy)
        window_s, keys_max = limits.FAILURE_WINDOW_S, limits.FAILURE_KEYS_MAX
        self._by_name = AttemptLimiter(clock, limits.FAILURES_PER_NAME_MAX, window_s, keys_max)
        self._by_address = AttemptLimiter(clock, limits.FAILURES_PER_ADDRESS_MAX, window_s, keys_max)
        self._by_name_anywhere = AttemptLimiter(clock, limits.FAILURES_PER_NAME_ANYWHERE_MAX, window_s, keys_max)

    @property
    def mode(self) -> AuthMode:
        return self._mode

    @property
    def sessions(self) -> Sessions:
        return self._sessions

    def requires_token(self, scope: Mapping[str, Any]) -> bool:
        """Whether this request or WebSocket handshake must show a token.

        ``off`` still asks one of a foreign page: turning authentication off opens the service to its machine, not to
        every site that the machine's browser shows.
        """
        if self._mode == "required":
            return True
        if self._mode == "off":
            return not is_same_site(scope, self._own_hosts)
        return not is_local(scope, self._own_hosts)

    def anonymous(self, address: str = "") -> Principal:
        """The caller where no token is needed: rights of an admin, any user id."""
        return Principal(LOCAL_USER_ID, Role.ADMIN, "local", address=address)

    async def principal_of(self, scope: Mapping[str, Any]) -> Principal:
        """The caller behind an ASGI scope, by its ``Authorization`` header or by not needing one.

        Raises:
            Unauthenticated: a token is needed and missing, or one was shown that does not hold.
        """
        address = address_of(scope)
        token = bearer_of(scope)
        if token is not None:
            return await self.authenticate(token, address)
        if self.requires_token(scope):
            raise Unauthenticated("this needs a bearer token; POST /api/v2/auth/token gives one")
        return self.anonymous(address)

    async def authenticate(self, token: str, address: str = "") -> Principal:
        """The user that a token was issued to, as the store knows it now.

        Raises:
            Unauthenticated: forged, expired, revoked, or of a user who is gone.
        """
        session, user, expires_s = await self._sessions.owner(token)
        return Principal(user.id, user.role, user.name, expires_s * 1000, session.handle, address)

    async def live(self, sessions: Collection[str]) -> set[str]:
        """Those of the sessions that still hold."""
        return await self._sessions.live(sessions)

    async def sign_in(
        self, name: str, password: str, scope: Mapping[str, Any], *, refreshable: bool = False
    ) -> AccessToken:
        """Check a name and a password and open a session.

        Raises:
            Unauthenticated: they do not belong together; which of the two is wrong is not told.
            RateLimited: too many failures of this name from this address, of this name, or of this address.
        """
        address = address_of(scope)
        folded = name[: limits.USER_NAME_CHARS_MAX].casefold()
        counters = (
            (self._by_name, f"{address} {folded}"),
            (self._by_address, address),
            (self._by_name_anywhere, folded),
        )
        self._refuse_if_too_many(counters)
        for counter, key in counters:
            counter.count(key)
        user = await self._store.user_by_name(name)
        if not await self._passwords.matches(user.password_hash if user else None, password) or user is None:
            # What was typed for a name is kept only if it is one: people type passwords there.
            user_id, known = (user.id, user.name) if user else (None, "")
            line = AccessRow(AccessAction.SIGN_IN_FAILED, user_id, known, address, "", self._clock.now())
            await self._store.note_access(line)
            raise Unauthenticated("unknown name or wrong password")
        self._by_name.forget(f"{address} {folded}")
        self._by_address.take_back(address)
        self._by_name_anywhere.take_back(folded)
        return await self._sessions.open(user, address, refreshable=refreshable)

    async def refresh(self, token: str, scope: Mapping[str, Any]) -> RefreshableToken:
        """Exchange a refresh token; see :meth:`Sessions.refresh`."""
        return await self._sessions.refresh(token, address_of(scope))

    async def sign_out(self, caller: Principal, *, everywhere: bool = False) -> int:
        """End the caller's session, or all of them; return how many. Without a token there is none."""
        if not caller.has_token:
            return 0
        told = (caller.session, caller.user_id, caller.name, caller.address)
        return await self._sessions.end(*told, everywhere=everywhere)

    async def note(self, caller: Principal, action: AccessAction, detail: str) -> None:
        """Leave a line in the access log before the thing is done: what cannot be recorded is not done.

        Raises:
            StoreUnavailable: it could not be written.
        """
        line = AccessRow(action, caller.user_id, caller.name, caller.address, detail, self._clock.now())
        await self._store.note_access(line)

    def _refuse_if_too_many(self, counters: Sequence[tuple[AttemptLimiter, str]]) -> None:
        wait_s = max(counter.wait_s(key) for counter, key in counters)
        if wait_s > 0:
            seconds = int(wait_s) + 1
            raise RateLimited(f"too many failed sign-ins; try again in {seconds} s", retry_after_s=seconds)


def bearer_of(scope: Mapping[str, Any]) -> str | None:
    """The token of the ``Authorization`` header; None where there is no such header.

    Raises:
        Unauthenticated: another scheme, or more than one header.
    """
    values: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not values:
        return None
    scheme, _, token = values[0].decode("latin-1").strip().partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Authorization takes one bearer token")
    return token.strip()


async def ensure_admin(store: Store, passwords: Passwords | None = None) -> str | None:
    """Make the first admin, named ``admin``, and return its one-time password; None where one can sign in.

    Raises:
        AlreadyExists: no admin can sign in, yet the name is taken.
    """
    if any(user.role is Role.ADMIN and user.password_hash not in ("", NO_LOGIN) for user in await store.users()):
        return None
    password = one_time_password()
    hashed = await (passwords or Passwords()).hash(password)
    try:
        await store.add_user(FIRST_ADMIN, Role.ADMIN, hashed)
    except AlreadyExists:
        raise AlreadyExists(
            "no admin can sign in and the name 'admin' is taken: run bt user add NAME --admin"
        ) from None
    return password
