"""Where the access token comes from, and when it is renewed (protocol notes, section 6; contract, rule 13).

One owner for one account: a newly minted token ends the old one everywhere. PIN, TOTP secret and tokens appear in no
exception, log line or repr; Dhan wants them in a query string, so the request is kept out of the client's own log too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import httpx
import pyotp
import structlog
from cryptography.fernet import Fernet, InvalidToken

from app.dhan.limits import MINT_INTERVAL_S, TOKEN_LIFE_S
from app.ports.clock import Clock
from app.ports.feed import FeedClosed, Retry

MINT_PATH: Final = "/app/generateAccessToken"
MINT_ATTEMPTS_MAX: Final = 3  # then a person must look: repeated logins get a client blocked
RENEW_BEFORE: Final = timedelta(minutes=30)
BUSY_FROM: Final = time(9, 0)
BUSY_TO: Final = time(23, 55)
QUIET_RENEWAL: Final = time(8, 30)

RENEWAL_RETRY_S: Final = 600.0
LOOK_S: Final = 60.0  # a change that came from elsewhere is noticed so soon
HOPELESS_S: Final = 3600.0  # a minted token refused within this time: minting does not help

_IST_NAME: Final = "Asia/Kolkata"
_SHOWN_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; ``expires_at`` is aware, None where it cannot be known."""

    value: str = field(repr=False)
    expires_at: datetime | None = None


class MintRefused(Exception):
    """No token this time; ``reason`` holds no secret. ``retry_in_s``: earliest next attempt."""

    def __init__(self, reason: str, retry_in_s: float = MINT_INTERVAL_S) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_in_s = retry_in_s


class Minter(Protocol):
    """Makes new tokens. ``mint`` raises :class:`MintRefused`; ``wait_s`` is how long it would do so without trying."""

    @property
    def wait_s(self) -> float: ...
    async def mint(self) -> Token: ...


class TotpMinter:
    """Asks Dhan for a new token with PIN and one-time password, at most once in :data:`MINT_INTERVAL_S`.

    Raises:
        ValueError: ``totp_secret`` is no base32 secret of at least 112 bits.
    """

    def __init__(
        self, client: httpx.AsyncClient, auth_url: str, client_id: str, pin: str, totp_secret: str, clock: Clock
    ) -> None:
        self._client = client
        self._auth_url = auth_url.rstrip("/")
        self._client_id = client_id
        self._pin = pin
        self._totp_secret = totp_secret
        try:
            self._totp = pyotp.TOTP(totp_secret)
        except (binascii.Error, ValueError):
            raise ValueError("DHAN_TOTP_SECRET is not a base32 secret of at least 112 bits") from None
        self._clock = clock
        self._next_attempt_at = 0.0

    def __repr__(self) -> str:
        return f"TotpMinter({self._auth_url!r})"

    @property
    def wait_s(self) -> float:
        """How long until the next attempt is allowed."""
        return max(0.0, self._next_attempt_at - self._clock.monotonic())

    async def mint(self) -> Token:
        """Make a new token; the old one is dead from then on.

        Raises:
            MintRefused: too early, not reached, or Dhan said no.
        """
        if self.wait_s > 0.0:
            raise MintRefused("a token may be asked for once in two minutes", self.wait_s)
        totp = self._totp.at(self._clock.now())
        self._next_attempt_at = self._clock.monotonic() + MINT_INTERVAL_S
        secrets = {"dhanClientId": self._client_id, "pin": self._pin, "totp": totp}
        try:
            with _unlogged(MINT_PATH):
                response = await self._client.post(self._auth_url + MINT_PATH, params=secrets)
        except httpx.HTTPError as error:
            raise MintRefused(f"{type(error).__name__} at {self._auth_url}") from None
        return self._read(response, (self._pin, totp, self._totp_secret))

    def _read(self, response: httpx.Response, secrets: tuple[str, ...]) -> Token:
        try:
            answer = response.json()
        except ValueError:
            raise MintRefused(f"HTTP {response.status_code} without JSON from {self._auth_url}") from None
        if not isinstance(answer, dict):
            raise MintRefused(f"HTTP {response.status_code} with no object from {self._auth_url}")
        value = answer.get("accessToken")
        if response.is_success and isinstance(value, str) and value:  # a refusal is HTTP 200 as well
            return Token(value, self._expiry(answer.get("expiryTime")))
        said = str(answer.get("message") or answer.get("errorMessage") or answer.get("status") or "nothing")
        for secret in secrets:
            said = said.replace(secret, "***")
        raise MintRefused(f"HTTP {response.status_code}: {said[:_SHOWN_CHARS_MAX]}")

    def _expiry(self, text: object) -> datetime:
        """The field is an Indian wall clock without an offset."""
        try:
            told = datetime.fromisoformat(str(text))
        except ValueError:
            return self._clock.now() + timedelta(seconds=TOKEN_LIFE_S)
        return told if told.tzinfo else told.replace(tzinfo=ZoneInfo(_IST_NAME))


