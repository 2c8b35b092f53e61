"""What one client is owed: cursors, never copies. Pure.

Memory is bounded by what the client watches: a cursor per sequence and a short list of control messages. Topics take
turns, so that none ages while another is busy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from app.stream.stream_log import Cursor

K = TypeVar("K", bound=Hashable)
CONTROL_MAX = 256


class Outbox(Generic[K]):
    """The mailbox of one client. ``K`` names a sequence."""

    def __init__(self, control_max: int = CONTROL_MAX) -> None:
        self.dropped = 0  # control messages given up since last told
        self._control: deque[bytes] = deque(maxlen=control_max)
        self._cursors: dict[K, Cursor] = {}
        self._ready: dict[K, None] = {}

    def __len__(self) -> int:
        return len(self._cursors)

    def follow(self, key: K, cursor: Cursor) -> None:
        self._cursors[key] = cursor
        self._ready[key] = None

    def unfollow(self, key: K) -> None:
        self._cursors.pop(key, None)
        self._ready.pop(key, None)

    def cursor(self, key: K) -> Cursor | None:
        return self._cursors.get(key)

    def post(self, message: bytes) -> None:
        """Queue a control message; the oldest is dropped, and counted, when the client reads too slowly for them."""
        if len(self._control) == self._control.maxlen:
            self.dropped += 1
        self._control.append(message)

    def mark(self, key: K) -> bool:
        """There is news for a sequence; False if this client does not follow it."""
        if key not in self._cursors:
            return False
        self._ready[key] = None
        return True

    @property
    def has_mail(self) -> bool:
        return bool(self._control or self._ready)

    def take_control(self) -> bytes | None:
        return self._control.popleft() if self._control else None

    def take_ready(self) -> tuple[K, Cursor] | None:
        """The sequence whose turn it is; :meth:`mark` it again if it may have more."""
        if not self._ready:
            return None
        key = next(iter(self._ready))
        del self._ready[key]
        return key, self._cursors[key]
