"""Named lists, and an order of entries that people make."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "watchlists",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_watchlists"),
        sa.UniqueConstraint("user_id", "name", name="uq_watchlists_name"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("watchlist") as batch:
        batch.add_column(sa.Column("position", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE watchlist SET position = added_order")


def downgrade() -> None:
    """Entries of named lists become entries of the default list, unless it has the same one."""
    op.execute(
        "DELETE FROM watchlist WHERE list_name NOT IN ('default', '@explicit') AND EXISTS ("
        "SELECT 1 FROM watchlist AS kept WHERE kept.id <> watchlist.id"
        " AND kept.list_name <> '@explicit'"
        " AND kept.user_id = watchlist.user_id AND kept.symbol = watchlist.symbol"
        " AND kept.expiry_date = watchlist.expiry_date AND kept.instrument_type = watchlist.instrument_type"
        " AND (kept.list_name = 'default' OR kept.id < watchlist.id))"
    )
    op.execute("UPDATE watchlist SET list_name = 'default' WHERE list_name <> '@explicit'")
    with op.batch_alter_table("watchlist", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.drop_column("position")
    op.drop_table("watchlists")
