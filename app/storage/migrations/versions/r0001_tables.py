"""The first tables."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _row_id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    _create_watchlist()
    _create_subscriptions()
    _create_atm_cache()
    _create_subscription_log()
    _create_users()


def _create_watchlist() -> None:
    op.create_table(
        "watchlist",
        _row_id(),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("list_name", sa.String(64), nullable=False),
        sa.Column("symbol", sa.String(64), nullable=False),
        sa.Column("exchange", sa.String(8), nullable=False),
        sa.Column("expiry_date", sa.String(10), nullable=False),
        sa.Column("instrument_type", sa.String(32), nullable=False),
        _moment("added_at"),
        sa.Column("added_order", sa.BigInteger, nullable=False),
        _moment("last_used_at"),
        sa.Column("centre", sa.Double),
        sa.Column("state", sa.String(16), nullable=False),
        _moment("state_at", nullable=True),
        sa.Column("state_reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_watchlist"),
        sa.UniqueConstraint(
            "user_id", "list_name", "symbol", "expiry_date", "instrument_type", name="uq_watchlist_entry"
        ),
        sqlite_autoincrement=True,
    )


def _create_subscriptions() -> None:
    op.create_table(
        "subscriptions",
        _row_id(),
        sa.Column("instrument_token", sa.String(96), nullable=False),
        sa.Column("segment", sa.SmallInteger, nullable=False),
        sa.Column("security_id", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.String(64), nullable=False),
        sa.Column("expiry_date", sa.String(10), nullable=False),
        sa.Column("strike_price", sa.Double),
        sa.Column("option_type", sa.String(2)),
        sa.Column("tier", sa.String(8), nullable=False),
        _moment("subscribed_at"),
        sa.Column("ws_connection_id", sa.SmallInteger),
        sa.Column("active", sa.Boolean(create_constraint=False), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_subscriptions"),
        sa.UniqueConstraint("instrument_token", name="uq_subscriptions_instrument_token"),
        sqlite_autoincrement=True,
    )


def _create_atm_cache() -> None:
    op.create_table(
        "atm_cache",
        _row_id(),
        sa.Column("underlying_symbol", sa.String(64), nullable=False),
        sa.Column("exchange", sa.String(8), nullable=False),
        sa.Column("expiry_date", sa.String(10), nullable=False),
        sa.Column("current_ltp", sa.Double, nullable=False),
        sa.Column("atm_strike", sa.Double, nullable=False),
        sa.Column("strike_step", sa.Double, nullable=False),
        _moment("cached_at"),
        sa.Column("generated_strikes", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_atm_cache"),
        sa.UniqueConstraint("underlying_symbol", "expiry_date", "exchange", name="uq_atm_cache_chain"),
        sqlite_autoincrement=True,
    )


def _create_subscription_log() -> None:
    op.create_table(
        "subscription_log",
        _row_id(),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("instrument_token", sa.String(96), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        _moment("timestamp"),
        sa.Column("once", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_subscription_log"),
        sa.UniqueConstraint("once", name="uq_subscription_log_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_subscription_log_instrument_token_id", "subscription_log", ["instrument_token", "id"])
    op.create_index("ix_subscription_log_action_id", "subscription_log", ["action", "id"])
    op.create_index("ix_subscription_log_timestamp", "subscription_log", ["timestamp"])


def _create_users() -> None:
    op.create_table(
        "users",
        _row_id(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        _moment("created_at"),
        sa.Column("token_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
        sqlite_autoincrement=True,
    )
