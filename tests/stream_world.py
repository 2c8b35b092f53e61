"""A small market for tests of the stream: real board, real packets, real bus; only the listing is made up.

NIFTY (index, weekly chain of 101 strikes and a future) and RELIANCE (cash line, chain of 25). ``World.tick`` sends
packets through the real decoder; ``World.round`` runs one round of the publisher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson

from app.bus.memory import MemoryBus
from app.core.errors import ExpiryUnknown, InstrumentUnknown
from app.core.ids import (
    Exchange,
    InstrumentKey,
    InstrumentKind,
    OptionType,
    Segment,
    format_expiry,
    format_strike,
    parse_expiry,
)
from app.core.instruments import Instrument
from app.core.packets import DepthLevel, Full, Packet, PrevClose, Quote, ltt_from_utc
from app.core.sessions import Calendar
from app.dhan.codec import encode_packet
from app.dhan.decoder import write_frame
from app.market.atm_engine import ATMEngine, ChainId
from app.market.chain_view import ChainView
from app.market.facts import StateReader
from app.market.live_prices import LivePrices
from app.stream.desk import Desk
from app.stream.face import Face
from app.stream.hub import Client, Hub, HubSettings
from app.stream.opener import Opener
from app.stream.publisher import Publisher, PublisherSettings
from app.stream.topics import Format

IST = ZoneInfo("Asia/Kolkata")
DAY = date(2026, 2, 26)
START_MS = 1_771_993_800_000  # 2026-02-25 10:00 IST
NIFTY_CHAIN = ChainId("NIFTY", DAY, Exchange.NSE)


@dataclass
class TestClock:
    """Stands still until moved; ``monotonic`` goes along."""

    __test__ = False
    at_ms: int = START_MS

    def now_ms(self) -> int:
        return self.at_ms

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_ms / 1000, IST)

    def monotonic(self) -> float:
        return self.at_ms / 1000


@dataclass(frozen=True)
class Ladder:
    symbol: str
    exchange: Exchange
    expiry: date
    strikes: tuple[float, ...]
    step: float
    ce: tuple[InstrumentKey | None, ...]
    pe: tuple[InstrumentKey | None, ...]


def instrument(segment: Segment, number: int, token: str, kind: InstrumentKind, symbol: str, **more: Any) -> Instrument:
    return Instrument(
        InstrumentKey(segment, number), token, kind, Exchange.NSE, symbol, symbol, 75, more.pop("tick", 0.05), **more
    )


NIFTY = instrument(Segment.IDX_I, 13, "NIFTY_IDX", InstrumentKind.INDEX, "NIFTY")
RELIANCE = instrument(Segment.NSE_EQ, 2885, "RELIANCE_EQ", InstrumentKind.EQUITY, "RELIANCE")
FUTURE = instrument(Segment.NSE_FNO, 9_000, "NIFTY_26FEB2026_FUT", InstrumentKind.FUTURE, "NIFTY", expiry=DAY)


class Listing:
    """What the registry answers, for this small market."""

    def __init__(self) -> None:
        self.revision = 1
        self.by_name = {each.token: each for each in (NIFTY, RELIANCE, FUTURE)}
        self.ladders: dict[str, Ladder] = {}
        self._list("NIFTY", 20_000, 50.0, 201)
        self._list("RELIANCE", 30_000, 20.0, 61, first=2_000.0)
        self.by_key = {each.key: each for each in self.by_name.values()}

    def _list(self, symbol: str, number: int, step: float, size: int, first: float = 20_000.0) -> None:
        strikes = tuple(first + step * place for place in range(size))
        sides: dict[OptionType, list[InstrumentKey | None]] = {OptionType.CE: [], OptionType.PE: []}
        for place, strike in enumerate(strikes):
            for side, keys in sides.items():
                token = f"{symbol}_{format_expiry(DAY)}_{format_strike(strike)}{side}"
                leg = instrument(
                    Segment.NSE_FNO, number + 2 * place + (side is OptionType.PE), token, InstrumentKind.OPTION, symbol,
                    expiry=DAY, strike=strike, option_type=side,
                )  # fmt: skip
                self.by_name[token] = leg
                keys.append(leg.key)
        sides[OptionType.PE][0] = None  # one leg that is not listed
        ce, pe = (tuple(sides[side]) for side in (OptionType.CE, OptionType.PE))
        self.ladders[symbol] = Ladder(symbol, Exchange.NSE, DAY, strikes, step, ce, pe)

    def resolve_symbol(self, text: str) -> str:
        symbol = text.strip().upper()
        if symbol not in self.ladders:
            raise InstrumentUnknown(f"no such symbol: {symbol}")
        return symbol

    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> Ladder:
        day = expiry if isinstance(expiry, date) else parse_expiry(expiry)
        if day != DAY:
            raise ExpiryUnknown(f"{symbol} lists no {format_expiry(day)}", valid=[format_expiry(DAY)])
        return self.ladders[symbol]

    def index(self, symbol: str) -> Instrument | None:
        return NIFTY if symbol == "NIFTY" else None

    def get(self, key: InstrumentKey) -> Instrument | None:
        return self.by_key.get(key)

    def get_all(self, keys: Sequence[InstrumentKey]) -> list[Instrument | None]:
        return [self.get(key) for key in keys]

    def by_token(self, token: str) -> Instrument:
        if token not in self.by_name:
            raise InstrumentUnknown(f"no such token: {token}")
        return self.by_name[token]

    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None:
        return {"NIFTY": NIFTY, "RELIANCE": RELIANCE}[symbol]

    def futures(self, symbol: str, exchange: str | None = None) -> list[Instrument]:
        return [FUTURE] if symbol == "NIFTY" else []


class Books:
    """Wishes and wires as one: what is subscribed was sent at once."""

    def __init__(self, prices: LivePrices, clock: TestClock) -> None:
        self.revision = 0
        self.owned: set[InstrumentKey] = set()
        self.evicted: set[InstrumentKey] = set()
        self.sent_ms = np.zeros(prices.slots, dtype=np.int64)
        self.slot_lost_ms = np.zeros(prices.slots, dtype=np.int64)
        self.asked_ms, self.repeats = self.sent_ms, np.zeros(prices.slots, dtype=np.int64)
        self._prices = prices
        self._clock = clock

    def subscribe(self, *instruments: Instrument) -> None:
        for each in instruments:
            slot = self._prices.track(each)
            self._prices.buffers.socket_of[slot] = 0
            self.sent_ms[slot] = self._clock.now_ms()
            self.owned.add(each.key)
        self.revision += 1

    def unsubscribe(self, *instruments: Instrument) -> None:
        for each in instruments:
            self._prices.untrack(each.key)
            self.owned.discard(each.key)
        self.revision += 1

    def is_owned(self, key: InstrumentKey) -> bool:
        return key in self.owned

    def is_evicted(self, key: InstrumentKey) -> bool:
        return key in self.evicted


def level(price: float) -> tuple[DepthLevel, ...]:
    empty = DepthLevel(0, 0, 0, 0, 0.0, 0.0)
    return (DepthLevel(65, 130, 1, 2, price - 0.05, price + 0.05), empty, empty, empty, empty)


class LossyBus(MemoryBus):
    """Loses the next message of a subject where it is told to, as a bus between machines may."""

    def __init__(self) -> None:
        super().__init__()
        self._doomed: set[str] = set()

    def lose_next(self, subject: str) -> None:
        self._doomed.add(subject)

    def heal(self) -> None:
        self._doomed.clear()

    def publish(self, subject: str, payload: bytes) -> None:
        if subject in self._doomed:
            self._doomed.remove(subject)
        else:
            super().publish(subject, payload)


class World:
    """Everything from the board to the hub, driven by hand."""

    def __init__(self, hub_settings: HubSettings | None = None, clock: Any = None) -> None:
        self.clock = clock or TestClock()
        self.listing = Listing()
        self.prices = LivePrices(slots=1_024)
        self.prices.set_latching([Segment.NSE_FNO, Segment.NSE_EQ, Segment.IDX_I])
        self.books = Books(self.prices, self.clock)
        self.calendar = Calendar([], IST, always_open=True)
        self.engine = ATMEngine(self.listing, self.clock)
        self.reader = StateReader(self.prices, self.books, self.books, self.calendar, self.clock)
        self.view = ChainView(self.listing, self.engine, self.prices, self.calendar)
        self.face = Face(self.prices, self.reader, self.clock)
        self.desk = Desk(self.view, self.face, self.clock, self.calendar)
        self.lists: dict[int, dict[str, Instrument]] = {}
        self.status: dict[str, object] = {"subscriptions": {"total_subscriptions": 0}}
        self.opener = Opener(
            self.listing, self.engine, self.prices, self.face, self.desk,
            watchlist=lambda user_id, name: self.lists.get(user_id, {}), status=lambda: dict(self.status),
        )  # fmt: skip
        self.bus = LossyBus()
        self.shown: list[ChainId] = []
        self.lists_shown: list[int] = []
        self.publisher = Publisher(
            self.prices, self.face, self.desk, self.opener, self.bus, self.clock,
            PublisherSettings(life_s=1_770_000_000), screens=self,
        )  # fmt: skip
        self.hub = Hub(self.bus, self.clock, self.opener.check, hub_settings)

    def touch_shown(self, chains: Iterable[ChainId]) -> None:
        self.shown.extend(chains)

    def touch_entries(self, user_id: int, list_name: str | None = None) -> None:
        self.lists_shown.append(user_id)

    @classmethod
    async def opened(cls) -> World:
        """A world whose bus carries, started."""
        made = cls()
        await made.bus.start()
        return made.start()

    def start(self) -> World:
        asyncio.run(self.bus.start()) if not _in_loop() else None
        self.publisher.start()
        self.hub.start()
        return self

    def leg(self, strike: float, side: str = "CE", symbol: str = "NIFTY") -> Instrument:
        return self.listing.by_token(f"{symbol}_26FEB2026_{format_strike(strike)}{side}")

    def tick(self, leg: Instrument, ltp: float, *, oi: int = 1_000, volume: int = 10, close: float = 100.0) -> None:
        ltt = ltt_from_utc(self.clock.now_ms() // 1000)
        packet: Packet
        if leg.kind is InstrumentKind.INDEX:
            packet = Quote(leg.key, ltp, 0, ltt, 0.0, 0, 0, 0, ltp, 0.0, ltp, ltp)
        else:
            packet = Full(
                leg.key, ltp, 75, ltt, ltp, volume, 600, 500, oi, oi, oi, ltp, close, ltp, ltp, level(ltp)
            )  # fmt: skip
        self.send(packet)

    def previous_close(self, leg: Instrument, price: float) -> None:
        self.send(PrevClose(leg.key, price, 0))

    def send(self, packet: Packet) -> None:
        write_frame(self.prices.buffers, 0, encode_packet(packet), self.clock.now_ms())

    def round(self, times: int = 1, *, ms: int = 100) -> None:
        for _ in range(times):
            self.clock.at_ms += ms
            for _ in self.publisher.round():
                pass

    def join(self, user_id: int = 1, *, is_admin: bool = True, form: Format = Format.JSON) -> Reader:
        return Reader(self, self.hub.join(user_id, is_admin, form, lambda: None))


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@dataclass
class Reader:
    """A client of the hub that reads when told to."""

    world: World
    client: Client
    raw: list[bytes] = field(default_factory=list)

    def watch(self, *topics: str, hz: float | None = 10) -> None:
        self.world.hub.subscribe(self.client, topics, hz)

    def read(self, limit: int = 10_000) -> list[dict[str, Any]]:
        """Every message waiting, or the first ``limit``; packed frames are left in ``raw``."""
        told = []
        for _ in range(limit):
            messages = self.world.hub.next_messages(self.client)
            if not messages:
                break
            for message in messages:
                if message[:1] == b"{":
                    told.append(orjson.loads(message))
                else:
                    self.raw.append(message)
        return told


@dataclass
class Mirror:
    """What a client believes, built from the messages alone."""

    seq: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "snapshot":
            self.data = message["data"]
        else:
            assert message["type"] == "delta"
            assert message["seq"] == self.seq + 1, "a delta has to follow what was taken before"
            rows = self.data.get("rows", {})
            for token, cells in message["data"].pop("rows", {}).items():
                rows[token].update(cells)
            self.data = merge(self.data, message["data"])
        self.seq = message["seq"]


def merge(doc: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """Members replace, objects merge."""
    merged = dict(doc)
    for name, value in delta.items():
        held = merged.get(name)
        merged[name] = merge(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged
