"""The queries behind ``SqlStore``'s reads, each run on a connection that is in a transaction."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import Connection, Select, select

from app.ports.store import AtmRow, AuditFilter, AuditRow, StoredState, UserRow
from app.storage import rows
from app.storage.models import atm_cache, subscription_log, subscriptions, users, watchlist, watchlists
from app.storage.values import ROW_ID_MAX


def ping(connection: Connection) -> None:
    """Touch a page of the database."""
    connection.execute(select(users.c.id).limit(1))


def stored_state(connection: Connection) -> StoredState:
    """Everything that boot needs, as of one moment; sorted here: a database sorts text by its own collation."""
    entries = connection.execute(select(watchlist).order_by(watchlist.c.id)).all()
    legs = connection.execute(select(subscriptions)).all()
    atm = connection.execute(select(atm_cache)).all()
    lists = connection.execute(select(watchlists).order_by(watchlists.c.id)).all()
    return StoredState(
        entries=tuple(rows.to_entry(row) for row in entries),
        legs=tuple(sorted((rows.to_leg(row) for row in legs), key=lambda leg: leg.token)),
        atm=tuple(sorted((rows.to_atm(row) for row in atm), key=_chain)),
        lists=tuple(rows.to_list(row) for row in lists),
    )


def was_done(connection: Connection, once: str) -> bool:
    """Tell whether a log line carries the mark."""
    wanted = select(subscription_log.c.id).where(subscription_log.c.once == once)
    return connection.execute(wanted).first() is not None


def audit(connection: Connection, wanted: AuditFilter) -> list[AuditRow]:
    """The lines that pass the filter, newest first."""
    return [rows.to_audit(row) for row in connection.execute(_audit_query(wanted))]


def user_by_id(connection: Connection, user_id: int) -> UserRow | None:
    """``user_id`` must be within the range of the column."""
    return _one_user(connection, select(users).where(users.c.id == user_id))


def user_by_name(connection: Connection, name: str) -> UserRow | None:
    """``name`` must be storable text."""
    return _one_user(connection, select(users).where(users.c.name == name))


def all_users(connection: Connection) -> list[UserRow]:
    """Everyone, by id."""
    return [rows.to_user(row) for row in connection.execute(select(users).order_by(users.c.id))]


def _one_user(connection: Connection, wanted: Select[*tuple[Any, ...]]) -> UserRow | None:
    found = connection.execute(wanted).first()
    return None if found is None else rows.to_user(found)


def _chain(row: AtmRow) -> tuple[str, date, str]:
    return row.underlying_symbol, row.expiry, row.exchange


def _audit_query(wanted: AuditFilter) -> Select[*tuple[Any, ...]]:
    log = subscription_log.c
    query = select(subscription_log).order_by(log.id.desc()).limit(min(max(wanted.limit, 0), ROW_ID_MAX))
    if wanted.token is not None:
        query = query.where(log.instrument_token == wanted.token)
    if wanted.action is not None:
        query = query.where(log.action == wanted.action.value)
    if wanted.since is not None:
        query = query.where(log.timestamp >= wanted.since)
    if wanted.before_id is not None:
        query = query.where(log.id < max(-ROW_ID_MAX, min(wanted.before_id, ROW_ID_MAX)))
    return query
