"""What every store agrees on: which values may be kept, and in which form. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from app.core.errors import InvalidRequest
from app.ports.store import USER_ID_MAX, AuditAction, AuditRow, Changes

ROW_ID_MAX = 2**63 - 1  # largest id that either database can compare with
USER_NAME_CHARS_MAX = 128
AUTO_NAME_MARK = "#"  # first letter of names given to users made on first use; nobody can choose one

_Row = TypeVar("_Row")


def utc(moment: datetime) -> datetime:
    """Return the same moment in UTC.

    Raises:
        ValueError: the moment is naive; guessing its zone would corrupt the record.
    """
    if moment.tzinfo is None:
        raise ValueError(f"naive datetime: {moment!r}")
    return moment.astimezone(UTC)


def storable(text: str) -> bool:
    """Tell whether both databases can hold the text (no NUL, no lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def check_user_id(user_id: int) -> None:
    """Raises ``InvalidRequest`` for an id that no account can have."""
    if not 0 < user_id <= USER_ID_MAX:
        raise InvalidRequest(f"user_id must be between 1 and {USER_ID_MAX}")


def check_user_name(name: str) -> None:
    """Raises ``InvalidRequest`` for a name that a person may not choose."""
    fits = 0 < len(name.strip()) <= len(name) <= USER_NAME_CHARS_MAX
    if not fits or name.startswith(AUTO_NAME_MARK) or not (name.isprintable() and storable(name)):
        raise InvalidRequest(
            f"a user name is 1 to {USER_NAME_CHARS_MAX} printable characters and does not begin with {AUTO_NAME_MARK!r}"
        )


def auto_name(user_id: int) -> str:
    """The name of a user made on first use."""
    return f"{AUTO_NAME_MARK}{user_id}"


def audit_lines(changes: Changes, now: datetime) -> list[tuple[AuditRow, str | None]]:
    """The audit lines of a transaction, the first of them carrying the mark of ``once``.

    The mark is part of the line, so the line is the proof that the thing was done. A transaction that brings no line
    of its own gets one.
    """
    lines = list(changes.audit)
    if changes.once is not None and not lines:
        lines.append(AuditRow(AuditAction.EOD_CLEANUP, "", changes.once, now))
    return [(line, changes.once if position == 0 else None) for position, line in enumerate(lines)]


def with_id(row: AuditRow, row_id: int) -> AuditRow:
    """The line as kept: with its number, its time in UTC."""
    return replace(row, id=row_id, timestamp=utc(row.timestamp))


def batches(rows: Sequence[_Row], size: int) -> Iterable[Sequence[_Row]]:
    """Cut rows into runs of at most ``size``."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
