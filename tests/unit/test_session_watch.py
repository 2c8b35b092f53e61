"""Session start, trading, session end: what the board and the people are told."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from app.core.ids import Exchange, InstrumentKey, InstrumentKind, OptionType, Segment
from app.core.instruments import Instrument
from app.core.packets import DepthLevel, Full, ltt_from_utc
from app.core.sessions import Calendar, parse_exchange_days
from app.dhan.codec import encode_packet
from app.dhan.decoder import write_frame
from app.market.events import Event
from app.market.live_prices import BOARD_SLOTS, LivePrices
from app.market.session_watch import SessionWatch
from app.market.silence_watch import SilenceWatch

IST = ZoneInfo("Asia/Kolkata")
LEG = Instrument(
    key=InstrumentKey(Segment.NSE_FNO, 47317),
    token="NIFTY_10FEB2026_25000CE",
    kind=InstrumentKind.OPTION,
    exchange=Exchange.NSE,
    symbol="NIFTY",
    name="NIFTY 10 FEB 25000 CALL",
    lot_size=65,
    tick=0.05,
    expiry=date(2026, 2, 10),
    strike=25000.0,
    option_type=OptionType.CE,
)


class DayClock:
    def __init__(self, text: str) -> None:
        self.at = datetime.fromisoformat(text).replace(tzinfo=IST)

    def now(self) -> datetime:
        return self.at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def monotonic(self) -> float:
        return self.at.timestamp()


class Wires:
    """Connections that were never lost, unless a test says so."""

    def __init__(self) -> None:
        self.sent_ms = self.asked_ms = self.repeats = np.zeros(BOARD_SLOTS, dtype=np.int64)
        self.slot_lost_ms = np.zeros(BOARD_SLOTS, dtype=np.int64)


class Day:
    """A board with one leg, watched through a day."""

    def __init__(self, start: str) -> None:
        folder = files("app.core") / "calendars"
        days = [parse_exchange_days((folder / f"{name}.toml").read_text()) for name in ("nse", "bse", "mcx")]
        self.clock = DayClock(start)
        self.board = LivePrices()
        self.wires = Wires()
        self.board.buffers.socket_of[self.board.track(LEG)] = 0
        self.events: list[Event] = []
        self.kept: list[tuple[Segment, date]] = []
        self.follow(Calendar(days, IST))

    def follow(self, calendar: Calendar) -> None:
        self.watch = SessionWatch(
            self.board,
            self.wires,
            calendar,
            self.clock,
            self.events.append,
            lambda segment, day: self.kept.append((segment, day)),
            SilenceWatch(self.board, self.wires, calendar, self.clock, self.events.append, least_s=30.0),
        )

    def go_to(self, text: str) -> None:
        self.clock.at = datetime.fromisoformat(text).replace(tzinfo=IST)
        self.watch.look()

    def packet(self, close_raw: float, oi: int) -> None:
        ltt = ltt_from_utc(self.clock.at.timestamp())
        level = DepthLevel(65, 65, 1, 1, 99.95, 100.05)
        full = Full(LEG.key, 100.0, 65, ltt, 100.0, 1000, 1, 1, oi, oi, oi, 99.0, close_raw, 101.0, 98.0, (level,) * 5)
        write_frame(self.board.buffers, 0, encode_packet(full), self.clock.now_ms())

    def prev_close(self) -> float:
        return float(self.board.columns([self.board.slot(LEG.key) or 0]).column("prev_close")[0])

    def oi_change(self) -> float:
        return float(self.board.columns([self.board.slot(LEG.key) or 0]).column("oi_change")[0])


def test_the_previous_close_is_latched_in_session_and_not_after_it() -> None:
    day = Day("2026-02-03T08:00:00")
    day.watch.look()
    day.go_to("2026-02-03T09:20:00")
    day.packet(close_raw=95.0, oi=1000)
    assert day.prev_close() == 95.0
    day.go_to("2026-02-03T15:45:00")
    day.packet(close_raw=100.0, oi=1200)  # after hours the field has become today's close
    assert day.prev_close() == 95.0
    day.go_to("2026-02-04T09:16:00")
    day.packet(close_raw=100.0, oi=1500)
    assert day.prev_close() == 100.0
    assert day.oi_change() == 300  # against where the last session ended


def close_of_day(day: Day) -> None:
    """Look each second while the session closes, then on to the next morning."""
    for at in ("15:29:59", "15:30:00", "15:30:01"):
        day.go_to(f"2026-02-03T{at}")
    day.go_to("2026-02-04T09:16:00")


def test_a_session_ends_at_what_stood_at_its_close() -> None:
    day = Day("2026-02-03T09:20:00")
    day.watch.look()
    day.packet(close_raw=95.0, oi=1000)
    close_of_day(day)
    day.packet(close_raw=100.0, oi=1500)
    assert day.oi_change() == 500, "silent since the morning, on a connection that was there all day"


def test_where_the_feed_went_away_at_noon_is_not_where_the_session_ended() -> None:
    day = Day("2026-02-03T12:00:00")
    day.watch.look()
    day.packet(close_raw=95.0, oi=1000)
    day.wires.slot_lost_ms[:] = day.clock.now_ms()
    close_of_day(day)
    day.packet(close_raw=100.0, oi=1500)
    assert day.oi_change() != day.oi_change(), "unknown"


def test_a_machine_that_slept_from_noon_to_the_next_day_knows_no_end_of_the_session() -> None:
    day = Day("2026-02-03T12:00:00")
    day.watch.look()
    day.packet(close_raw=95.0, oi=1000)
    day.go_to("2026-02-04T09:30:00")
    day.packet(close_raw=100.0, oi=1500)
    assert day.oi_change() != day.oi_change(), "unknown"


def test_started_after_hours_nothing_is_latched() -> None:
    day = Day("2026-02-03T18:00:00")
    day.watch.look()
    day.packet(close_raw=100.0, oi=1200)
    assert day.prev_close() != day.prev_close()  # not a number: unknown


def test_each_phase_is_told_once_per_segment() -> None:
    day = Day("2026-02-03T08:00:00")
    moment = day.clock.at
    while moment < datetime(2026, 2, 4, 1, 0, tzinfo=IST):
        day.clock.at = moment
        day.watch.look()
        moment += timedelta(minutes=1)
    told = [(event.data["segment"], event.data["phase"]) for event in day.events if event.data["segment"] == "NSE_FNO"]
    assert told == [("NSE_FNO", "PRE_OPEN"), ("NSE_FNO", "OPEN"), ("NSE_FNO", "CLOSED")]
    assert {event.kind for event in day.events} == {"session"}
    assert day.kept.count((Segment.NSE_FNO, date(2026, 2, 3))) == 1


def test_a_calendar_without_closing_rolls_over_at_midnight() -> None:
    day = Day("2026-02-03T23:59:59")
    day.follow(Calendar([], IST, always_open=True))
    day.watch.look()
    day.packet(close_raw=95.0, oi=1000)
    day.go_to("2026-02-04T00:00:00")
    assert (Segment.NSE_FNO, date(2026, 2, 3)) in day.kept
    assert day.events == [], "nothing opened or closed"
    day.packet(close_raw=100.0, oi=1100)
    assert day.prev_close() == 100.0
    assert day.oi_change() == 100


@pytest.mark.parametrize("segment", [Segment.MCX_COMM, Segment.NSE_FNO])
def test_latching_follows_each_segment_on_its_own(segment: Segment) -> None:
    day = Day("2026-02-03T18:00:00")  # NSE is closed, MCX trades
    day.watch.look()
    assert day.board.buffers.latching[segment] == (segment is Segment.MCX_COMM)
