"""The real service under more requests than it takes: each is answered in full or refused, and ticks lose nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.integration.test_hostile_clients import answer_of
from tests.integration.test_no_packet_lost import counted, fault, is_all_live, nearest, settled, stats
from tests.service import Service
from tests.stream_world import Mirror

NewService = Callable[..., Service]
UNIVERSE = '[[chain]]\nsymbol = "NIFTY"\nweekly = 2\nstrikes = 101\n\n[drivers]\nfo_stocks = true\n'
AT_ONCE, SOCKETS, REQUESTS_A_SOCKET = 16, 120, 4


async def crowd(service: Service, path: str) -> Counter[int]:
    """So many sockets, each asking as soon as it was answered; every answer is held to its form."""
    asked = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n\r\n".encode()
    statuses: Counter[int] = Counter()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for _ in range(REQUESTS_A_SOCKET):
            writer.write(asked)
            status, headers, body = await answer_of(reader)
            told = json.loads(body)
            if status == 200:
                assert len(told["rows"]) == 202
            else:
                assert (status, told["code"], headers["retry-after"]) == (503, "OVERLOADED", "2")
            statuses[status] += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(SOCKETS)))
    return statuses


async def follow(stream: ClientConnection, mirror: Mirror) -> None:
    """Take every message; a delta that does not follow the one before is an error of its own."""
    async for text in stream:
        message: dict[str, Any] = json.loads(text)
        if message["type"] in ("snapshot", "delta"):
            mirror.take(message)


async def test_under_a_crowd_of_requests_the_stream_misses_nothing(new_service: NewService, tmp_path: Path) -> None:
    universe = tmp_path / "universe.toml"
    universe.write_text(UNIVERSE)
    with new_service(BT_TIER_B=str(universe), BT_REQUESTS_AT_ONCE=str(AT_ONCE)) as service:
        service.wait_for("Tier B", 60, lambda: is_all_live(service, 600))
        expiry, mirror = nearest(service, "NIFTY"), Mirror()
        chain = f"/api/v2/option-chain/NIFTY?expiry={expiry}&quotes=true"
        async with connect(service.stream_url, max_size=None) as stream:
            await stream.send(json.dumps({"op": "subscribe", "topics": [f"chain:NIFTY:{expiry}"], "max_rate_hz": 10}))
            following = asyncio.create_task(follow(stream, mirror))
            while mirror.seq == 0:  # noqa: ASYNC110 - the first picture
                await asyncio.sleep(0.01)
            seq = mirror.seq
            statuses = await crowd(service, chain)
            assert mirror.seq > seq, "the stream stood still"
            assert statuses.keys() == {200, 503}
            assert statuses.total() == SOCKETS * REQUESTS_A_SOCKET
            assert service.get("/health")["status"] == "healthy"
            fault(service, kind="mute", seconds=60)
            sent = await until(lambda: settled(service))
            totals = counted(service)
            assert totals["malformed"] == totals["unwanted"] == 0
            packets = sum(key["packets"] for key in sent["keys"].values())
            assert packets == totals["applied"] + totals["superseded"] + totals["foreign"]
            await until(lambda: prices(mirror.data) == prices(service.get(chain)))
            assert stats(service)["connections"], "the feed stayed up"
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def prices(told: dict[str, Any]) -> dict[str, tuple[object, ...]]:
    return {token: (row["ltp"], row["oi"], row["volume"]) for token, row in told["rows"].items()}


async def until(found: Callable[[], Any]) -> Any:
    async with asyncio.timeout(30):
        while not (told := await asyncio.to_thread(found)):  # noqa: ASYNC110 - told over HTTP
            await asyncio.sleep(0.05)
        return told
