"""The tokens of a session: signed, never stored. An access token opens the API, a refresh token gets the next pair.

The two are signed with different keys, so that neither passes for the other. A refresh token is the same text for the
same session and generation: an answer lost on the way can be given again.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt

from app.core.errors import Unauthenticated
from app.ports.access import SessionRow
from app.ports.clock import Clock
from app.rest import limits

_ALGORITHM = "HS256"
_ISSUER = "broking-terminal"
_CLOCK_SLACK_S = 30


class TokenKind(StrEnum):
    ACCESS = "access token v2"
    REFRESH = "refresh token v1"


@dataclass(frozen=True, slots=True)
class Claims:
    session: str
    user_id: int
    generation: int
    expires_s: int


class TokenSigner:
    """Signs and reads tokens; the keys are derived from the service's secret."""

    def __init__(self, secret_key: str, clock: Clock) -> None:
        secret = secret_key.encode()
        self._clock = clock
        self._keys = {
            kind: hmac.new(secret, f"broking-terminal {kind}".encode(), hashlib.sha256).digest() for kind in TokenKind
        }

    def access(self, session: SessionRow, expires_s: int) -> str:
        """``expires_s`` is epoch seconds."""
        claims = {"iat": self._now_s(), "exp": expires_s, "gen": session.generation}
        return self._signed(TokenKind.ACCESS, session, claims)

    def refresh(self, session: SessionRow) -> str:
        """The one refresh token of the session's present generation."""
        claims = {
            "iat": int(session.created_at.timestamp()),
            "exp": int(session.expires_at.timestamp()),
            "gen": session.generation,
        }
        return self._signed(TokenKind.REFRESH, session, claims)

    def read(self, kind: TokenKind, token: str) -> Claims:
        """Raises ``Unauthenticated`` for what is forged, of the other kind, or past its end."""
        if len(token) > limits.BEARER_CHARS_MAX:
            raise Unauthenticated("this token does not hold")
        try:
            # Times are judged below, on the service's own clock, which BT_SIM_DATE may have moved.
            options: Any = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub", "iss"]}
            raw = jwt.decode(token, self._keys[kind], algorithms=[_ALGORITHM], issuer=_ISSUER, options=options)
            claims = Claims(str(raw["sid"]), int(raw["sub"]), int(raw["gen"]), int(raw["exp"]))
            issued_s = int(raw["iat"])
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, OverflowError):
            raise Unauthenticated("this token does not hold") from None
        if claims.expires_s <= self._now_s():
            raise Unauthenticated("this token has expired; sign in again")
        if issued_s > self._now_s() + _CLOCK_SLACK_S:
            raise Unauthenticated("this token is of a later day than the service's clock")
        return claims

    def _signed(self, kind: TokenKind, session: SessionRow, claims: dict[str, int]) -> str:
        whole = {"iss": _ISSUER, "sub": str(session.user_id), "sid": session.handle, **claims}
        return jwt.encode(whole, self._keys[kind], _ALGORITHM)

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000
