"""The exchange on real sockets: Dhan's feed over WebSocket on loopback, and a small HTTP port to steer it.

The protocol runs on websockets' sans-I/O half under a plain asyncio protocol, because faults need what a finished
server hides: late handshakes, HTTP refusals, TCP resets, and a socket that is full. A slow reader costs no memory: its
connection is left out of the step, and the exchange owes it the newest image of each instrument, no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from app.dhan.limits import PING_INTERVAL_S, PONG_TIMEOUT_S
from app.sim.control import ControlSocket
from app.sim.exchange import STEP_S, Exchange, ExchangeConfig, InSession, always_open
from app.sim.line import Delivery, End, Ending
from app.sim.prices import Directory

COMMAND_BYTES_MAX = 65_536
WRITE_BUFFER_BYTES = 262_144  # above this a connection counts as slow and gets newer images later
SEND_BUFFER_BYTES = 262_144  # the kernel's share: less stale data between us and a slow reader
CLOSE_GRACE_S = 1.0  # after a close frame, before the socket goes
LATE_MAX_S = 1.0  # a pump that is further behind skips steps


class Clock(Protocol):
    """The part of the service's clock that the exchange needs."""

    def now_ms(self) -> int:
        """Epoch milliseconds UTC."""
        ...


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen; port 0 takes a free one. ``control_port`` None opens no control port.

    ``step_s`` is how often the exchange moves and writes: longer steps make long simulated days quick.
    """

    host: str = "127.0.0.1"
    port: int = 0
    control_port: int | None = 0
    exchange: ExchangeConfig = field(default_factory=ExchangeConfig)
    step_s: float = STEP_S


class FeedSocket(asyncio.Protocol):
    """One client's socket: handshake, texts in, frames out, pings."""

    def __init__(self, server: SimulatorServer, exchange: Exchange) -> None:
        self._server = server
        self._exchange = exchange
        self._ws = ServerProtocol(max_size=COMMAND_BYTES_MAX)
        self._timers: list[asyncio.TimerHandle] = []
        self._text = bytearray()
        self._pinged_s = self._answered_s = 0.0
        self._transport: asyncio.Transport | None = None
        self.number: int | None = None  # None until the handshake is through
        self.is_blocked = False

    # --- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._server.sockets[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._server.sockets.pop(self, None)
        if self.number is not None:
            self._exchange.closed(self.number)

    def pause_writing(self) -> None:
        self.is_blocked = True

    def resume_writing(self) -> None:
        self.is_blocked = False

    def data_received(self, data: bytes) -> None:
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._greet(event)
            elif isinstance(event, Frame):
                self._read(event)
        self._flush()

    def eof_received(self) -> None:
        self._ws.receive_eof()
        self._flush()

    # --- protocol -----------------------------------------------------------------------------------------------------

    def _greet(self, request: Request) -> None:
        admission = self._exchange.admit(request.path)
        if admission.status != 101:
            self._ws.send_response(self._ws.reject(admission.status, admission.reason + "\n"))
            return

        def accept() -> None:
            self._ws.send_response(self._ws.accept(request))
            if self._ws.state is State.OPEN:
                self.number = self._exchange.open(admission, self._server.now_s())
                self._pinged_s = self._answered_s = self._server.loop.time()
            self._flush()

        if admission.delay_s > 0:
            self._timers.append(self._server.loop.call_later(admission.delay_s, accept))
        else:
            accept()

    def _read(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._answered_s = self._server.loop.time()
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._text += frame.data
            if frame.fin and self.number is not None:
                text = self._text.decode("utf-8", "replace")
                self._exchange.receive(self.number, text, self._server.now_s(), self._server.loop.time())
            if frame.fin:
                self._text.clear()
        elif frame.opcode is Opcode.CLOSE:
            self._leave_soon()

    def deliver(self, delivery: Delivery) -> None:
        """Write what the exchange has for this client."""
        if self._ws.state is State.OPEN:
            for frame in delivery.frames:
                self._ws.send_binary(frame)
            if delivery.end is not None:
                self._end(delivery.end)
        self._flush()

    def _end(self, end: End) -> None:
        if end.how is Ending.RESET:
            self._reset()
            return
        self._ws.send_close(end.code)
        self._leave_soon()

    def ping(self, now: float) -> None:
        """Ping when it is time; cut a client that has not answered for 40 s (protocol notes, 3.1)."""
        if self.number is None or self._ws.state is not State.OPEN:
            return
        if now - self._answered_s > PONG_TIMEOUT_S:
            self._reset()
        elif now - self._pinged_s >= PING_INTERVAL_S:
            self._pinged_s = now
            self._ws.send_ping(b"")
            self._flush()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _reset(self) -> None:
        assert self._transport is not None
        raw = self._transport.get_extra_info("socket")
        if raw is not None:  # no lingering: the peer sees a reset, not an end of file
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _leave_soon(self) -> None:
        self._timers.append(self._server.loop.call_later(CLOSE_GRACE_S, self.abort))

    def _flush(self) -> None:
        assert self._transport is not None
        out = self._ws.data_to_send()
        if self._transport.is_closing():
            return
        chunks = [chunk for chunk in out if chunk]
        if chunks:
            self._transport.writelines(chunks)
        if len(chunks) < len(out):  # an empty chunk stands for the end of the stream
            self._transport.close()


class SimulatorServer:
    """OWNS the sockets. Made by :func:`running`."""

    def __init__(self, config: ServerConfig, directory: Directory, clock: Clock, in_session: InSession) -> None:
        self._config = config
        self._clock = clock
        self._listeners: list[asyncio.AbstractServer] = []
        self.exchange = Exchange(config.exchange, directory, in_session)
        self.sockets: dict[FeedSocket, None] = {}  # in order of opening, the same each time
        self.loop = asyncio.get_running_loop()
        self.feed_url = ""
        self.control_url = ""

    def now_s(self) -> float:
        return self._clock.now_ms() / 1000.0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        host, wanted = self._config.host, self._config.control_port
        port = await self._listen(lambda: FeedSocket(self, self.exchange), self._config.port)
        self.feed_url = f"ws://{host}:{port}"
        if wanted is not None:
            port = await self._listen(lambda: ControlSocket(self.exchange, self.now_s), wanted)
            self.control_url = f"http://{host}:{port}"

    async def _listen(self, factory: Callable[[], asyncio.Protocol], port: int) -> int:
        listener = await self.loop.create_server(factory, self._config.host, port)
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1]) if listener.sockets else port

    async def pump(self) -> None:
        """Step the exchange for ever."""
        due = self.loop.time()
        while True:
            due = max(due + self._config.step_s, self.loop.time() - LATE_MAX_S)
            await asyncio.sleep(due - self.loop.time())
            self.step()

    def step(self) -> None:
        """Move the exchange to now and write what it has."""
        by_number = {sock.number: sock for sock in self.sockets if sock.number is not None}
        blocked = {number for number, sock in by_number.items() if sock.is_blocked}
        for delivery in self.exchange.step(self.now_s(), blocked):
            by_number[delivery.connection].deliver(delivery)
        for sock in tuple(by_number.values()):
            sock.ping(self.loop.time())

    async def stop(self) -> None:
        """Close every socket; safe to repeat."""
        for listener in self._listeners:
            listener.close()
        for sock in tuple(self.sockets):
            sock.abort()
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()
        await asyncio.sleep(0)  # lets the aborted transports report their end


@contextlib.asynccontextmanager
async def running(
    config: ServerConfig, directory: Directory, clock: Clock, in_session: InSession = always_open
) -> AsyncIterator[SimulatorServer]:
    """A simulator that serves while the block runs.

    Raises:
        OSError: a port is taken.
    """
    server = SimulatorServer(config, directory, clock, in_session)
    try:
        await server.start()
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(server.pump())
            try:
                yield server
            finally:
                pump.cancel()
    finally:
        await server.stop()


async def serve(config: ServerConfig, directory: Directory, clock: Clock, in_session: InSession = always_open) -> None:
    """Serve until cancelled."""
    async with running(config, directory, clock, in_session) as server:
        log = structlog.get_logger()
        log.info("simulator listening", feed_url=server.feed_url, control_url=server.control_url)
        await asyncio.Event().wait()
