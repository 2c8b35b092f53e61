"""The grammar of tokens, read (contract, section 3). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from app.core.ids import Exchange, InstrumentKind, OptionType, parse_expiry

_OPTION = re.compile(r"(.+)_([^_]+)_(\d+(?:\.\d+)?)(CE|PE)", re.ASCII)
_FUTURE = re.compile(r"(.+?)(?:_([^_]*\d[^_]*))?_FUT", re.ASCII)
_SPOT = re.compile(r"(.+)_(EQ|IDX)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenParts:
    """What a token says. A future without expiry is the alias of the nearest one."""

    symbol: str
    kind: InstrumentKind
    exchange: Exchange | None = None
    expiry: date | None = None
    strike: float | None = None
    option_type: OptionType | None = None


def parse_token(text: str) -> TokenParts:
    """Read a token; case and outer blanks do not matter.

    Raises:
        ValueError: not of any of the forms.
    """
    cleaned = text.strip().upper()
    prefix, separator, rest = cleaned.partition(":")
    if separator and prefix not in Exchange.__members__:
        raise ValueError(f"not a token: {text!r}")
    exchange = Exchange[prefix] if separator else None
    name = rest if separator else cleaned
    if match := _OPTION.fullmatch(name):
        expiry, strike = parse_expiry(match[2]), float(match[3])
        return TokenParts(match[1], InstrumentKind.OPTION, exchange, expiry, strike, OptionType(match[4]))
    if match := _FUTURE.fullmatch(name):
        expiry_text = match[2]
        return TokenParts(match[1], InstrumentKind.FUTURE, exchange, parse_expiry(expiry_text) if expiry_text else None)
    if match := _SPOT.fullmatch(name):
        kind = InstrumentKind.EQUITY if match[2] == "EQ" else InstrumentKind.INDEX
        return TokenParts(match[1], kind, exchange)
    raise ValueError(f"not a token: {text!r}")