class TokenVault:
    """Keeps the newest token over a restart, encrypted: minting is rare and ends everybody's old token."""

    def __init__(self, path: Path, secret_key: bytes) -> None:
        """``secret_key`` is 32 bytes."""
        self._path = path
        self._fernet = Fernet(base64.urlsafe_b64encode(secret_key))

    def load(self) -> Token | None:
        """The stored token; None where there is none or it cannot be read with this key."""
        try:
            stored = json.loads(self._fernet.decrypt(self._path.read_bytes()))
            expires_at = stored["expires_at"]
            return Token(stored["value"], datetime.fromisoformat(expires_at) if expires_at else None)
        except (OSError, InvalidToken, ValueError, KeyError, TypeError):
            return None

    def save(self, token: Token) -> None:
        """Replace the stored token at once and whole."""
        content = {"value": token.value, "expires_at": token.expires_at.isoformat() if token.expires_at else None}
        part = self._path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_bytes(self._fernet.encrypt(json.dumps(content).encode()))
        part.replace(self._path)


class TokenSource:
    """OWNS the account's token.

    ``on_new`` is called with every token that replaces another: the place to store it and to wake the pool.
    """

    def __init__(
        self,
        client_id: str,
        clock: Clock,
        *,
        token: Token | None = None,
        minter: Minter | None = None,
        on_new: Callable[[Token], None] = lambda token: None,
    ) -> None:
        self.client_id = client_id
        self._clock = clock
        self._token = token
        self._minter = minter
        self._on_new = on_new
        self._is_refused = False
        self._is_mendable = False  # refused, and a new one may help
        self._minted_at: float | None = None
        self._minting = asyncio.Lock()
        self._log = structlog.get_logger("credentials")

    def __repr__(self) -> str:
        return f"TokenSource({self._state()})"

    @property
    def expires_at(self) -> datetime | None:
        """When the present token ends; None without one, or where it does not say."""
        return self._token.expires_at if self._token else None

    @property
    def is_waiting(self) -> bool:
        """No usable token: a person, or the next mint, must bring one."""
        return self._usable() is None

    async def token(self) -> str:
        """The present token; the first one is minted here.

        Raises:
            FeedClosed: it was refused or has expired, or minting failed.
        """
        if self._token is None and self._minter is not None:
            async with self._minting:
                if self._token is None:
                    await self._first(self._minter)
        usable = self._usable()
        if usable is None:
            raise FeedClosed(f"access token {self._state()}", retry=Retry.NEW_TOKEN)
        return usable.value

    def refused(self, token: str) -> None:
        """The exchange does not take ``token``; nothing happens if another has replaced it meanwhile."""
        if self._token is not None and self._token.value == token and not self._is_refused:
            self._is_refused = True
            is_old = self._minted_at is None or self._clock.monotonic() - self._minted_at > HOPELESS_S
            self._is_mendable = is_old and self._minter is not None
            self._log.warning("credentials.refused", can_mint=self._minter is not None)

    def invalidate(self) -> None:
        """Do not use the present token again."""
        if self._token is not None:
            self.refused(self._token.value)

    def replace(self, token: Token) -> None:
        """Use a new credential from now on."""
        self._token, self._is_refused, self._is_mendable = token, False, False
        self._log.info("credentials.new", expires_at=token.expires_at.isoformat() if token.expires_at else None)
        self._on_new(token)

    async def renew(self) -> bool:
        """See to a usable token after a refusal, by minting one; False if there is none to be had.

        The caller decides how often: once (contract, rule 13).
        """
        async with self._minting:
            return self._usable() is not None or await self._mint()

    async def run(self) -> None:
        """Renew ahead of the token's end, until cancelled. Without a minter there is nothing to do.

        A mint that failed is tried again later. A token that was minted and soon refused is left until its end: minting
        does not help, a person must look.
        """
        while self._minter is not None:
            token, due = self._token, self._next_renewal()
            while self._token is token and not self._is_mendable and self._seconds_to(due) > 0.0:
                step_s = min(self._seconds_to(due), LOOK_S)  # short: a machine that slept must not oversleep
                await asyncio.sleep(step_s)
            async with self._minting:
                is_done = self._token is not token or token is None or await self._mint()
            if not is_done:
                await asyncio.sleep(RENEWAL_RETRY_S)

    async def _mint(self) -> bool:
        if self._minter is None:
            return False
        for _ in range(MINT_ATTEMPTS_MAX):
            await asyncio.sleep(self._minter.wait_s)
            try:
                token = await self._minter.mint()
            except MintRefused as refused:
                self._log.warning("credentials.mint_refused", reason=refused.reason)
            else:
                self._take_minted(token)
                return True
        return False

    def _take_minted(self, token: Token) -> None:
        self._minted_at = self._clock.monotonic()
        self.replace(token)

    def _seconds_to(self, moment: datetime) -> float:
        return (moment - self._clock.now()).total_seconds()

    def _next_renewal(self) -> datetime:
        now = self._clock.now()
        if self._token is None:
            return now + timedelta(seconds=LOOK_S)  # the first one is made by whoever asks for it
        return next_renewal(self._token.expires_at or now + timedelta(seconds=TOKEN_LIFE_S), now)

    async def _first(self, minter: Minter) -> None:
        try:
            self._take_minted(await minter.mint())
        except MintRefused as refused:
            raise FeedClosed(f"no access token: {refused.reason}", min_delay_s=refused.retry_in_s) from None

    def _usable(self) -> Token | None:
        token = self._token
        if token is None or self._is_refused:
            return None
        return None if token.expires_at is not None and token.expires_at <= self._clock.now() else token

    def _state(self) -> str:
        if self._token is None:
            return "missing"
        if self._is_refused:
            return "refused; waiting for a new one"
        return "in use" if self._usable() else "expired; waiting for a new one"


