"""Turns the calendar into what board and people need: latching, new sessions, notices of open, close and silence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

from app.core.ids import Segment
from app.core.sessions import EXCHANGE_OF, Calendar, Phase
from app.market.events import Event, Notify
from app.market.live_prices import LivePrices
from app.market.silence_watch import SilenceWatch
from app.ports.clock import Clock

KeepOpenInterest = Callable[[Segment, date], None]


class SessionWatch:
    """Call :meth:`look` each second. ``keep_oi(segment, day)`` is told when that day's session is over."""

    def __init__(
        self,
        board: LivePrices,
        calendar: Calendar,
        clock: Clock,
        notify: Notify,
        keep_oi: KeepOpenInterest,
        silences: SilenceWatch,
    ) -> None:
        self._board = board
        self._calendar = calendar
        self._clock = clock
        self._notify = notify
        self._keep_oi = keep_oi
        self._silences = silences
        self._phases: dict[Segment, tuple[Phase, datetime | None]] = {}

    def look(self) -> None:
        now = self._clock.now()
        for segment in Segment:
            self._look_at(segment, now)
        self._board.set_latching(segment for segment, (phase, _) in self._phases.items() if phase is not Phase.CLOSED)
        self._silences.look()

    def _look_at(self, segment: Segment, now: datetime) -> None:
        phase = self._calendar.phase(segment, now)
        sessions = self._calendar.sessions(segment, now.astimezone(self._calendar.zone).date())
        opened_at = sessions[0].open if sessions and phase is not Phase.CLOSED else None
        known = self._phases.get(segment)
        self._phases[segment] = (phase, opened_at)
        if known is None:
            return
        if known[1] is not None and opened_at != known[1]:
            self._keep_oi(segment, known[1].astimezone(self._calendar.zone).date())
        if opened_at is not None and opened_at != known[1]:
            self._board.new_session(segment)
        if phase is not known[0]:
            self._tell(segment, phase, now)

    def _tell(self, segment: Segment, phase: Phase, now: datetime) -> None:
        change = self._calendar.next_change(segment, now)
        data: dict[str, object] = {
            "segment": segment.name,
            "exchange": str(EXCHANGE_OF[segment]),
            "phase": str(phase),
            "next_change": change.isoformat() if change else None,
        }
        self._notify(Event("session", self._clock.now_ms(), None, data))
