"""An asyncio loop whose time is virtual and whose network is memory: whole trading days in seconds, the same each time.

Time jumps to the next timer when every task waits. Connections made through the loop join two protocols in memory, in
order, with a seeded delay; nothing touches a real socket. Programs need no change, as long as they keep to the loop's
own ``time``, ``create_server`` and ``create_connection`` (picows does with ``use_aiofastnet=False``).
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

KEEP_APART_S = 1e-6  # between two arrivals on one connection: the loop does not keep the order of equal times
READ_AHEAD_BYTES = 262_144  # what a paused reader's side takes in before the writer is paused
EPOCH_S = 0.0
SLACK_FROM_S = 0.25  # shorter waits are never stretched: bytes travel, retries begin


class Deadlock(RuntimeError):
    """Every task waits and no timer is set: nothing can ever happen again."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: it moves the loop's time instead."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        self._inner = selectors.DefaultSelector()
        self._jump = jump

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self._jump(timeout)
        return []


class MemorySocket:
    """What programs look for behind a transport. Its descriptor is none, so that a direct ``send`` fails (picows then
    falls back to the transport)."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_options: object) -> None:
        """There is nothing to set."""

    def getsockopt(self, *_options: object) -> int:
        return 0


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory. A reader that pauses pauses the writer after a while."""

    def __init__(self, loop: SimLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"socket": MemorySocket()})
        self._loop = loop
        self._protocol = protocol
        self._arrives_at = 0.0  # of the newest bytes on the way to the peer: TCP keeps order
        self._unread: deque[bytes] = deque()  # b"" is the end of the stream
        self._is_reading = True
        self._is_closing = False
        self._has_paused_writer = False
        self.peer: MemoryTransport | None = None

    # --- asyncio.Transport --------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing and data:
            self._send(self._peer()._arrive, bytes(data))

    def write_eof(self) -> None:
        if not self._is_closing:
            self._send(self._peer()._arrive, b"")

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._is_closing:
            self._send(self._peer()._arrive, b"")
            self._lose(None)

    def abort(self) -> None:
        if not self._is_closing:
            self._send(self._peer()._reset)
            self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._loop.call_soon(self._drain)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Limits are :data:`READ_AHEAD_BYTES`, whatever is asked for."""

    def get_write_buffer_size(self) -> int:
        return 0

    # --- the wire -----------------------------------------------------------------------------------------------------

    def _peer(self) -> MemoryTransport:
        assert self.peer is not None
        return self.peer

    def _send(self, receive: Callable[..., None], *data: bytes) -> None:
        self._arrives_at = max(self._arrives_at + KEEP_APART_S, self._loop.time() + self._loop.delay_s())
        self._loop.call_at(self._arrives_at, receive, *data)

    def _arrive(self, data: bytes) -> None:
        self._unread.append(data)
        self._drain()
        if not self._has_paused_writer and sum(map(len, self._unread)) > READ_AHEAD_BYTES:
            self._has_paused_writer = True
            self._peer()._stop_writing()

    def _drain(self) -> None:
        while self._unread and self.is_reading():
            self._hand_over(self._unread.popleft())
        if self._has_paused_writer and not self._unread:
            self._has_paused_writer = False
            self._peer()._let_write()

    def _hand_over(self, data: bytes) -> None:
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not data:
            if not protocol.eof_received():
                self.close()
        elif isinstance(protocol, asyncio.BufferedProtocol):
            self._fill(protocol, data)
        else:
            protocol.data_received(data)

    @staticmethod
    def _fill(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        while data:
            room = protocol.get_buffer(len(data))
            taken = min(len(data), len(room))  # type: ignore[arg-type]
            memoryview(room)[:taken] = data[:taken]
            protocol.buffer_updated(taken)
            data = data[taken:]

    def _stop_writing(self) -> None:
        if not self._is_closing:
            self._protocol.pause_writing()

    def _let_write(self) -> None:
        if not self._is_closing:
            self._protocol.resume_writing()

    def _reset(self) -> None:
        if not self._is_closing:
            self._lose(ConnectionResetError("reset by peer"))

    def _lose(self, reason: Exception | None) -> None:
        self._is_closing = True
        self._loop.links.pop(self, None)
        self._loop.call_soon(self._protocol.connection_lost, reason)


class MemoryServer(asyncio.AbstractServer):
    """A listener in memory."""

    def __init__(self, loop: SimLoop, address: tuple[str, int], factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._loop = loop
        self._address = address
        self.factory = factory
        self.sockets: tuple[Any, ...] = ()

    def close(self) -> None:
        self._loop.listeners.pop(self._address, None)

    def is_serving(self) -> bool:
        return self._loop.listeners.get(self._address) is self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    async def start_serving(self) -> None:
        return

    async def serve_forever(self) -> None:
        await asyncio.Event().wait()

    async def wait_closed(self) -> None:
        return


class SimLoop(asyncio.SelectorEventLoop):
    """OWNS virtual time and the in-memory network. ``epoch_s`` is the moment at which its time begins.

    ``slack_s``: whole seconds by less than which timers may ring late, so that many ring together, as machines that
    save power let them; 0 for none. A timer keeps its fraction of a second.
    """

    def __init__(self, seed: int, *, latency_s: float = 0.01, epoch_s: float = EPOCH_S) -> None:
        self._elapsed_s = 0.0
        super().__init__(_JumpingSelector(self._jump))
        self._clock_resolution = 1e-9
        self._rng = random.Random(seed)  # noqa: S311 - a simulation
        self._latency_s = latency_s
        self._epoch_s = epoch_s
        self.slack_s = 0
        self._ports = iter(range(40_000, 65_536))
        self.listeners: dict[tuple[str, int], MemoryServer] = {}
        self.links: dict[MemoryTransport, None] = {}  # in order of opening: a set's order is not the same each time

    def _jump(self, by_s: float) -> None:
        self._elapsed_s += by_s

    def time(self) -> float:
        return self._elapsed_s

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self.slack_s and when - self._elapsed_s >= SLACK_FROM_S:
            when += -math.floor(when) % self.slack_s
        return super().call_at(when, callback, *args, context=context)

    def now_ms(self) -> int:
        """The virtual moment as epoch milliseconds: the loop is its own clock."""
        return round((self._epoch_s + self._elapsed_s) * 1000)

    def delay_s(self) -> float:
        """How long the next bytes travel."""
        return self._latency_s * (0.5 + self._rng.random())

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **_options: Any,
    ) -> asyncio.AbstractServer:
        address = (host or "", port or next(self._ports))
        if address in self.listeners:
            raise OSError(f"{address} is taken")
        server = MemoryServer(self, address, protocol_factory)
        self.listeners[address] = server
        return server

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **_options: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        await asyncio.sleep(self.delay_s())
        server = self.listeners.get((host or "", port or 0))
        if server is None:
            raise ConnectionRefusedError(f"nobody listens at {host}:{port}")
        here, there = protocol_factory(), server.factory()
        mine, theirs = MemoryTransport(self, here), MemoryTransport(self, there)
        mine.peer, theirs.peer = theirs, mine
        self.links |= {mine: None, theirs: None}
        there.connection_made(theirs)
        here.connection_made(mine)
        return mine, here
