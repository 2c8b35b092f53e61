"""Turns the calendar into what board and people need: latching, new sessions, notices of open, close and silence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

from app.core.ids import Segment
from app.core.sessions import EXCHANGE_OF, Calendar, Phase, Session
from app.market.events import Event, Notify
from app.market.facts import Wires
from app.market.live_prices import LivePrices
from app.market.silence_watch import SilenceWatch
from app.ports.clock import Clock

KeepOpenInterest = Callable[[Segment, date], None]
SLEPT = timedelta(seconds=10)  # between two looks: what happened meanwhile was not seen


class SessionWatch:
    """Call :meth:`look` each second. ``keep_oi(segment, day)`` is told when that day's session is over."""

    def __init__(
        self,
        board: LivePrices,
        wires: Wires,
        calendar: Calendar,
        clock: Clock,
        notify: Notify,
        keep_oi: KeepOpenInterest,
        silences: SilenceWatch,
    ) -> None:
        self._board = board
        self._wires = wires
        self._calendar = calendar
        self._clock = clock
        self._notify = notify
        self._keep_oi = keep_oi
        self._silences = silences
        self._phases: dict[Segment, tuple[Phase, Session | None]] = {}
        self._looked_at: datetime | None = None
        self._did_sleep = False

    def look(self) -> None:
        now, looked_at = self._clock.now(), self._looked_at
        self._did_sleep = looked_at is None or not timedelta(0) <= now - looked_at <= SLEPT
        self._looked_at = now
        for segment in Segment:
            self._look_at(segment, now)
        self._board.set_latching(segment for segment, (phase, _) in self._phases.items() if phase is not Phase.CLOSED)
        self._silences.look()

    def _look_at(self, segment: Segment, now: datetime) -> None:
        phase = self._calendar.phase(segment, now)
        session = None if phase is Phase.CLOSED else self._calendar.latest_session(segment, now)
        known = self._phases.get(segment)
        self._phases[segment] = (phase, session)
        if known is None:
            return
        if known[1] is not None and session != known[1]:
            self._end(segment, known[1])
        if session is not None and session != known[1]:
            before = self._calendar.session_before(segment, session)
            self._board.new_session(segment, None if before is None else before.close_ms)
        if phase is not known[0]:
            self._tell(segment, phase, now)

    def _end(self, segment: Segment, session: Session) -> None:
        self._board.end_session(segment, session.close_ms, None if self._did_sleep else self._wires.slot_lost_ms)
        self._keep_oi(segment, session.day)

    def _tell(self, segment: Segment, phase: Phase, now: datetime) -> None:
        change = self._calendar.next_change(segment, now)
        data: dict[str, object] = {
            "segment": segment.name,
            "exchange": str(EXCHANGE_OF[segment]),
            "phase": str(phase),
            "next_change": change.isoformat() if change else None,
        }
        self._notify(Event("session", self._clock.now_ms(), None, data))
