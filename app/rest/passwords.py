"""argon2id, off the loop: one hash takes about 150 ms and 64 MiB, which would stall every tick."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from app.core.errors import InvalidRequest, RateLimited
from app.rest import limits

T = TypeVar("T")

NO_LOGIN = "!"  # in place of a hash: this account cannot sign in


class Passwords:
    """Hashes and verifies; at most a few at once, so that sign-ins never take the machine's memory."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = asyncio.Semaphore(limits.HASHES_AT_ONCE)
        self._waiting = 0
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """The argon2id string of a new password.

        Raises:
            InvalidRequest: too short or too long.
        """
        check_length(password)
        return await self._in_thread(self._hasher.hash, password)

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether the password belongs to the stored hash. Takes as long where there is no such hash."""
        if self._decoy is None:
            self._decoy = await self._in_thread(self._hasher.hash, secrets.token_urlsafe(16))
        usable = stored if stored and stored != NO_LOGIN else None
        fits = await self._in_thread(self._verify, usable or self._decoy, password[: limits.PASSWORD_CHARS_MAX + 1])
        return fits and usable is not None

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= limits.HASHES_WAITING_MAX:
            raise RateLimited("too many sign-ins at once; try again shortly", retry_after_s=2)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *args)
        finally:
            self._waiting -= 1


def check_length(password: str) -> None:
    """Raises ``InvalidRequest`` for a password that is too short or too long."""
    if not limits.PASSWORD_CHARS_MIN <= len(password) <= limits.PASSWORD_CHARS_MAX:
        raise InvalidRequest(f"a password has {limits.PASSWORD_CHARS_MIN} to {limits.PASSWORD_CHARS_MAX} characters")


def one_time_password() -> str:
    """96 random bits, readable aloud."""
    return "-".join(secrets.token_hex(3) for _ in range(4))
