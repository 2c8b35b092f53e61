"""The statements behind ``SqlStore``'s writes, each run on a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Connection,
    Dialect,
    Insert,
    Table,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import Function

from app.ports.store import AtmRow, AuditRow, Changes, EntryRow, LegRow, ListRow, UserRow
from app.storage import rows
from app.storage.models import atm_cache, subscription_log, subscriptions, users, watchlist, watchlists
from app.storage.values import batches

_ADD_ENTRY = insert(watchlist).returning(watchlist.c.id)
IN_MAX = 5_000  # values in one IN list; SQLite takes 32,766 variables, PostgreSQL 32,767
SLICE = 250  # rows made ready at a time, about 1 ms; over a network the loop runs others in between


def apply_changes(connection: Connection, changes: Changes, lines: Sequence[tuple[AuditRow, str | None]]) -> list[int]:
    """Write one transaction's worth; return the ids of the new entries."""
    _delete_lists(connection, changes.lists_removed)
    _upsert_lists(connection, changes.lists)
    _delete(connection, watchlist, "id", changes.entries_removed)
    _update_entries(connection, changes.entries_updated)
    added = [_insert_entry(connection, entry) for entry in changes.entries_added]
    _delete(connection, subscriptions, "instrument_token", changes.leg_tokens_removed)
    _upsert_legs(connection, changes.legs)
    _upsert_atm(connection, changes.atm)
    for batch in batches(lines, SLICE):
        _execute_many(connection, _log_line, [rows.audit_values(line, mark) for line, mark in batch])
    return added


def ping(connection: Connection) -> None:
    """Write a page of the database and leave its rows as they were."""
    # Not an UPDATE to the same value: SQLite sees that nothing changes and writes nothing.
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES ('ping')"))
    connection.execute(text("DELETE FROM alembic_version WHERE version_num = 'ping'"))


def prune_audit(connection: Connection, before: datetime) -> int:
    """Delete unmarked lines older than ``before``; return how many."""
    old = (subscription_log.c.timestamp < before) & subscription_log.c.once.is_(None)
    return connection.execute(delete(subscription_log).where(old)).rowcount


def insert_user(connection: Connection, user: UserRow) -> UserRow:
    """Insert the user under a new id; return the row as stored."""
    added = insert(users).values(rows.user_values(user)).returning(*users.c)
    return rows.to_user(connection.execute(added).one())


def update_user(connection: Connection, user: UserRow) -> None:
    """Replace role, hash and token version."""
    kept = {"role": user.role.value, "password_hash": user.password_hash, "token_version": user.token_version}
    connection.execute(update(users).where(users.c.id == user.id).values(kept))


def insert_user_if_unknown(connection: Connection, user: UserRow) -> UserRow:
    """Insert the user with its own id, unless another process was first; return who is there."""
    known = select(users).where(users.c.id == user.id)
    found = connection.execute(known).first()
    if found is None:
        connection.execute(insert(users), {"id": user.id, **rows.user_values(user)})
        if connection.dialect.name == "postgresql":
            set_last_id(connection, users, last_id(connection, users))
        found = connection.execute(known).one()
    return rows.to_user(found)


def last_id(connection: Connection, table: Table) -> int:
    """The largest id ever given in a table; 0 if none was."""
    if connection.dialect.name == "postgresql":
        reached = select(func.pg_sequence_last_value(_sequence(table).op("::")(text("regclass"))))
    else:
        reached = select(column("seq")).select_from(text("sqlite_sequence")).where(column("name") == table.name)
    highest = connection.execute(select(func.max(table.c.id))).scalar()
    return max(connection.execute(reached).scalar() or 0, highest or 0)


def set_last_id(connection: Connection, table: Table, reached: int) -> None:
    """Let new ids of a table begin above ``reached``."""
    if reached == 0:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.setval(_sequence(table), reached)))
        return
    sequence = {"name": table.name, "seq": reached}
    connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), sequence)
    connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), sequence)


def _sequence(table: Table) -> Function[str]:
    return func.pg_get_serial_sequence(table.name, "id")


