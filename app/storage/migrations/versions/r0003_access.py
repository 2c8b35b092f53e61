"""Who comes in: sessions, the trail of sign-ins and admin actions, viewers by segment and day."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _row_id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def upgrade() -> None:
    op.create_table(
        "sessions",
        _row_id(),
        sa.Column("handle", sa.String(64), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("token_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        _moment("created_at"),
        _moment("rotated_at"),
        _moment("expires_at"),
        sa.Column("address", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("handle", name="uq_sessions_handle"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_user_id_id", "sessions", ["user_id", "id"])
    op.create_table(
        "access_log",
        _row_id(),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        _moment("timestamp"),
        sa.PrimaryKeyConstraint("id", name="pk_access_log"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_access_log_user_id_id", "access_log", ["user_id", "id"])
    op.create_index("ix_access_log_timestamp", "access_log", ["timestamp"])
    op.create_table(
        "viewers",
        _row_id(),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("segment", sa.String(16), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_viewers"),
        sa.UniqueConstraint("day", "segment", "user_id", "address", name="uq_viewers_once"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Who came in is forgotten, and everybody signs in again."""
    for table in ("viewers", "access_log", "sessions"):
        op.drop_table(table)
