"""What the owners of state tell the people at the screens; the stream's hub delivers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One notice: evicted, restored, window_moved, feed, session or eod. ``user_id`` None means all."""

    kind: str
    at_ms: int
    user_id: int | None
    data: dict[str, object] = field(default_factory=dict)


Notify = Callable[[Event], None]
