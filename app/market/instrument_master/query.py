"""What a free-text search means: words of a name, and the contract that the rest describes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

from app.core.ids import MONTHS, OptionType, parse_expiry

_STRIKE = re.compile(r"(\d+(?:\.\d+)?)(CE|PE|C|P)?", re.ASCII)
_DAY_MONTH = re.compile(r"(\d{1,2})?-?([A-Z]{3,9})-?(\d{2}|\d{4})?", re.ASCII)
_CALLS, _PUTS = {"CE", "CALL", "CALLS", "C"}, {"PE", "PUT", "PUTS", "P"}
_FUTURES = {"FUT", "FUTS", "FUTURE", "FUTURES"}
_MONTH_NAMES = (
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
)


@dataclass(slots=True)
class Contract:
    """The part of a query that narrows a symbol down; ``rest`` are words that mean nothing here."""

    strike: float | None = None
    option_type: OptionType | None = None
    is_future: bool = False
    day: int | None = None
    month: int | None = None
    year: int | None = None
    rest: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return self.strike is None and self.option_type is None and not self.is_future and self.month is None

    def allows(self, expiry: date) -> bool:
        """Whether an expiry fits what was said of it."""
        return (
            self.month in (None, expiry.month)
            and self.day in (None, expiry.day)
            and self.year in (None, expiry.year, expiry.year - 2000)
        )


def read_contract(words: list[str]) -> Contract:
    """Read upper-case words such as ``25000 CE``, ``26 FEB 2640 PE``, ``NOV FUT``, ``26FEB2026``."""
    contract = Contract()
    place = 0
    while place < len(words):
        place += _take(words, place, contract)
    return contract


def _take(words: list[str], place: int, contract: Contract) -> int:
    """Read one thing at ``place`` and say how many words it took."""
    word = words[place]
    if word in _CALLS:
        contract.option_type = OptionType.CE
    elif word in _PUTS:
        contract.option_type = OptionType.PE
    elif word in _FUTURES:
        contract.is_future = True
    elif taken := _take_expiry(words, place, contract):
        return taken
    elif (match := _STRIKE.fullmatch(word)) and contract.strike is None:
        contract.strike = float(match[1])
        if match[2]:
            contract.option_type = OptionType(f"{match[2][0]}E")
    else:
        contract.rest.append(word)
    return 1


def _take_expiry(words: list[str], place: int, contract: Contract) -> int:
    try:
        expiry = parse_expiry(words[place])
    except ValueError:
        pass
    else:
        contract.day, contract.month, contract.year = expiry.day, expiry.month, expiry.year
        return 1
    following = words[place + 1] if place + 1 < len(words) else ""
    if words[place].isdecimal() and len(words[place]) <= 2 and _month(following):
        contract.day, contract.month = int(words[place]), _month(following)
        return 2 + _take_year(words, place + 2, contract)
    match = _DAY_MONTH.fullmatch(words[place])
    if match and _month(match[2]):
        contract.month = _month(match[2])
        contract.day = int(match[1]) if match[1] else None
        contract.year = int(match[3]) if match[3] else None
        return 1 + (0 if match[3] else _take_year(words, place + 1, contract))
    return 0


def _take_year(words: list[str], place: int, contract: Contract) -> int:
    if place < len(words) and re.fullmatch(r"20[2-4]\d", words[place]) and place + 1 < len(words):
        contract.year = int(words[place])
        return 1
    return 0


def _month(word: str) -> int | None:
    if len(word) < 3 or word[:3] not in MONTHS:
        return None
    month = MONTHS.index(word[:3])
    return month + 1 if _MONTH_NAMES[month].startswith(word) or word == "SEPT" else None
