"""Who is calling: access tokens, sign-in, roles, own objects only (contract, sections 2 and 4)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from app.core.errors import AlreadyExists, Forbidden, RateLimited, Unauthenticated
from app.ports.clock import Clock
from app.ports.store import Role, Store, UserRow
from app.rest import limits
from app.rest.origin import address_of, is_local, is_same_site
from app.rest.passwords import NO_LOGIN, Passwords, one_time_password
from app.rest.throttle import AttemptLimiter

AuthMode = Literal["auto", "required", "off"]

LOCAL_USER_ID = 1
FIRST_ADMIN = "admin"
_ALGORITHM = "HS256"
_ISSUER = "broking-terminal"
_CLOCK_SLACK_S = 30


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. ``expires_ms`` is when the token behind it ends, epoch ms UTC; None without a token."""

    user_id: int
    role: Role
    name: str
    expires_ms: int | None = None

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


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The answer of a sign-in; field names as OAuth2 has them."""

    access_token: str
    token_type: str
    expires_in: int
    user_id: int


class Authenticator:
    """Judges requests, issues and checks tokens. Holds no state but the counts of failed sign-ins."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        secret_key: str,
        mode: AuthMode = "auto",
        *,
        own_hosts: Collection[str] = (),
        passwords: Passwords | None = None,
        token_life_s: int = limits.TOKEN_LIFE_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._mode = mode
        self._own_hosts = frozenset(own_hosts)
        self._passwords = passwords or Passwords()
        self._token_life_s = token_life_s
        self._key = hmac.new(secret_key.encode(), b"broking-terminal access token v1", hashlib.sha256).digest()
        window_s, keys_max = limits.FAILURE_WINDOW_S, limits.FAILURE_KEYS_MAX
        self._by_name = AttemptLimiter(clock, limits.FAILURES_PER_NAME_MAX, window_s, keys_max)
        self._by_address = AttemptLimiter(clock, limits.FAILURES_PER_ADDRESS_MAX, window_s, keys_max)

    @property
    def mode(self) -> AuthMode:
        return self._mode

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

    def anonymous(self) -> Principal:
        """The caller where no token is needed: rights of an admin, any user id."""
        return Principal(LOCAL_USER_ID, Role.ADMIN, "local")

    async def principal_of(self, scope: Mapping[str, Any]) -> Principal:
        """The caller behind an ASGI scope, by its ``Authorization`` header or by not needing one.

        Raises:
            Unauthenticated: a token is needed and missing, or one was shown that does not hold.
        """
        token = bearer_of(scope)
        if token is not None:
            return await self.authenticate(token)
        if self.requires_token(scope):
            raise Unauthenticated("this needs a bearer token; POST /api/v2/auth/token gives one")
        return self.anonymous()

    async def authenticate(self, token: str) -> Principal:
        """The user that a token was issued to, as the store knows it now.

        Raises:
            Unauthenticated: forged, expired, revoked, or of a user who is gone.
        """
        claims = self._claims_of(token)
        user = await self._store.user_by_id(claims.user_id)
        if user is None or user.token_version != claims.version:
            raise Unauthenticated("this token was revoked")
        return Principal(user.id, user.role, user.name, claims.expires_s * 1000)

    async def sign_in(self, name: str, password: str, scope: Mapping[str, Any]) -> AccessToken:
        """Check a name and a password and issue a token.

        Raises:
            Unauthenticated: they do not belong together; which of the two is wrong is not told.
            RateLimited: too many failures of this name from this address, or of this address.
        """
        address = address_of(scope)
        by_name = f"{address} {name[: limits.USER_NAME_CHARS_MAX].casefold()}"
        self._refuse_if_too_many(by_name, address)
        self._by_name.count(by_name)
        self._by_address.count(address)
        user = await self._store.user_by_name(name)
        if not await self._passwords.matches(user.password_hash if user else None, password) or user is None:
            raise Unauthenticated("unknown name or wrong password")
        self._by_name.forget(by_name)
        self._by_address.take_back(address)
        return self.issue(user)

    def issue(self, user: UserRow) -> AccessToken:
        """A signed token for a user whose identity is proved."""
        now_s = self._clock.now_ms() // 1000
        claims = {
            "iss": _ISSUER,
            "sub": str(user.id),
            "ver": user.token_version,
            "iat": now_s,
            "exp": now_s + self._token_life_s,
        }
        return AccessToken(jwt.encode(claims, self._key, _ALGORITHM), "bearer", self._token_life_s, user.id)

    def _refuse_if_too_many(self, by_name: str, address: str) -> None:
        wait_s = max(self._by_name.wait_s(by_name), self._by_address.wait_s(address))
        if wait_s > 0:
            seconds = int(wait_s) + 1
            raise RateLimited(f"too many failed sign-ins; try again in {seconds} s", retry_after_s=seconds)

    def _claims_of(self, token: str) -> _Claims:
        if len(token) > limits.BEARER_CHARS_MAX:
            raise Unauthenticated("this token does not hold")
        try:
            # Times are judged below, on the service's own clock, which BT_SIM_DATE may have moved.
            options: Any = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub", "iss"]}
            raw = jwt.decode(token, self._key, algorithms=[_ALGORITHM], issuer=_ISSUER, options=options)
            claims = _Claims(int(raw["sub"]), int(raw["ver"]), int(raw["iat"]), int(raw["exp"]))
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError):
            raise Unauthenticated("this token does not hold") from None
        now_s = self._clock.now_ms() // 1000
        if claims.expires_s <= now_s:
            raise Unauthenticated("this token has expired; sign in again")
        if claims.issued_s > now_s + _CLOCK_SLACK_S:
            raise Unauthenticated("this token is of a later day than the service's clock")
        return claims


@dataclass(frozen=True, slots=True)
class _Claims:
    user_id: int
    version: int
    issued_s: int
    expires_s: int


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
