"""Identities of instruments: segments, wire keys, tokens and expiries.

Facts: dhan-protocol notes, sections 1.2, 1.5 and 4.2; the token grammar is section 3 of the contract.
"""

from __future__ import annotations

import re
from datetime import date
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import NamedTuple


class Segment(IntEnum):
    """Exchange segment as in byte 3 of the packet header; 6 is unassigned."""

    IDX_I = 0
    NSE_EQ = 1
    NSE_FNO = 2
    NSE_CURRENCY = 3
    BSE_EQ = 4
    MCX_COMM = 5
    BSE_CURRENCY = 7
    BSE_FNO = 8


class Exchange(StrEnum):
    """Exchanges in the order in which an unqualified name is looked up."""

    NSE = "NSE"
    BSE = "BSE"
    MCX = "MCX"


class Mode(IntEnum):
    """What an instrument is subscribed as; the value is the subscribe request code."""

    TICKER = 15
    QUOTE = 17
    FULL = 21

    @property
    def unsubscribe_code(self) -> int:
        return self.value + 1


class InstrumentKind(StrEnum):
    """What an instrument is, whatever its exchange calls it."""

    INDEX = "INDEX"
    EQUITY = "EQUITY"
    FUTURE = "FUTURE"
    OPTION = "OPTION"


class OptionType(StrEnum):
    CE = "CE"
    PE = "PE"


class Tier(StrEnum):
    """A: on demand, evictable. B: always on, never evicted."""

    A = "TIER_A"
    B = "TIER_B"


class InstrumentKey(NamedTuple):
    """Wire identity. The id alone is not unique: ids repeat across segments."""

    segment: Segment
    security_id: int

    def __str__(self) -> str:
        return f"{self.segment.name}:{self.security_id}"

    @property
    def packed(self) -> int:
        """The key as one integer, ``segment << 32 | security_id``: the slot table's key."""
        return (self.segment << 32) | self.security_id


def parse_key(text: str) -> InstrumentKey:
    """Read ``NSE_FNO:47317``.

    Raises:
        ValueError: not of that form, or an unknown segment.
    """
    name, separator, number = text.partition(":")
    if not separator or name not in Segment.__members__ or not (number.isascii() and number.isdecimal()):
        raise ValueError(f"not an instrument key: {text!r}")
    return InstrumentKey(Segment[name], int(number))


MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_EXPIRY_DMY = re.compile(r"(\d{1,2})-?([A-Z]{3})-?(\d{4})", re.ASCII)
_EXPIRY_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)


def parse_expiry(text: str) -> date:
    """Read ``26FEB2026``, ``26-FEB-2026`` or ``2026-02-26``; case and outer blanks do not matter.

    Raises:
        ValueError: none of these forms, or no such day.
    """
    cleaned = text.strip().upper()
    if match := _EXPIRY_ISO.fullmatch(cleaned):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
    elif (match := _EXPIRY_DMY.fullmatch(cleaned)) and match[2] in MONTHS:
        year, month, day = int(match[3]), MONTHS.index(match[2]) + 1, int(match[1])
    else:
        raise ValueError(f"not an expiry: {text!r}; write 26FEB2026, 26-FEB-2026 or 2026-02-26")
    try:
        return date(year, month, day)
    except ValueError:
        raise ValueError(f"not an expiry: {text!r}; there is no such day") from None


@lru_cache(maxsize=1_024)  # written with every row of every listing, and there are some dozens of days
def format_expiry(day: date) -> str:
    """Write ``26FEB2026``."""
    return f"{day.day:02d}{MONTHS[day.month - 1]}{day.year:04d}"


def format_strike(strike: float) -> str:
    """Write a strike without trailing zeros and never rounded: ``2640``, ``238.75``."""
    return f"{strike:.4f}".rstrip("0").rstrip(".")
