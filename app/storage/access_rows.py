"""The statements behind the store's ``AccessStore`` half, each run on a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.ports.access import AccessAction, AccessFilter, AccessRow, SessionRow, ViewerCount, ViewerRow
from app.ports.store import UserRow
from app.storage import rows
from app.storage.models import access_log, sessions, users, viewers
from app.storage.values import ROW_ID_MAX, batches

IN_MAX = 5_000
_SESSION_FIELDS = (
    "handle", "user_id", "token_version", "generation", "created_at", "rotated_at", "expires_at", "address",
)  # fmt: skip


def open_session(connection: Connection, session: SessionRow, line: AccessRow, keep: int) -> None:
    """Insert the session and its line; of the user's others end those above ``keep``, the first to run out first."""
    of_user = sessions.c.user_id == session.user_id
    by_end = (sessions.c.expires_at.desc(), sessions.c.id.desc())
    kept = select(sessions.c.id).where(of_user).order_by(*by_end).limit(keep - 1)
    connection.execute(delete(sessions).where(of_user & sessions.c.id.not_in(kept.scalar_subquery())))
    connection.execute(insert(sessions), {name: getattr(session, name) for name in _SESSION_FIELDS})
    note(connection, line)


def session(connection: Connection, handle: str) -> tuple[SessionRow, UserRow] | None:
    """The session and its user."""
    found = connection.execute(select(sessions).where(sessions.c.handle == handle)).first()
    if found is None:
        return None
    user = connection.execute(select(users).where(users.c.id == found.user_id)).first()
    return None if user is None else (_to_session(found), rows.to_user(user))


def rotate(connection: Connection, handle: str, generation: int, at: datetime) -> bool:
    """Compare and set the generation."""
    current = (sessions.c.handle == handle) & (sessions.c.generation == generation)
    changed = {"generation": generation + 1, "rotated_at": at}
    return connection.execute(update(sessions).where(current).values(changed)).rowcount == 1


def end(connection: Connection, handles: Collection[str], line: AccessRow) -> int:
    """Delete sessions and insert the line."""
    note(connection, line)
    return connection.execute(delete(sessions).where(sessions.c.handle.in_(handles))).rowcount


def end_of_user(connection: Connection, user_id: int, line: AccessRow) -> int:
    """Delete a user's sessions and insert the line."""
    note(connection, line)
    return connection.execute(delete(sessions).where(sessions.c.user_id == user_id)).rowcount


def live(connection: Connection, handles: Collection[str], now: datetime) -> set[str]:
    """The handles of sessions that still hold."""
    found: set[str] = set()
    holds = (sessions.c.token_version == users.c.token_version) & (sessions.c.expires_at > now)
    joined = select(sessions.c.handle).join(users, users.c.id == sessions.c.user_id).where(holds)
    for batch in batches(list(handles), IN_MAX):
        found.update(connection.execute(joined.where(sessions.c.handle.in_(batch))).scalars())
    return found


def note(connection: Connection, line: AccessRow) -> None:
    """Insert a line of the access log."""
    names = ("user_id", "name", "address", "detail", "timestamp")
    connection.execute(
        insert(access_log), {"action": line.action.value, **{name: getattr(line, name) for name in names}}
    )


def log(connection: Connection, wanted: AccessFilter) -> list[AccessRow]:
    """The lines that pass the filter, newest first."""
    query = select(access_log).order_by(access_log.c.id.desc()).limit(min(max(wanted.limit, 0), ROW_ID_MAX))
    if wanted.user_id is not None:
        query = query.where(access_log.c.user_id == wanted.user_id)
    if wanted.action is not None:
        query = query.where(access_log.c.action == wanted.action.value)
    if wanted.before_id is not None:
        query = query.where(access_log.c.id < max(-ROW_ID_MAX, min(wanted.before_id, ROW_ID_MAX)))
    return [_to_line(row) for row in connection.execute(query)]


def note_viewers(connection: Connection, seen: Sequence[ViewerRow]) -> None:
    """Insert the rows that are not there."""
    adding = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(viewers)
    values = [{"day": row.day, "segment": row.segment, "user_id": row.user_id, "address": row.address} for row in seen]
    connection.execute(adding.on_conflict_do_nothing(), values)


def viewer_counts(connection: Connection, since: date) -> list[ViewerCount]:
    """Distinct users and addresses by day and segment."""
    columns = viewers.c
    distinct = (func.count(columns.user_id.distinct()), func.count(columns.address.distinct()))
    grouped = select(columns.day, columns.segment, *distinct).where(columns.day >= since)
    found = connection.execute(grouped.group_by(columns.day, columns.segment)).all()
    return sorted((ViewerCount(*row) for row in found), key=lambda count: (count.day, count.segment))


def prune(connection: Connection, before: datetime, now: datetime) -> int:
    """Delete old lines and sessions that have run out."""
    lines = connection.execute(delete(access_log).where(access_log.c.timestamp < before)).rowcount
    return lines + connection.execute(delete(sessions).where(sessions.c.expires_at <= now)).rowcount


def _to_session(row: Row[tuple[object, ...]]) -> SessionRow:
    return SessionRow(**{name: getattr(row, name) for name in _SESSION_FIELDS})


def _to_line(row: Row[tuple[object, ...]]) -> AccessRow:
    return AccessRow(
        action=AccessAction(row.action),
        user_id=row.user_id,
        name=row.name,
        address=row.address,
        detail=row.detail,
        timestamp=row.timestamp,
        id=row.id,
    )
