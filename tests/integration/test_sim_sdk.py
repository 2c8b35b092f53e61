"""The official ``dhanhq`` SDK, pointed at the simulator, connects, subscribes and decodes what was sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dhanhq import DhanContext, MarketFeed

from app.core.ids import InstrumentKey
from app.core.packets import Full, Packet, PrevClose, Quote
from app.dhan.codec import decode
from app.sim.exchange import ExchangeConfig
from app.sim.prices import MarketShape
from app.sim.server import ServerConfig, running
from tests.integration.test_sim_server import WallClock
from tests.sim.world import NIFTY, NIFTY_FUTURE, RELIANCE, small_world

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")  # the SDK's, since Python 3.12


def run_sdk(instruments: list[tuple[int, str, int]], until: int) -> list[dict[str, Any]]:
    """Body of a thread: the SDK brings its own loop. Returns what it decoded."""
    feed = MarketFeed(DhanContext("1000000001", "any-token"), instruments, version="v2")
    heard: list[dict[str, Any]] = []
    try:
        feed.run_forever()
        while len(heard) < until:
            heard.append(feed.get_data())
        feed.close_connection()
    finally:
        feed.loop.close()
        asyncio.set_event_loop(None)
    return heard


def as_sdk_says(packet: Packet) -> dict[str, Any]:
    """The fields that the SDK and our codec both read, in the SDK's words."""
    match packet:
        case PrevClose(key, price, _):
            return {"type": "Previous Close", **names(key), "prev_close": f"{price:.2f}"}
        case Full() | Quote():
            kind = "Full Data" if isinstance(packet, Full) else "Quote Data"
            return {
                "type": kind,
                **names(packet.key),
                "LTP": f"{packet.ltp:.2f}",
                "LTQ": packet.ltq,
                "volume": packet.volume,
                "total_sell_quantity": packet.total_sell_qty,
                "open": f"{packet.open:.2f}",
                "close": f"{packet.close_raw:.2f}",
                "high": f"{packet.high:.2f}",
                "low": f"{packet.low:.2f}",
            }
        case _:
            raise AssertionError(packet)


def names(key: InstrumentKey) -> dict[str, int]:
    return {"exchange_segment": int(key.segment), "security_id": key.security_id}


async def test_the_sdk_decodes_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [NIFTY_FUTURE, RELIANCE, NIFTY]
    instruments = [(int(key.segment), str(key.security_id), 17 if key is NIFTY else 21) for key in wanted]
    # One packet a frame: the SDK reads only the first of a stack (protocol notes, 2.12).
    config = ServerConfig(exchange=ExchangeConfig(MarketShape(rate=4.0), frame_bytes=0))
    sent: list[Packet] = []
    async with running(config, small_world(), WallClock()) as server:
        monkeypatch.setattr(MarketFeed, "market_feed_wss", server.feed_url)
        step = server.exchange.step

        def recording(now_s: float, blocked: Any = ()) -> Any:
            deliveries = step(now_s, blocked)
            sent.extend(packet for delivery in deliveries for frame in delivery.frames for packet in decode(frame))
            return deliveries

        monkeypatch.setattr(server.exchange, "step", recording)
        async with asyncio.timeout(60):
            heard = await asyncio.to_thread(run_sdk, instruments, 60)
    assert {(told["type"], told["security_id"]) for told in heard} == {
        ("Full Data", NIFTY_FUTURE.security_id),
        ("Full Data", RELIANCE.security_id),
        ("Quote Data", NIFTY.security_id),
        ("Previous Close", NIFTY.security_id),
    }
    expected = [as_sdk_says(packet) for packet in sent[: len(heard)]]
    assert [{name: told[name] for name in want} for told, want in zip(heard, expected, strict=True)] == expected
