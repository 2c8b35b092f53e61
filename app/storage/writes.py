"""The statements behind ``SqlStore``'s writes, each run on a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from app.ports.store import AtmRow, AuditRow, Changes, EntryRow, LegRow, UserRow
from app.storage import rows
from app.storage.models import atm_cache, subscription_log, subscriptions, users, watchlist
from app.storage.values import batches, newest_legs

IN_MAX = 5_000  # values in one IN list; SQLite takes 32,766 variables, PostgreSQL 32,767


def apply_changes(connection: Connection, changes: Changes, lines: Sequence[tuple[AuditRow, str | None]]) -> list[int]:
    """Write one transaction's worth; return the ids of the new entries."""
    _delete(connection, watchlist, "id", changes.entries_removed)
    _update_entries(connection, changes.entries_updated)
    added = [_insert_entry(connection, entry) for entry in changes.entries_added]
    _delete(connection, subscriptions, "instrument_token", changes.leg_tokens_removed)
    _upsert_legs(connection, changes.legs)
    _upsert_atm(connection, changes.atm)
    if lines:
        connection.execute(insert(subscription_log), [rows.audit_values(line, mark) for line, mark in lines])
    return added


def insert_user_if_unknown(connection: Connection, user: UserRow) -> UserRow:
    """Insert the user with its own id, unless another process was first; return who is there."""
    known = select(users).where(users.c.id == user.id)
    found = connection.execute(known).first()
    if found is None:
        connection.execute(insert(users), {"id": user.id, **rows.user_values(user)})
        if connection.dialect.name == "postgresql":
            pass_sequence(connection, users)
        found = connection.execute(known).one()
    return rows.to_user(found)


def pass_sequence(connection: Connection, table: Table) -> None:
    """Move PostgreSQL's id sequence past the largest id; SQLite does so by itself."""
    # Both functions pass over NULL: an empty table, a sequence never used.
    reached = func.pg_sequence_last_value(func.pg_get_serial_sequence(table.name, "id").op("::")(text("regclass")))
    highest = select(func.max(table.c.id)).scalar_subquery()
    sequence = func.pg_get_serial_sequence(table.name, "id")
    connection.execute(select(func.setval(sequence, func.greatest(reached, highest, 1))))


def _delete(connection: Connection, table: Table, column: str, values: Sequence[object]) -> None:
    for batch in batches(values, IN_MAX):
        connection.execute(delete(table).where(table.c[column].in_(batch)))


def _update_entries(connection: Connection, entries: Sequence[EntryRow]) -> None:
    if not entries:
        return
    change = update(watchlist).where(watchlist.c.id == bindparam("entry_id"))
    connection.execute(change, [{"entry_id": entry.id, **rows.entry_values(entry)} for entry in entries])


def _insert_entry(connection: Connection, entry: EntryRow) -> int:
    added = insert(watchlist).values(rows.entry_values(entry)).returning(watchlist.c.id)
    row_id: int = connection.execute(added).scalar_one()
    return row_id


def _upsert_legs(connection: Connection, legs: Sequence[LegRow]) -> None:
    values = [rows.leg_values(leg) for leg in newest_legs(legs)]
    _upsert(connection, subscriptions, ("instrument_token",), values)


def _upsert_atm(connection: Connection, atm: Sequence[AtmRow]) -> None:
    values = [rows.atm_values(row) for row in atm]
    _upsert(connection, atm_cache, ("underlying_symbol", "expiry_date", "exchange"), values)


def _upsert(connection: Connection, table: Table, unique: tuple[str, ...], values: list[rows.Values]) -> None:
    if not values:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    adding = dialect.insert(table)
    replaced = {name: adding.excluded[name] for name in values[0] if name not in unique}
    connection.execute(adding.on_conflict_do_update(index_elements=unique, set_=replaced), values)
