"""A board of instruments that tick as they like, and the real judge of their silence; time in the test's hands."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.core.packets import Ticker
from app.core.sessions import Calendar, parse_exchange_days
from app.dhan.codec import encode_packet
from app.dhan.decoder import write_frame
from app.market.events import Event
from app.market.facts import StateReader
from app.market.live_prices import LivePrices
from app.market.silence_watch import SilenceWatch

IST = ZoneInfo("Asia/Kolkata")
LEAST_S = 30.0


def real_calendar() -> Calendar:
    folder = files("app.core") / "calendars"
    return Calendar([parse_exchange_days((folder / f"{name}.toml").read_text()) for name in ("nse", "bse", "mcx")], IST)


class QuietMarket:
    """``segments[i]`` is the segment of instrument ``i``; all are subscribed, on one connection."""

    def __init__(self, segments: list[Segment], start: str, calendar: Calendar | None = None) -> None:
        self.at = datetime.fromisoformat(start).replace(tzinfo=IST)
        self.calendar = calendar or real_calendar()
        self.board = LivePrices(slots=max(8, len(segments)), connections=1)
        self.instruments = [_instrument(number, segment) for number, segment in enumerate(segments, start=1)]
        slots = [self.board.track(each) for each in self.instruments]
        self.sent_ms = np.full(self.board.slots, self.now_ms(), dtype=np.int64)
        self.slot_lost_ms = np.zeros(self.board.slots, dtype=np.int64)
        self.asked_ms, self.repeats = self.sent_ms, np.zeros(self.board.slots, dtype=np.int64)
        for slot in slots:
            self.board.buffers.socket_of[slot] = 0
        self.told: list[Event] = []
        self.watch = SilenceWatch(self.board, self, self.calendar, self, self.told.append, LEAST_S)
        self.reader = StateReader(self.board, self, self, self.calendar, self)
        self._packets = [encode_packet(Ticker(each.key, 100.0, 1)) for each in self.instruments]

    # a clock
    def now(self) -> datetime:
        return self.at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def monotonic(self) -> float:
        return self.at.timestamp()

    # wishes
    revision = 0

    def is_owned(self, key: InstrumentKey) -> bool:
        return True

    def is_evicted(self, key: InstrumentKey) -> bool:
        return False

    def second(self, ticking: npt.NDArray[np.intp] | list[int]) -> None:
        """One second passes; these instruments tick."""
        self.at += timedelta(seconds=1)
        if len(ticking):
            write_frame(self.board.buffers, 0, b"".join(self._packets[each] for each in ticking), self.now_ms())
            self.board.take_dirty()
        self.watch.look()

    def states(self) -> list[str]:
        return [str(state) for state in self.reader.states(self.instruments)]


def _instrument(number: int, segment: Segment) -> Instrument:
    kind = InstrumentKind.INDEX if segment is Segment.IDX_I else InstrumentKind.EQUITY
    return Instrument(InstrumentKey(segment, number), f"S{number}_EQ", kind, Exchange.NSE, f"S{number}", "", 1, 0.05)
