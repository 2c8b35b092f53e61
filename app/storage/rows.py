"""Between the records of the port and the columns of the tables. Pure."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from app.core.ids import InstrumentKey, OptionType, Segment, Tier
from app.ports.store import (
    AtmRow,
    AuditAction,
    AuditRow,
    EntryRow,
    EntryState,
    InstrumentType,
    LegRow,
    ListRow,
    Role,
    UserRow,
)

Values = dict[str, Any]  # column name -> value, as the driver's edge takes it
Found = Row[*tuple[Any, ...]]

_SEGMENTS = {int(segment): segment for segment in Segment}
_OPTION_TYPES: dict[str | None, OptionType | None] = {None: None, **{kind.value: kind for kind in OptionType}}
_TIERS = {tier.value: tier for tier in Tier}


def entry_values(entry: EntryRow) -> Values:
    return {
        "user_id": entry.user_id,
        "list_name": entry.list_name,
        "symbol": entry.symbol,
        "exchange": entry.exchange,
        "expiry_date": entry.expiry,
        "instrument_type": entry.instrument_type.value,
        "added_at": entry.added_at,
        "added_order": entry.added_order,
        "last_used_at": entry.last_used_at,
        "centre": entry.centre,
        "state": entry.state.value,
        "state_at": entry.state_at,
        "state_reason": entry.state_reason,
        "position": entry.position,
    }


def to_entry(row: Found) -> EntryRow:
    return EntryRow(
        id=row.id,
        user_id=row.user_id,
        list_name=row.list_name,
        symbol=row.symbol,
        exchange=row.exchange,
        expiry=row.expiry_date,
        instrument_type=InstrumentType(row.instrument_type),
        added_at=row.added_at,
        added_order=row.added_order,
        last_used_at=row.last_used_at,
        centre=row.centre,
        state=EntryState(row.state),
        state_at=row.state_at,
        state_reason=row.state_reason,
        position=row.position,
    )


def list_values(row: ListRow) -> Values:
    return {"user_id": row.user_id, "name": row.name, "position": row.position}


def to_list(row: Found) -> ListRow:
    return ListRow(user_id=row.user_id, name=row.name, position=row.position)


def leg_values(leg: LegRow) -> Values:
    return {
        "instrument_token": leg.token,
        "segment": int(leg.key.segment),
        "security_id": leg.key.security_id,
        "symbol": leg.symbol,
        "expiry_date": leg.expiry,
        "strike_price": leg.strike,
        "option_type": None if leg.option_type is None else leg.option_type.value,
        "tier": leg.tier.value,
        "subscribed_at": leg.subscribed_at,
        "ws_connection_id": leg.ws_id,
        "active": leg.active,
    }


def to_leg(row: Found) -> LegRow:
    # By position, in the order of the table: boot reads thousands, and a name costs a look-up each.
    _, token, segment, security_id, symbol, expiry, strike, option_type, tier, subscribed_at, ws_id, active = row
    return LegRow(
        token=token,
        key=InstrumentKey(_SEGMENTS[segment], security_id),
        symbol=symbol,
        expiry=expiry,
        strike=strike,
        option_type=_OPTION_TYPES[option_type],
        tier=_TIERS[tier],
        subscribed_at=subscribed_at,
        ws_id=ws_id,
        active=active,
    )


def atm_values(atm: AtmRow) -> Values:
    return {
        "underlying_symbol": atm.underlying_symbol,
        "exchange": atm.exchange,
        "expiry_date": atm.expiry,
        "current_ltp": atm.current_ltp,
        "atm_strike": atm.atm_strike,
        "strike_step": atm.strike_step,
        "cached_at": atm.cached_at,
        "generated_strikes": atm.strikes,
    }


def to_atm(row: Found) -> AtmRow:
    return AtmRow(
        underlying_symbol=row.underlying_symbol,
        exchange=row.exchange,
        expiry=row.expiry_date,
        current_ltp=row.current_ltp,
        atm_strike=row.atm_strike,
        strike_step=row.strike_step,
        cached_at=row.cached_at,
        strikes=row.generated_strikes,
    )


def audit_values(line: AuditRow, mark: str | None) -> Values:
    return {
        "action": line.action.value,
        "instrument_token": line.instrument_token,
        "reason": line.reason,
        "timestamp": line.timestamp,
        "once": mark,
    }


def to_audit(row: Found) -> AuditRow:
    return AuditRow(
        action=AuditAction(row.action),
        instrument_token=row.instrument_token,
        reason=row.reason,
        timestamp=row.timestamp,
        id=row.id,
    )


def user_values(user: UserRow) -> Values:
    return {
        "name": user.name,
        "role": user.role.value,
        "password_hash": user.password_hash,
        "created_at": user.created_at,
        "token_version": user.token_version,
    }


def to_user(row: Found) -> UserRow:
    return UserRow(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        password_hash=row.password_hash,
        created_at=row.created_at,
        token_version=row.token_version,
    )
