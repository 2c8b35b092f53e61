"""Learns what silence is normal, and tells when a whole segment is silent on all connections: once, and once when not.

A connection that is mute is the watchdog's business; here everything that should come is looked at together.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import structlog

from app.core.ids import Segment
from app.core.sessions import EXCHANGE_OF, Calendar
from app.market.events import Event, Notify
from app.market.facts import Wires
from app.market.live_prices import LivePrices
from app.market.states import stale_after_ms
from app.ports.clock import Clock


class SilenceWatch:
    """Call :meth:`look` each second. A segment is silent when even its liveliest instrument is overdue by its own
    measure, and for at least ``least_s``."""

    def __init__(
        self, board: LivePrices, wires: Wires, calendar: Calendar, clock: Clock, notify: Notify, least_s: float
    ) -> None:
        self._board = board
        self._wires = wires
        self._calendar = calendar
        self._clock = clock
        self._notify = notify
        self._least_ms = least_s * 1000.0
        self._silent_since: dict[Segment, datetime] = {}
        self._log = structlog.get_logger("feed")

    @property
    def silent(self) -> dict[Segment, datetime]:
        """The segments that are silent now, and since when."""
        return dict(self._silent_since)

    def concerns(self) -> tuple[str, ...]:
        """The silent segments in words, for people."""
        zone = self._calendar.zone
        return tuple(
            f"nothing of {segment.name} has come since {since.astimezone(zone):%H:%M:%S} although it trades"
            for segment, since in self._silent_since.items()
        )

    def look(self) -> None:
        """Learn from what came, and judge every segment."""
        now, now_ms = self._clock.now(), self._clock.now_ms()
        judged_from_ms = np.zeros(256, dtype=np.int64)
        for segment in Segment:
            if (since := self._calendar.judged_from(segment, now)) is not None:
                judged_from_ms[segment] = now_ms - int((now - since).total_seconds() * 1000)
        self._board.learn_gaps(judged_from_ms, self._wires.slot_lost_ms)
        for segment in Segment:
            self._judge(segment, int(judged_from_ms[segment]), now, now_ms)

    def _judge(self, segment: Segment, judged_from_ms: int, now: datetime, now_ms: int) -> None:
        if not judged_from_ms:
            self._end(segment, "closed")
            return
        last_ms = self._board.segment_last_ms(segment)
        silent_ms = now_ms - max(last_ms, judged_from_ms)
        if segment in self._silent_since:
            if silent_ms < self._least_ms:
                self._end(segment, "alive")
        elif last_ms and silent_ms > self._least_ms and silent_ms > self._deadline_ms(segment):
            self._begin(segment, now, now_ms, silent_ms)

    def _deadline_ms(self, segment: Segment) -> float:
        slots = self._board.slots_of(segment)
        return float(stale_after_ms(self._board.normal_gap_ms(slots)).min(initial=np.inf))

    def _begin(self, segment: Segment, now: datetime, now_ms: int, silent_ms: int) -> None:
        since = datetime.fromtimestamp(now.timestamp() - silent_ms / 1000, now.tzinfo)
        self._silent_since[segment] = since
        self._board.segment_lost_ms[segment] = now_ms
        self._tell(segment, "silent", since)

    def _end(self, segment: Segment, state: str) -> None:
        since = self._silent_since.pop(segment, None)
        if since is not None:
            self._tell(segment, state, since)

    def _tell(self, segment: Segment, state: str, since: datetime) -> None:
        data: dict[str, object] = {
            "segment": segment.name,
            "exchange": str(EXCHANGE_OF[segment]),
            "state": state,
            "since": since.isoformat(),
        }
        self._notify(Event("feed", self._clock.now_ms(), None, data))
        log = self._log.warning if state == "silent" else self._log.info
        log("segment", **data)
