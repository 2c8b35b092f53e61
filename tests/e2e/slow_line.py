"""A line between browser and service that lets so many bytes a second through."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PIECE_BYTES = 2048
HELD_BYTES = 4096  # by the line itself, which must not be what is slow to fill


@dataclass
class SlowLine:
    """``bytes_a_second``: from the service to the browser, on each connection; None is as fast as it goes."""

    port: int = 0
    bytes_a_second: float | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[SlowLine]:
        """A line to what listens on the port, on one of its own, until the block ends."""
        line = cls()
        joined: set[asyncio.Task[None]] = set()

        async def join(near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            joined.add(task)
            far, far_out = await asyncio.open_connection(sock=_dialled(port), limit=HELD_BYTES)
            try:
                await asyncio.gather(line._carry(near, far_out), line._carry(far, near_out, is_slow=True))
            finally:
                for end in (near_out, far_out):
                    end.close()
                    with contextlib.suppress(OSError):
                        await end.wait_closed()

        server = await asyncio.start_server(join, "127.0.0.1", 0)
        line.port = server.sockets[0].getsockname()[1]
        try:
            yield line
        finally:
            server.close()
            for task in joined:
                task.cancel()
            await asyncio.gather(*joined, return_exceptions=True)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_slow: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                writer.write(piece)
                await writer.drain()
                if is_slow and self.bytes_a_second:
                    await asyncio.sleep(len(piece) / self.bytes_a_second)
        writer.close()


def _dialled(port: int) -> socket.socket:
    dialled = socket.socket()
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD_BYTES)
    dialled.connect(("127.0.0.1", port))
    dialled.setblocking(False)
    return dialled
