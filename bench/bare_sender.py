"""The least that a stream can cost over ASGI: the same number of bytes to every client, ten times a second, no more.

``python -m bench.bare_sender BYTES`` prints its port. The frames carry number and time where the stream's frames do.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from app.rest.stream_line import cap_buffers, transport_of
from bench.crowd import HEADER_AT

INTERVAL_S = 0.1
Message = dict[str, Any]


class Bare:
    """One frame for all, made once a round."""

    def __init__(self, octets: int) -> None:
        self._frame = bytearray(octets)
        self._seq = 0
        self._next = asyncio.Event()
        self._payload = b""

    async def run(self) -> None:
        due = time.monotonic()
        while True:
            self._seq += 1
            struct.pack_into("<dd", self._frame, HEADER_AT, self._seq, time.time() * 1000)
            self._payload = bytes(self._frame)
            waiting, self._next = self._next, asyncio.Event()
            waiting.set()
            due += INTERVAL_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "bt.binary.v1"})
        cap_buffers(transport_of(send))
        await receive()
        try:
            while True:
                await self._next.wait()
                await send({"type": "websocket.send", "bytes": self._payload})
        except OSError:
            return


async def serve(octets: int, listener: socket.socket) -> None:
    bare = Bare(octets)
    config = uvicorn.Config(
        bare, ws="websockets-sansio", ws_per_message_deflate=False, lifespan="off", log_level="error"
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(bare.run())
        group.create_task(uvicorn.Server(config).serve([listener]))


def main() -> None:
    import uvloop

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    uvloop.run(serve(int(sys.argv[1]), listener))


if __name__ == "__main__":
    main()
