"""PURE: what the use cases answer, in the words of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from app.core.ids import format_expiry
from app.ports.store import DEFAULT_LIST

if TYPE_CHECKING:
    from datetime import date, tzinfo

    from app.core.instruments import Instrument
    from app.market.entries import EntryView, EvictedChain, MissingLeg
    from app.market.named_lists import ListView


def expiry_text(day: date | None) -> str | None:
    return None if day is None else format_expiry(day)


def missing_record(leg: MissingLeg) -> dict[str, object]:
    return {"strike": leg.strike, "option_type": leg.option_type, "reason": leg.reason}


def evicted_records(chains: Iterable[EvictedChain]) -> list[dict[str, object]]:
    return [
        {"symbol": each.symbol, "expiry": expiry_text(each.expiry), "legs": each.legs, "owner": each.owner}
        for each in chains
    ]


def entry_record(entry: EntryView, zone: tzinfo) -> dict[str, object]:
    """A row of endpoint 3. ``state_at`` and ``state_reason`` say since when and why it is not ACTIVE."""
    return {
        "id": entry.id,
        "list": entry.list_name,
        "position": entry.position,
        "symbol": entry.symbol,
        "exchange": entry.exchange,
        "expiry_date": expiry_text(entry.expiry),
        "instrument_type": entry.instrument_type,
        "added_at": entry.added_at.astimezone(zone),
        "added_order": entry.added_order,
        "last_used_at": entry.last_used_at.astimezone(zone),
        "state": entry.state,
        "state_at": None if entry.state_at is None else entry.state_at.astimezone(zone),
        "state_reason": entry.state_reason,
        "legs": len(entry.legs),
        "missing": [missing_record(leg) for leg in entry.missing],
    }


def list_record(each: ListView) -> dict[str, object]:
    return {
        "name": each.name,
        "position": each.position,
        "count": each.count,
        "evicted": each.evicted,
        "is_default": each.name == DEFAULT_LIST,
    }


def tokens(instruments: Sequence[Instrument]) -> list[str]:
    return [each.token for each in instruments]
