"""The URL that the log names is one that answers."""

from __future__ import annotations

import asyncio

from app.lifecycle.listening import LOOKS, own_url
from app.sim.loop import SimLoop
from tests.unit.venue import virtually


def test_the_url_is_told_once_the_port_is_open_and_not_at_all_where_it_stays_shut() -> None:
    async def body(loop: SimLoop) -> None:
        async def open_late() -> asyncio.Server:
            await asyncio.sleep(0.55)
            return await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 8123)

        opening = asyncio.create_task(open_late())
        assert await own_url("127.0.0.1", 8123) == "http://127.0.0.1:8123"
        assert 0.55 < loop.time() < 0.8
        began = loop.time()
        assert await own_url("127.0.0.1", 8124) is None
        assert loop.time() - began < LOOKS
        (await opening).close()

    virtually(body)
