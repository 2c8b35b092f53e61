"""A small listed world for tests of the simulated exchange: one of each kind of underlying, with chains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Mode, OptionType, Segment
from app.core.instruments import Instrument
from app.core.packets import Packet
from app.dhan.codec import decode, encode_subscribe

NOW_S = datetime(2026, 2, 3, 5, 0, tzinfo=UTC).timestamp()  # 10:30 IST on a Tuesday
EXPIRY = date(2026, 2, 24)
NIFTY = InstrumentKey(Segment.IDX_I, 13)
NIFTY_FUTURE = InstrumentKey(Segment.NSE_FNO, 50_001)
RELIANCE = InstrumentKey(Segment.NSE_EQ, 2885)
CRUDE_FUTURE = InstrumentKey(Segment.MCX_COMM, 60_001)
TARGET = "/?version=2&token=secret&clientId=1000000001&authType=2"


@dataclass
class World:
    """A directory (``app.sim.prices.Directory``) held in dictionaries."""

    listed: dict[InstrumentKey, Instrument] = field(default_factory=dict)
    underlying: dict[InstrumentKey, InstrumentKey] = field(default_factory=dict)
    reference: dict[InstrumentKey, float] = field(default_factory=dict)

    def instrument(self, key: InstrumentKey) -> Instrument | None:
        return self.listed.get(key)

    def underlying_of(self, instrument: Instrument) -> Instrument | None:
        key = self.underlying.get(instrument.key)
        return None if key is None else self.listed[key]

    def reference_price(self, underlying: Instrument) -> float:
        return self.reference[underlying.key]

    def add(
        self,
        key: InstrumentKey,
        kind: InstrumentKind,
        symbol: str,
        *,
        tick: float = 0.05,
        lot: int = 1,
        expiry: date | None = None,
        strike: float | None = None,
        option_type: OptionType | None = None,
        underlying: InstrumentKey | None = None,
        reference: float | None = None,
    ) -> InstrumentKey:
        exchange = Exchange(key.segment.name[:3]) if key.segment is not Segment.IDX_I else Exchange.NSE
        token = f"{symbol}_{key.security_id}"
        self.listed[key] = Instrument(
            key, token, kind, exchange, symbol, symbol, lot, tick, expiry, strike, option_type
        )
        if underlying is not None:
            self.underlying[key] = underlying
        if reference is not None:
            self.reference[key] = reference
        return key

    def options(self) -> list[InstrumentKey]:
        return [key for key, listed in self.listed.items() if listed.kind is InstrumentKind.OPTION]


def add_chain(
    world: World,
    underlying: InstrumentKey,
    first_id: int,
    strikes: Iterable[float],
    *,
    tick: float = 0.05,
    lot: int = 65,
) -> list[InstrumentKey]:
    symbol = world.listed[underlying].symbol
    segment = Segment.MCX_COMM if underlying.segment is Segment.MCX_COMM else Segment.NSE_FNO
    legs = [(strike, side) for strike in strikes for side in OptionType]
    return [
        world.add(
            InstrumentKey(segment, first_id + place),
            InstrumentKind.OPTION,
            symbol,
            tick=tick,
            lot=lot,
            expiry=EXPIRY,
            strike=strike,
            option_type=side,
            underlying=underlying,
        )
        for place, (strike, side) in enumerate(legs)
    ]


def small_world() -> World:
    world = World()
    world.add(NIFTY, InstrumentKind.INDEX, "NIFTY", reference=25_000.0)
    world.add(NIFTY_FUTURE, InstrumentKind.FUTURE, "NIFTY", tick=0.1, lot=65, expiry=EXPIRY, underlying=NIFTY)
    add_chain(world, NIFTY, 40_001, range(23_500, 26_550, 50))
    world.add(RELIANCE, InstrumentKind.EQUITY, "RELIANCE", tick=0.1, reference=2_640.0)
    add_chain(world, RELIANCE, 45_001, range(2_400, 2_900, 20), lot=500)
    world.add(CRUDE_FUTURE, InstrumentKind.FUTURE, "CRUDEOIL", tick=1.0, expiry=EXPIRY, reference=6_000.0)
    add_chain(world, CRUDE_FUTURE, 61_001, range(5_500, 6_550, 50), tick=0.1, lot=1)
    return world


def big_world(instruments: int) -> World:
    """``instruments`` options over many underlyings, as many as one needs to fill the feed."""
    world = World()
    number = 0
    while len(world.listed) < instruments:
        number += 1
        spot = world.add(InstrumentKey(Segment.NSE_EQ, number), InstrumentKind.EQUITY, f"S{number}", reference=1_000.0)
        room = instruments - len(world.listed)
        strikes = [800.0 + 4.0 * step for step in range(min(101, (room + 1) // 2))]
        for extra in add_chain(world, spot, 100_000 + number * 1_000, strikes)[room:]:
            del world.listed[extra]
    return world


def subscribe_texts(keys: Sequence[InstrumentKey], mode: Mode = Mode.FULL) -> list[str]:
    return [encode_subscribe(keys[start : start + 100], mode) for start in range(0, len(keys), 100)]


def oversized_text(keys: Sequence[InstrumentKey]) -> str:
    listed = [{"ExchangeSegment": key.segment.name, "SecurityId": str(key.security_id)} for key in keys]
    return json.dumps({"RequestCode": 21, "InstrumentCount": len(listed), "InstrumentList": listed})


def packets_of(frames: Iterable[bytes]) -> list[Packet]:
    return [packet for frame in frames for packet in decode(frame)]
