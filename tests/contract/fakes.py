"""What the contract suites build their rows from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from app.core.ids import InstrumentKey, OptionType, Segment, Tier
from app.ports.store import (
    DEFAULT_LIST,
    AtmRow,
    AuditAction,
    AuditRow,
    EntryRow,
    InstrumentType,
    LegRow,
)

NOON = datetime(2026, 2, 3, 12, 0, 0, 123456, tzinfo=UTC)
EXPIRY = date(2026, 2, 26)


@dataclass(slots=True)
class SetClock:
    """A clock that moves when told."""

    at: datetime = NOON

    def now(self) -> datetime:
        return self.at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def monotonic(self) -> float:
        return self.at.timestamp()

    def advance(self, **by: float) -> None:
        self.at += timedelta(**by)


def entry(symbol: str = "RELIANCE", **changed: Any) -> EntryRow:
    values: dict[str, Any] = {
        "id": 0,
        "user_id": 1,
        "list_name": DEFAULT_LIST,
        "symbol": symbol,
        "exchange": "NSE",
        "expiry": EXPIRY,
        "instrument_type": InstrumentType.STOCK_OPTION,
        "added_at": NOON,
        "added_order": 1,
        "last_used_at": NOON,
        "centre": 2640.0,
    }
    return EntryRow(**values | changed)


def leg(strike: float | None = 2640.0, **changed: Any) -> LegRow:
    values: dict[str, Any] = {
        "token": f"RELIANCE_26FEB2026_{strike}CE",
        "key": InstrumentKey(Segment.NSE_FNO, 47317),
        "symbol": "RELIANCE",
        "expiry": EXPIRY,
        "strike": strike,
        "option_type": OptionType.CE,
        "tier": Tier.A,
        "subscribed_at": NOON,
        "ws_id": 3,
    }
    return LegRow(**values | changed)


def atm(symbol: str = "RELIANCE", **changed: Any) -> AtmRow:
    values: dict[str, Any] = {
        "underlying_symbol": symbol,
        "exchange": "NSE",
        "expiry": EXPIRY,
        "current_ltp": 2641.5,
        "atm_strike": 2640.0,
        "strike_step": 20.0,
        "cached_at": NOON,
        "strikes": (2620.0, 2640.0, 2660.0, 238.75),
    }
    return AtmRow(**values | changed)


def line(token: str = "RELIANCE_EQ", **changed: Any) -> AuditRow:
    values: dict[str, Any] = {
        "action": AuditAction.SUBSCRIBE,
        "instrument_token": token,
        "reason": "added by user 1",
        "timestamp": NOON,
    }
    return AuditRow(**values | changed)
