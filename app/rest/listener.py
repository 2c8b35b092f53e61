"""The HTTP side of a connection with an end to its patience, for uvicorn: it has none for slow heads and slow readers.

Without this, whoever opens sockets and says nothing, or asks for much and reads nothing, holds them and what is written
to them for as long as it likes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.core.errors import Overloaded
from app.rest import limits
from app.rest.answers import problem_of
from app.rest.origin import is_loopback_end

_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class StrictConnection(h11.Connection):
    """Takes one length of a body only, and gives the head of an answer out with what follows it.

    A proxy in front may go by the other length and take what follows for its next client's request (RFC 9112, 6.1).
    Each write calls the kernel and wakes the client.
    """

    _head = b""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request) and {name for name, _ in event.headers} >= _LENGTHS:
            raise h11.RemoteProtocolError("a body has one length")
        return event

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]  # its overloads say no more
        told = super().send(event)
        if isinstance(event, h11.Response):
            self._head = told or b""
            return b""
        if told is not None and self._head:
            told, self._head = self._head + told, b""
        return told


class PatientHttp(H11Protocol):
    """One connection: so long for the head of a request, so long for an answer to be taken, so many in all.

    A connection above the limits is told 503 when it asks, and ends.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _is_surplus = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = StrictConnection(h11.SERVER, limits.HEAD_BYTES_MAX)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._is_surplus = self._are_too_many()
        if self._is_surplus:
            self.app = _refuse
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer = _stopped(self._head_timer)
        self._write_timer = _stopped(self._write_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_timer = _stopped(self._head_timer)
        elif self._head_timer is None and not self.transport.is_closing():
            self._wait_for_head()

    def pause_writing(self) -> None:
        """The answer is not taken as fast as it is written."""
        super().pause_writing()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        self._write_timer = _stopped(self._write_timer)
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        return super()._should_upgrade() and not self._is_surplus

    def _wait_for_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(limits.ANSWER_TAKEN_S, self._judge_taking, left)

    def _judge_taking(self, left_before: int) -> None:
        """A long answer over a slow line takes its time, as long as it is taken."""
        if left_before - self.transport.get_write_buffer_size() < limits.ANSWER_TAKEN_BYTES:
            self.transport.abort()
        else:
            self._wait_for_taking()

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(limits.HEAD_S, self.transport.abort)

    def _are_too_many(self) -> bool:
        if len(self.connections) > limits.CONNECTIONS_MAX:
            return True
        if self.client is None or is_loopback_end(self.client):
            return False  # a proxy, or the machine's own programs
        of_address = sum(1 for each in self.connections if _host(each) == self.client[0])
        return of_address > limits.CONNECTIONS_PER_ADDRESS_MAX


def _host(connection: Any) -> str | None:
    return connection.client[0] if connection.client else None


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    full = Overloaded("this server has as many connections as it takes", retry_after_s=limits.BUSY_RETRY_S)
    answer = problem_of(full, scope["path"])
    answer.headers["connection"] = "close"
    await answer(scope, receive, send)
