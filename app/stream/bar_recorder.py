"""Looks at prices each second and at chains each minute, and keeps what it sees as one-minute bars."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import date, datetime

from app.core.errors import TerminalError
from app.core.ids import InstrumentKind, Segment, format_expiry
from app.core.instruments import Instrument
from app.core.sessions import Calendar, Phase, Session
from app.market.atm_engine import ChainId
from app.market.live_prices import LivePrices
from app.ports.clock import Clock
from app.stream.desk import Desk
from app.stream.minute_bars import AGGREGATES, MINUTE_MS, BarBook, ChainName

LOOK_S = 1.0
LEGS_A_STEP = 1_000  # some 2 ms
_SUMMARY_NAMES = {"ce_oi": "total_ce_oi", "pe_oi": "total_pe_oi"}


class BarRecorder:
    """Fills a :class:`BarBook` from the board and the desk; subscribes nothing.

    ``owned`` gives the subscribed instruments: of options it is kept what their chains say, of all others the price.
    """

    def __init__(
        self,
        book: BarBook,
        board: LivePrices,
        desk: Desk,
        owned: Callable[[], Iterable[Instrument]],
        calendar: Calendar,
        clock: Clock,
    ) -> None:
        self._book = book
        self._board = board
        self._desk = desk
        self._owned = owned
        self._calendar = calendar
        self._clock = clock
        self._drivers: list[Instrument] = []
        self._chains: dict[ChainId, Segment] = {}
        self._minute_ms = 0

    async def run(self) -> None:
        """Until cancelled."""
        await self.look_around()
        while True:
            await asyncio.sleep(LOOK_S)
            minute_ms = self._clock.now_ms() // MINUTE_MS * MINUTE_MS
            if self._minute_ms and minute_ms > self._minute_ms:
                await self.close_minute(self._minute_ms)
                await self.look_around()
            self._minute_ms = minute_ms
            self.see_prices(minute_ms)

    def see_prices(self, minute_ms: int) -> None:
        """Take the price of every driver that had a packet in this minute of its session, and a trade in that."""
        slots = [slot if (slot := self._board.slot(each.key)) is not None else -1 for each in self._drivers]
        columns = self._board.columns(slots)
        prices, traded_ms = columns.column("ltp").tolist(), columns.column("ltt_ms").tolist()
        at = self._clock.now().astimezone(self._calendar.zone)
        open_now, day = self._segments_in_session(at), at.date()
        seen = zip(self._drivers, prices, traded_ms, columns.last_ms.tolist(), strict=True)
        for driver, price, trade_ms, seen_ms in seen:
            session = open_now.get(driver.key.segment)
            # Before its first trade of the day an instrument tells the last one of the day before.
            if session and seen_ms >= minute_ms and price > 0.0 and not trade_ms < session.begin_ms:
                self._book.see_price(driver.token, day, minute_ms, price)

    async def close_minute(self, minute_ms: int) -> None:
        """Note what every subscribed chain that was in session then says, by the numbers of the screens."""
        at = datetime.fromtimestamp(minute_ms / 1000, self._calendar.zone)  # the last minute ends with its session
        open_then, day = self._segments_in_session(at), at.date()
        for chain, segment in self._chains.items():
            if segment in open_then:
                self._note(chain, day, minute_ms)
                await asyncio.sleep(0)  # a few ms each

    def _note(self, chain: ChainId, day: date, minute_ms: int) -> None:
        try:
            summary = self._desk.acquire(chain).summary
        except TerminalError:
            return  # listed no longer
        self._desk.release(chain)
        told = {name: _number(summary[_SUMMARY_NAMES.get(name, name)]) for name in AGGREGATES}
        name = ChainName(chain.symbol, format_expiry(chain.expiry), str(chain.exchange))
        self._book.close_minute(name, day, minute_ms, told)

    async def look_around(self) -> None:
        """Who is subscribed by now."""
        drivers: list[Instrument] = []
        chains: dict[ChainId, Segment] = {}
        for number, listed in enumerate(list(self._owned())):
            if number % LEGS_A_STEP == 0:
                await asyncio.sleep(0)
            if listed.kind is not InstrumentKind.OPTION:
                drivers.append(listed)
            elif listed.expiry is not None:
                chains[ChainId(listed.symbol, listed.expiry, listed.exchange)] = listed.key.segment
        self._drivers, self._chains = drivers, chains

    def _segments_in_session(self, at: datetime) -> dict[Segment, Session]:
        trading = (each for each in Segment if self._calendar.phase(each, at) is not Phase.CLOSED)
        return {each: session for each in trading if (session := self._calendar.latest_session(each, at)) is not None}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
