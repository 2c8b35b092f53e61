"""The tables, as SQLAlchemy Core sees them. Only an Alembic revision may change a schema; a test compares the two.

Moments are kept in UTC, expiries as ISO text with ``''`` for none: a unique constraint never sees a NULL.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.storage.values import utc

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Moment(TypeDecorator[datetime]):
    """An aware moment, kept in UTC; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = utc(value)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Expiry(TypeDecorator[date]):
    """A day as ISO text; no day is the empty text."""

    impl = String(10)
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: Dialect) -> str:
        return "" if value is None else value.isoformat()

    def process_result_value(self, value: str | None, dialect: Dialect) -> date | None:
        return date.fromisoformat(value) if value else None


class Strikes(TypeDecorator[tuple[float, ...]]):
    """A row of strikes as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[float, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[float, ...] | None:
        return None if value is None else tuple(float(strike) for strike in orjson.loads(value))


def _row_id() -> Column[int]:
    # SQLite gives rowids only to a column declared INTEGER.
    kind: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")
    return Column("id", kind, primary_key=True, autoincrement=True)


metadata = MetaData(naming_convention=NAMING)

watchlist = Table(
    "watchlist",
    metadata,
    _row_id(),
    Column("user_id", BigInteger, nullable=False),
    Column("list_name", String(64), nullable=False),
    Column("symbol", String(64), nullable=False),
    Column("exchange", String(8), nullable=False),
    Column("expiry_date", Expiry, nullable=False),
    Column("instrument_type", String(32), nullable=False),
    Column("added_at", Moment, nullable=False),
    Column("added_order", BigInteger, nullable=False),
    Column("last_used_at", Moment, nullable=False),
    Column("centre", Double),
    Column("state", String(16), nullable=False),
    Column("state_at", Moment),
    Column("state_reason", Text),
    Column("position", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("user_id", "list_name", "symbol", "expiry_date", "instrument_type", name="uq_watchlist_entry"),
    sqlite_autoincrement=True,
)

# Tables that came after the first revision; a backup of an earlier one is whole without them.
ADDED_WITH = {"watchlists": "0002", "sessions": "0003", "access_log": "0003", "viewers": "0003"}

watchlists = Table(
    "watchlists",
    metadata,
    _row_id(),
    Column("user_id", BigInteger, nullable=False),
    Column("name", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    UniqueConstraint("user_id", "name", name="uq_watchlists_name"),
    sqlite_autoincrement=True,
)

subscriptions = Table(
    "subscriptions",
    metadata,
    _row_id(),
    Column("instrument_token", String(96), nullable=False),
    Column("segment", SmallInteger, nullable=False),
    Column("security_id", BigInteger, nullable=False),
    Column("symbol", String(64), nullable=False),
    Column("expiry_date", Expiry, nullable=False),
    Column("strike_price", Double),
    Column("option_type", String(2)),
    Column("tier", String(8), nullable=False),
    Column("subscribed_at", Moment, nullable=False),
    Column("ws_connection_id", SmallInteger),
    Column("active", Boolean(create_constraint=False), nullable=False),
    UniqueConstraint("instrument_token"),
    sqlite_autoincrement=True,
)

atm_cache = Table(
    "atm_cache",
    metadata,
    _row_id(),
    Column("underlying_symbol", String(64), nullable=False),
    Column("exchange", String(8), nullable=False),
    Column("expiry_date", Expiry, nullable=False),
    Column("current_ltp", Double, nullable=False),
    Column("atm_strike", Double, nullable=False),
    Column("strike_step", Double, nullable=False),
    Column("cached_at", Moment, nullable=False),
    Column("generated_strikes", Strikes, nullable=False),
    UniqueConstraint("underlying_symbol", "expiry_date", "exchange", name="uq_atm_cache_chain"),
    sqlite_autoincrement=True,
)

# ``once`` marks the line as the proof that something was done; a marked line is never pruned.
subscription_log = Table(
    "subscription_log",
    metadata,
    _row_id(),
    Column("action", String(32), nullable=False),
    Column("instrument_token", String(96), nullable=False),
    Column("reason", Text, nullable=False),
    Column("timestamp", Moment, nullable=False),
    Column("once", Text),
    UniqueConstraint("once"),
    Index(None, "instrument_token", "id"),
    Index(None, "action", "id"),
    Index(None, "timestamp"),
    sqlite_autoincrement=True,
)

users = Table(
    "users",
    metadata,
    _row_id(),
    Column("name", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("token_version", Integer, nullable=False),
    UniqueConstraint("name"),
    sqlite_autoincrement=True,
)

sessions = Table(
    "sessions",
    metadata,
    _row_id(),
    Column("handle", String(64), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("token_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("rotated_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("address", String(64), nullable=False),
    UniqueConstraint("handle"),
    Index(None, "user_id", "id"),
    sqlite_autoincrement=True,
)

access_log = Table(
    "access_log",
    metadata,
    _row_id(),
    Column("action", String(32), nullable=False),
    Column("user_id", BigInteger),
    Column("name", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("timestamp", Moment, nullable=False),
    Index(None, "user_id", "id"),
    Index(None, "timestamp"),
    sqlite_autoincrement=True,
)

viewers = Table(
    "viewers",
    metadata,
    _row_id(),
    Column("day", Expiry, nullable=False),
    Column("segment", String(16), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("address", String(64), nullable=False),
    UniqueConstraint("day", "segment", "user_id", "address", name="uq_viewers_once"),
    sqlite_autoincrement=True,
)