def next_renewal(expires_at: datetime, now: datetime) -> datetime:
    """When to mint the successor: half an hour before the end, or that morning at 08:30 if the end falls into
    trading hours and 08:30 is still to come, because a new token may cut the sockets that live on the old one."""
    zone = ZoneInfo(_IST_NAME)
    latest = (expires_at - RENEW_BEFORE).astimezone(zone)
    if BUSY_FROM <= latest.time() <= BUSY_TO:
        morning = datetime.combine(latest.date(), QUIET_RENEWAL, zone)
        if morning > now:
            return morning
    return latest


def static_token(value: str) -> Token:
    """A token that somebody pasted. Its end is read from the JWT, unverified; None where it is not one."""
    try:
        payload = value.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return Token(value, datetime.fromtimestamp(claims["exp"], UTC))
    except (IndexError, ValueError, KeyError, TypeError, OverflowError, OSError):
        return Token(value)


@contextmanager
def _unlogged(path: str) -> Iterator[None]:
    """Keep requests to ``path`` out of the client's log, which writes whole URLs."""

    def is_another(record: logging.LogRecord) -> bool:
        return path not in record.getMessage()

    log = logging.getLogger("httpx")
    log.addFilter(is_another)
    try:
        yield
    finally:
        log.removeFilter(is_another)