def _delete(connection: Connection, table: Table, column: str, values: Sequence[object]) -> None:
    for batch in batches(values, IN_MAX):
        connection.execute(delete(table).where(table.c[column].in_(batch)))


def _delete_lists(connection: Connection, lists: Sequence[tuple[int, str]]) -> None:
    for user_id, name in lists:
        connection.execute(delete(watchlists).where(watchlists.c.user_id == user_id, watchlists.c.name == name))


def _upsert_lists(connection: Connection, lists: Sequence[ListRow]) -> None:
    statement = _upsert(connection.dialect.name, watchlists, ("user_id", "name"))
    for batch in batches(lists, SLICE):
        connection.execute(statement, [rows.list_values(row) for row in batch])


def _update_entries(connection: Connection, entries: Sequence[EntryRow]) -> None:
    change = update(watchlist).where(watchlist.c.id == bindparam("entry_id"))
    for batch in batches(entries, SLICE):
        connection.execute(change, [{"entry_id": entry.id, **rows.entry_values(entry)} for entry in batch])


def _insert_entry(connection: Connection, entry: EntryRow) -> int:
    row_id: int = connection.execute(_ADD_ENTRY, rows.entry_values(entry)).scalar_one()
    return row_id


def _upsert_legs(connection: Connection, legs: Sequence[LegRow]) -> None:
    for batch in batches(legs, SLICE):
        _execute_many(connection, _leg, [rows.leg_values(leg) for leg in batch])


def _upsert_atm(connection: Connection, atm: Sequence[AtmRow]) -> None:
    statement = _upsert(connection.dialect.name, atm_cache, ("underlying_symbol", "expiry_date", "exchange"))
    for batch in batches(atm, SLICE):
        connection.execute(statement, [rows.atm_values(row) for row in batch])


def _log_line(dialect: str) -> Insert:
    return insert(subscription_log)


def _leg(dialect: str) -> Insert:
    return _upsert(dialect, subscriptions, ("instrument_token",))


def _execute_many(connection: Connection, build: Callable[[str], Insert], many: Sequence[rows.Values]) -> None:
    """Run a statement for rows of the same columns: made ready once, since that takes longer than storing 50 rows."""
    ready = _ready(connection.dialect, build, tuple(many[0]))
    connection.exec_driver_sql(ready.text, ready.bound(many))


class _Ready:
    """A statement as the driver takes it, and what turns values into the driver's."""

    def __init__(self, statement: Insert, names: tuple[str, ...], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=names)
        assert isinstance(compiled, SQLCompiler)
        assert compiled.positiontup is not None, "both drivers take values by position"
        self.text = str(compiled)
        self._pick = itemgetter(*compiled.positiontup)
        kinds = [statement.table.columns[name].type for name in compiled.positiontup]
        self._binders = [kind.dialect_impl(dialect).bind_processor(dialect) for kind in kinds]

    def bound(self, many: Sequence[rows.Values]) -> list[tuple[Any, ...]]:
        columns = zip(*map(self._pick, many), strict=True)
        pairs = zip(columns, self._binders, strict=True)
        return list(zip(*(column if bind is None else _each_once(bind, column) for column, bind in pairs), strict=True))


def _each_once(bind: Callable[[Any], Any], column: Sequence[Any]) -> Iterable[Any]:
    """Rows of one transaction mostly share their moment and their expiry: each value is turned once."""
    turned = {value: bind(value) for value in set(column)}
    return map(turned.__getitem__, column)


@lru_cache(maxsize=16)
def _ready(dialect: Dialect, build: Callable[[str], Insert], names: tuple[str, ...]) -> _Ready:
    return _Ready(build(dialect.name), names, dialect)


@cache
def _upsert(dialect: str, table: Table, unique: tuple[str, ...]) -> Insert:
    adding = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    kept = {"id", *unique}
    replaced = {column.name: adding.excluded[column.name] for column in table.columns if column.name not in kept}
    statement: Insert = adding.on_conflict_do_update(index_elements=unique, set_=replaced)
    return statement
