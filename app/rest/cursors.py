"""PURE: opaque cursors of paged answers. They carry a position only; a stranger's text is a bad request."""

from __future__ import annotations

import base64
import binascii

from app.core.errors import InvalidRequest


def write_cursor(kind: str, position: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{position}".encode()).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> str:
    """The position that :func:`write_cursor` put in.

    Raises:
        InvalidRequest: not a cursor of this list.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    found, separator, position = text.partition(":")
    if found != kind or not separator or not position:
        raise InvalidRequest("cursor: take `next` of the answer before, unchanged", field="cursor")
    return position


def read_number_cursor(kind: str, cursor: str) -> int:
    """As :func:`read_cursor`, for a position that is a row's id."""
    position = read_cursor(kind, cursor)
    if not (position.isascii() and position.isdecimal() and len(position) < 19):
        raise InvalidRequest("cursor: take `next` of the answer before, unchanged", field="cursor")
    return int(position)
