"""Clients that hold on to what they can: slow heads, slow bodies, answers nobody takes, more sockets than there are."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.rest import limits
from app.rest.listener import PatientHttp
from app.rest.middleware import BodyLimit

BIG = 32 * 1024 * 1024  # more than every buffer on the way
GET = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts WebSockets, and answers a lot or a little."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    body = b"x" * (BIG if scope["path"] == "/big" else 2)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Listener:
    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server = server
        self.port = port

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    async def open(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        return reader, writer

    async def ask(self, sent: bytes = GET) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await self.open(sent)
        try:
            return await answer_of(reader)
        finally:
            writer.close()

    async def until_connections(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.connections != count:  # noqa: ASYNC110 - the server's own set
                await asyncio.sleep(0.01)


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def ends(reader: asyncio.StreamReader) -> None:
    """The other side hangs up; whatever it sends before that does not matter."""
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            while await reader.read(65_536):
                pass


@pytest.fixture
async def listener(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    """A real server whose patience is a fraction of a second."""
    monkeypatch.setattr(limits, "HEAD_S", 0.2)
    monkeypatch.setattr(limits, "ANSWER_TAKEN_S", 0.2)
    async with listening(BodyLimit(application, limits.BODY_BYTES_MAX, 0.2)) as made:
        yield made


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[Listener]:
    taken = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=PatientHttp, timeout_keep_alive=1, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([taken]))
    while not server.started:  # noqa: ASYNC110 - the server's own flag
        await asyncio.sleep(0.005)
    try:
        yield Listener(server, taken.getsockname()[1])
    finally:
        server.should_exit = True
        await serving


async def test_a_head_that_comes_byte_by_byte_ends_its_connection(listener: Listener) -> None:
    reader, writer = await listener.open()

    async def trickle() -> None:
        with suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nX-Endless: " + b"a" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)

    drip = asyncio.create_task(trickle())
    assert (await listener.ask())[0] == 200  # nobody else notices
    await ends(reader)
    drip.cancel()
    writer.close()
    await listener.until_connections(0)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", GET + b"GET /again HTTP/1.1\r\n"])
async def test_a_connection_that_falls_silent_in_a_head_ends(listener: Listener, said: bytes) -> None:
    reader, writer = await listener.open(said)
    await ends(reader)
    writer.close()
    await listener.until_connections(0)


async def test_a_body_that_comes_too_slowly_is_told_so(listener: Listener) -> None:
    status, headers, body = await listener.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
    assert (status, json.loads(body)["code"]) == (408, "BODY_TOO_SLOW")
    assert headers["connection"] == "close"


async def test_an_answer_that_nobody_takes_is_given_up(listener: Listener) -> None:
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    lazy.setblocking(False)
    await asyncio.get_running_loop().sock_connect(lazy, ("127.0.0.1", listener.port))
    lazy.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    await listener.until_connections(1)
    await listener.until_connections(0)
    lazy.close()


async def test_an_answer_that_is_taken_slowly_but_taken_comes_whole(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ANSWER_TAKEN_S", 0.5)
    reader, writer = await listener.open(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    taken = 0
    while piece := await reader.read(512 * 1024):
        taken += len(piece)
        if taken == BIG:
            break
        await asyncio.sleep(0.005)
    assert taken == BIG
    writer.close()


async def test_connections_above_the_limit_are_told_503_and_later_ones_are_let_in(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 10.0)
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 3)
    held = [await listener.open() for _ in range(3)]
    await listener.until_connections(3)
    status, headers, body = await listener.ask()
    assert (status, headers["content-type"]) == (503, "application/problem+json")
    assert (json.loads(body)["code"], headers["retry-after"]) == ("OVERLOADED", str(limits.BUSY_RETRY_S))
    with pytest.raises(InvalidStatus, match="503"):
        await connect(f"ws://127.0.0.1:{listener.port}/api/v2/stream")
    for _, writer in held:
        writer.close()
    await listener.until_connections(0)
    assert (await listener.ask())[0] == 200
    async with connect(f"ws://127.0.0.1:{listener.port}/api/v2/stream"):
        pass


async def test_one_address_does_not_take_all_connections(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 10.0)
    monkeypatch.setattr(limits, "CONNECTIONS_PER_ADDRESS_MAX", 2)
    for _ in range(4):  # the machine itself is not counted
        assert (await listener.ask())[0] == 200
    monkeypatch.setattr("app.rest.listener.is_loopback_end", lambda end: False)
    held = [await listener.open() for _ in range(2)]
    await listener.until_connections(2)
    assert (await listener.ask())[0] == 503
    for _, writer in held:
        writer.close()


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, b"\x00" * 70_000, b"GET " + b"/" * 70_000,
     b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"],
    ids=["tls", "zeros", "long path", "many headers", "http2", "negative length", "two hosts"],
)  # fmt: skip
async def test_what_is_no_request_ends_its_connection_and_nothing_else(listener: Listener, garbage: bytes) -> None:
    reader, writer = await listener.open(garbage)
    await ends(reader)
    writer.close()
    assert (await listener.ask())[0] == 200
    await listener.until_connections(0)


@pytest.mark.parametrize("lengths", [("Content-Length: 5", "Transfer-Encoding: chunked"),
                                     ("Transfer-Encoding: chunked", "content-length: 5")])  # fmt: skip
async def test_a_body_with_two_lengths_is_refused_and_nothing_behind_it_is_read(
    listener: Listener, lengths: tuple[str, str]
) -> None:
    head = "\r\n".join(("POST / HTTP/1.1", "Host: x", *lengths, "", "")).encode()
    reader, writer = await listener.open(head + b"0\r\n\r\n" + GET)
    told = await reader.read()
    writer.close()
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.count(b"HTTP/1.1 ") == 1
