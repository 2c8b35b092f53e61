"""The way out of a stream connection: straight into the transport while it has room, else by a task that waits.

An ASGI server wants a task's turn and a frame of its own making for each message and client. Server frames are not
masked, so a message has the same bytes for everybody: where the server's transport can be reached, they are written
into it, for all clients in one go. The server's own frames (pings, close) and ours are each written whole, so they do
not mix; an uncompressed frame is valid whatever extension was agreed on (RFC 7692, section 6).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, MutableMapping
from typing import Any

from app.ports.clock import Clock
from app.rest.slices import Slices
from app.stream.hub import Client, Hub

SEND_BUFFER_BYTES = 65_536
UNSENT_BYTES = 16_384
WRITE_BUFFER_BYTES = SEND_BUFFER_BYTES // 2
_LINUX_TCP_NOTSENT_LOWAT = 25
_SHARING_SERVERS = "uvicorn.protocols.websockets."
_BRACE = ord("{")
_TEXT, _BINARY = 0x81, 0x82  # final frames
_SHORT, _MEDIUM, _LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")

Send = Callable[[MutableMapping[str, Any]], Any]


class Line:
    """What leaves for one client, in the order in which the hub gives it.

    ``since_s`` is when the message that the task waits with was handed to the server; None: it waits with none.
    """

    def __init__(self, hub: Hub, clock: Clock, send: Send, slices: Slices) -> None:
        self.client: Client | None = None
        self.since_s: float | None = None
        self.transport = transport_of(send)
        self._wire = self.transport if _shares_transport(send) else None
        self._hub = hub
        self._clock = clock
        self._send = send
        self._slices = slices
        self._is_due = False
        self._full = asyncio.Event()

    def wake(self) -> None:
        """There is news for this client."""
        if not self._is_due:
            self._is_due = True
            self._slices.put(self.flush)

    def close(self) -> None:
        """Nothing more leaves."""
        self.client = None

    def release(self) -> None:
        """Let go of a connection that is lost.

        The server leaves its parser waiting for bytes, and a waiting parser and its protocol hold each other.
        """
        parser = getattr(getattr(getattr(self._send, "__self__", None), "conn", None), "parser", None)
        if parser is not None and self._wire is not None and self._wire.is_closing():
            parser.close()

    def flush(self) -> None:
        """Write what the transport has room for, without waiting; the rest is left to the task."""
        self._is_due = False
        if self.client is None or self.since_s is not None:
            return
        while self._wire is not None and _has_room(self._wire):
            messages = self._hub.next_messages(self.client)
            if not messages:
                return
            for message in messages:
                self._wire.writelines((_frame_head(message), message))
        self._full.set()

    async def run(self) -> None:
        """Send what :meth:`flush` could not; until cancelled, or until the connection breaks under it.

        That is no error for whoever waits: it would keep all of the connection alive in a cycle with its traceback.
        """
        with contextlib.suppress(OSError):
            while True:
                await self._full.wait()
                self._full.clear()
                await self._send_all()

    async def _send_all(self) -> None:
        while self.client is not None and (messages := self._hub.next_messages(self.client)):
            for message in messages:
                self.since_s = self._clock.monotonic()
                await self._send(outgoing(message))
                self.since_s = None


def outgoing(message: bytes) -> dict[str, Any]:
    """The message as ASGI has it. Packed frames begin with their version, JSON with a brace."""
    if message[0] == _BRACE:
        return {"type": "websocket.send", "text": message.decode()}
    return {"type": "websocket.send", "bytes": message}


def _frame_head(message: bytes) -> bytes:
    """What goes before the message on the wire (RFC 6455, section 5.2)."""
    kind, length = _TEXT if message[0] == _BRACE else _BINARY, len(message)
    if length < 126:
        return _SHORT.pack(kind, length)
    return _MEDIUM.pack(kind, 126, length) if length < 65_536 else _LONG.pack(kind, 127, length)


def _has_room(transport: asyncio.Transport) -> bool:
    return transport.get_write_buffer_size() < WRITE_BUFFER_BYTES and not transport.is_closing()


def transport_of(send: Send) -> asyncio.Transport | None:
    """The transport below an ASGI server's ``send``, where it can be reached: uvicorn's is a method of its protocol."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    return transport if isinstance(transport, asyncio.Transport) or hasattr(transport, "abort") else None


def _shares_transport(send: Send) -> bool:
    """Whether the server keeps one connection on that transport and writes whole frames only, so that ours fit in."""
    return type(getattr(send, "__self__", None)).__module__.startswith(_SHARING_SERVERS)


def cap_buffers(transport: asyncio.Transport | None) -> None:
    """Keep what lies unsent between us and a client small: an uncapped kernel buffers half a minute of stale prices."""
    raw = transport.get_extra_info("socket") if transport is not None else None
    if transport is None or raw is None:
        return
    with contextlib.suppress(OSError, AttributeError):
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        option = getattr(socket, "TCP_NOTSENT_LOWAT", _LINUX_TCP_NOTSENT_LOWAT)
        raw.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)
