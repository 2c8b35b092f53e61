"""Names of what a client may watch: parsed, written back, and where their updates travel. Pure.

Contract, section 7: ``chain:NIFTY:26FEB2026`` (or ``chain:BSE:RELIANCE:26FEB2026`` to ask for another exchange than the
symbol's own), ``quotes:NIFTY_IDX,RELIANCE_EQ``, ``watchlist:1`` (all lists of user 1; ``watchlist:1:swing`` for the one
of that name), ``depth:RELIANCE_EQ``, ``status``, ``events``.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from app.core.errors import TerminalError
from app.core.ids import Exchange, format_expiry, parse_expiry

TOPIC_LENGTH_MAX = 32_768
TOKENS_MAX = 1_000
LIST_NAME_CHARS_MAX = 64
RATES_HZ = (10, 5, 2, 1)
DEFAULT_HZ = 5
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class TopicInvalid(TerminalError):
    code = "TOPIC_INVALID"
    http_status = 422


class RateInvalid(TerminalError):
    code = "RATE_INVALID"
    http_status = 422


class Kind(StrEnum):
    CHAIN = "chain"
    QUOTES = "quotes"
    WATCHLIST = "watchlist"
    DEPTH = "depth"
    STATUS = "status"
    EVENTS = "events"


class Format(StrEnum):
    """How data is written. Depth and status are JSON in either."""

    JSON = "json"
    BINARY = "bin"


@dataclass(frozen=True, slots=True)
class Topic:
    """A parsed topic. ``name`` is its one spelling; only the fields of its kind are set."""

    kind: Kind
    name: str
    symbol: str = ""
    expiry: date | None = None
    exchange: Exchange | None = None
    tokens: tuple[str, ...] = ()
    user_id: int = 0
    list_name: str | None = None

    @property
    def has_rows(self) -> bool:
        return self.kind in (Kind.CHAIN, Kind.QUOTES, Kind.WATCHLIST)


class StreamKey(NamedTuple):
    """One encoded sequence: a topic at a rate in a format."""

    topic: str
    hz: int
    format: Format

    @property
    def subject(self) -> str:
        """Bus subject: readable for people, exact through the digest, safe for every bus."""
        digest = hashlib.blake2s(self.topic.encode(), digest_size=8).hexdigest()
        kind, _, rest = self.topic.partition(":")
        head = _UNSAFE.sub("_", rest.split(":")[0].split(",")[0])[:24] if kind == Kind.CHAIN else ""
        return f"ticks.{head or kind}.{digest}.{self.hz}.{self.format}"


def parse_topic(text: object) -> Topic:
    """Read a topic.

    Raises:
        TopicInvalid: says what is wrong with it.
    """
    if not isinstance(text, str):
        raise TopicInvalid("a topic is a text")
    if len(text) > TOPIC_LENGTH_MAX:
        raise TopicInvalid(f"a topic has at most {TOPIC_LENGTH_MAX} characters")
    name, _, rest = text.strip().partition(":")
    match name:
        case Kind.CHAIN:
            return _parse_chain(rest)
        case Kind.QUOTES:
            return _parse_quotes(rest)
        case Kind.DEPTH:
            token = _token(rest)
            return Topic(Kind.DEPTH, f"depth:{token}", tokens=(token,))
        case Kind.WATCHLIST:
            return _parse_watchlist(rest)
        case Kind.STATUS | Kind.EVENTS if not rest:
            return Topic(Kind(name), name)
    kinds = ", ".join(kind.value for kind in Kind)
    raise TopicInvalid(f"{_shown(text)} is no topic; they begin with {kinds}")


def _parse_chain(rest: str) -> Topic:
    parts = [part.strip() for part in rest.split(":")]
    exchange: Exchange | None = None
    if len(parts) == 3:
        name = parts.pop(0).upper()
        if name not in Exchange.__members__:
            raise TopicInvalid(f"{_shown(name)} is no exchange; write one of {', '.join(Exchange)}")
        exchange = Exchange[name]
    if len(parts) != 2 or not parts[0]:
        raise TopicInvalid("write chain:SYMBOL:EXPIRY, as in chain:NIFTY:26FEB2026")
    symbol = _token(parts[0])
    try:
        expiry = parse_expiry(parts[1])
    except ValueError as bad:
        raise TopicInvalid(str(bad)[:200]) from None
    return chain_topic(symbol, expiry, exchange)


def chain_topic(symbol: str, expiry: date, exchange: Exchange | None = None) -> Topic:
    """The topic of a chain; without an exchange it is the symbol's own."""
    prefix = f"{exchange}:" if exchange else ""
    name = f"chain:{prefix}{symbol}:{format_expiry(expiry)}"
    return Topic(Kind.CHAIN, name, symbol=symbol, expiry=expiry, exchange=exchange)


def quotes_topic(tokens: tuple[str, ...]) -> Topic:
    return Topic(Kind.QUOTES, f"quotes:{','.join(tokens)}", tokens=tokens)


def _parse_quotes(rest: str) -> Topic:
    tokens = tuple(dict.fromkeys(_token(part) for part in rest.split(",")))
    if len(tokens) > TOKENS_MAX:
        raise TopicInvalid(f"a quotes topic has at most {TOKENS_MAX} tokens, not {len(tokens)}")
    return quotes_topic(tokens)


def _parse_watchlist(rest: str) -> Topic:
    user, colon, list_name = (part.strip() for part in rest.partition(":"))
    if not _NUMBER.fullmatch(user):
        raise TopicInvalid("write watchlist:USER with a positive number, or watchlist:USER:LIST")
    name = f"watchlist:{int(user)}"
    if not colon:
        return Topic(Kind.WATCHLIST, name, user_id=int(user))
    if not 0 < len(list_name) <= LIST_NAME_CHARS_MAX or not list_name.isprintable():
        raise TopicInvalid(f"a list's name has 1 to {LIST_NAME_CHARS_MAX} printable characters")
    return Topic(Kind.WATCHLIST, f"{name}:{list_name}", user_id=int(user), list_name=list_name)


def _token(text: str) -> str:
    token = text.strip().upper()
    if not token:
        raise TopicInvalid("a token is missing")
    if not token.isprintable():
        raise TopicInvalid("a token has printable characters only")
    return token


def _shown(text: str) -> str:
    return repr(text[:60])


def rate_class(max_rate_hz: object) -> int:
    """The fastest offered rate that is not above ``max_rate_hz``; None means the default, below 1 Hz is 1 Hz.

    Raises:
        RateInvalid: not a positive number.
    """
    if max_rate_hz is None:
        return DEFAULT_HZ
    if isinstance(max_rate_hz, bool) or not isinstance(max_rate_hz, int | float):
        raise RateInvalid("max_rate_hz is a number")
    if not math.isfinite(max_rate_hz) or max_rate_hz <= 0:
        raise RateInvalid("max_rate_hz is above zero")
    return next((hz for hz in RATES_HZ if hz <= max_rate_hz), RATES_HZ[-1])
