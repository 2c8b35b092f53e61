"""The official SDK's decoder and ours read the same bytes alike, packet type by packet type."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from dhanhq.marketfeed import MarketFeed

from app.core.ids import InstrumentKey, Mode, Segment
from app.core.packets import DepthLevel, Full, OpenInterest, Packet, PrevClose, Quote, Ticker
from app.dhan.codec import Subscribe, decode, encode_packet, parse_command
from tests.fixtures.boards import NOW_MS, random_packet

SEEDS = range(60)
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")  # the SDK's, since Python 3.12


@pytest.fixture
def sdk() -> MarketFeed:
    return MarketFeed.__new__(MarketFeed)  # its constructor would make an event loop; its readers need no state


def price(value: float) -> str:
    return f"{value:.2f}"


def clock(ltt: int) -> str:
    return datetime.fromtimestamp(ltt, tz=UTC).strftime("%H:%M:%S")


def head(kind: str, key: InstrumentKey) -> dict[str, object]:
    return {"type": kind, "exchange_segment": int(key.segment), "security_id": key.security_id}


def trade(packet: Quote | Full) -> dict[str, object]:
    return {
        "LTP": price(packet.ltp),
        "LTQ": packet.ltq,
        "LTT": clock(packet.ltt),
        "avg_price": price(packet.atp),
        "volume": packet.volume,
        "total_sell_quantity": packet.total_sell_qty,
        "total_buy_quantity": packet.total_buy_qty,
        "open": price(packet.open),
        "close": price(packet.close_raw),
        "high": price(packet.high),
        "low": price(packet.low),
    }


def level(entry: DepthLevel) -> dict[str, object]:
    return {
        "bid_quantity": entry.bid_qty,
        "ask_quantity": entry.ask_qty,
        "bid_orders": entry.bid_orders,
        "ask_orders": entry.ask_orders,
        "bid_price": price(entry.bid_price),
        "ask_price": price(entry.ask_price),
    }


def in_sdk_words(packet: Packet) -> dict[str, object]:
    match packet:
        case Ticker():
            return head("Ticker Data", packet.key) | {"LTP": price(packet.ltp), "LTT": clock(packet.ltt)}
        case PrevClose():
            before = {"prev_close": price(packet.prev_close), "prev_OI": packet.prev_oi}
            return head("Previous Close", packet.key) | before
        case OpenInterest():
            return head("OI Data", packet.key) | {"OI": packet.oi}
        case Quote():
            return head("Quote Data", packet.key) | trade(packet)
        case Full():
            oi = {"OI": packet.oi, "oi_day_high": packet.oi_high, "oi_day_low": packet.oi_low}
            return head("Full Data", packet.key) | trade(packet) | oi | {"depth": [level(x) for x in packet.depth]}
    raise AssertionError(packet)


@pytest.mark.parametrize("kind", [Ticker, PrevClose, Quote, OpenInterest, Full])
def test_both_decoders_tell_the_same(sdk: Any, kind: type[Packet]) -> None:
    rng = random.Random(kind.__name__)
    compared = 0
    while compared < len(SEEDS):
        packet = random_packet(rng, NOW_MS)
        if not isinstance(packet, kind):
            continue
        frame = encode_packet(packet)
        (ours,) = decode(frame)
        assert sdk.process_data(frame) == in_sdk_words(ours)
        compared += 1


async def test_what_the_sdk_sends_is_a_command(sdk: Any) -> None:
    sent: list[str] = []

    class Wire:
        async def send(self, text: str) -> None:
            sent.append(text)

    sdk.version, sdk.ws, sdk.instruments = (
        "v2",
        Wire(),
        [(MarketFeed.BSE_FNO, str(n), MarketFeed.Full) for n in range(150)],
    )
    await sdk.subscribe_instruments()
    commands = [parse_command(text) for text in sent]
    assert all(isinstance(command, Subscribe) and command.mode is Mode.FULL for command in commands)
    asked = {key for command in commands if isinstance(command, Subscribe) for key in command.keys}
    assert asked == {InstrumentKey(Segment.BSE_FNO, n) for n in range(150)}
