"""Faults of those who watch: one that stops reading among two hundred, lines that break and come back."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.catalogue.desk import NIFTY_EXPIRY, Desk, Times

BROWSERS = 200
TOPIC = f"chain:NIFTY:{NIFTY_EXPIRY}"
MESSAGES = 15  # that every other browser reads on, one after the other


async def test_17_one_browser_in_two_hundred_stops_reading(desk: Desk, times: Times) -> None:
    closed = await asyncio.to_thread(desk.metric, "bt_stream_closed_slow_total")
    async with AsyncExitStack() as stack:
        stalled, *browsers = await asyncio.gather(*(_open(desk, narrow=place == 0) for place in range(BROWSERS)))
        for each in (stalled, *browsers):
            stack.callback(each.transport.abort)
        for each in (*browsers, stalled):
            await each.send(json.dumps({"op": "subscribe", "topics": [TOPIC], "max_rate_hz": 10}))
        stalled.transport.pause_reading()
        times.injected()
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_read_on(each)) for each in browsers]
            group.create_task(asyncio.to_thread(desk.wait, "it is cut off", lambda: _cut_off(desk) > closed))
        times.noticed()
        times.over()
        assert len({reader.result() for reader in readers}) < MESSAGES, "some are far behind the others"
        stalled.transport.resume_reading()
        told = await _to_the_end(stalled)
        assert told < 200, "a backlog was kept for it"
        async with _open(desk) as again:
            await again.send(json.dumps({"op": "subscribe", "topics": [TOPIC]}))
            assert json.loads(await again.recv())["type"] == "snapshot"
        times.recovered()


def _open(desk: Desk, *, narrow: bool = False) -> Any:
    if not narrow:
        return connect(desk.service.stream_url, proxy=None, max_queue=4)
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    own.connect(("127.0.0.1", desk.service.port))
    return connect(desk.service.stream_url, proxy=None, sock=own, max_queue=1)


def _cut_off(desk: Desk) -> float:
    return desk.metric("bt_stream_closed_slow_total")


async def _read_on(browser: ClientConnection) -> int:
    """Every message follows the one before; returns the number of the last."""
    seq, count = 0, 0
    while count < MESSAGES:
        message = json.loads(await browser.recv())
        assert message["type"] == "snapshot" or message["seq"] == seq + 1
        seq = message["seq"]
        count += 1
    return seq


async def _to_the_end(browser: ClientConnection) -> int:
    count = 0
    try:
        async for _ in browser:
            count += 1
    except ConnectionClosed:
        pass
    return count


async def test_18_resume_after_a_break_and_with_a_number_too_old(desk: Desk, times: Times) -> None:
    async with _open(desk) as first:
        await first.send(json.dumps({"op": "subscribe", "topics": [TOPIC], "max_rate_hz": 10}))
        seq = 0
        for _ in range(5):
            seq = json.loads(await first.recv())["seq"]
        first.transport.abort()  # no goodbye
    times.injected()
    await asyncio.sleep(0.3)
    async with _open(desk) as second:
        times.noticed()
        times.over()
        await second.send(json.dumps({"op": "resume", "topic": TOPIC, "seq": seq, "max_rate_hz": 10}))
        for number in range(1, 6):
            message = json.loads(await second.recv())
            assert (message["type"], message["seq"]) == ("delta", seq + number), "a message was missed"
        times.recovered()
    async with _open(desk) as third:
        await third.send(json.dumps({"op": "resume", "topic": TOPIC, "seq": 7, "max_rate_hz": 10}))
        message = json.loads(await third.recv())
        assert message["type"] == "snapshot"
        assert len(message["data"]["rows"]) == 22
