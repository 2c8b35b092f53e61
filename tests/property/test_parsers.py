"""Whatever comes from outside into a parser: a value, or the one documented error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.core.entitlement import parse_segments
from app.core.eod import parse_eod_time
from app.core.errors import InvalidRequest, TerminalError, Unauthenticated
from app.core.ids import parse_expiry
from app.rest.auth import Authenticator, bearer_of
from app.rest.cursors import read_number_cursor
from app.rest.origin import address_of, is_local
from app.rest.stream_ws import StreamEndpoint, StreamSettings
from app.rest.tokens import TokenKind, TokenSigner
from app.storage.memory_store import MemoryStore
from app.stream.topics import parse_topic
from tests.stream_world import RELIANCE, TestClock, World

SIGNER = TokenSigner("a secret key of some length", TestClock())
PARSERS: dict[str, tuple[Callable[[str], object], type[Exception]]] = {
    "segments": (parse_segments, ValueError),
    "end of day": (parse_eod_time, ValueError),
    "expiry": (parse_expiry, ValueError),
    "cursor": (lambda text: read_number_cursor("log", text), InvalidRequest),
    "access token": (lambda text: SIGNER.read(TokenKind.ACCESS, text), Unauthenticated),
    "refresh token": (lambda text: SIGNER.read(TokenKind.REFRESH, text), Unauthenticated),
    "topic": (parse_topic, TerminalError),
    "authorization": (
        lambda text: bearer_of({"headers": [(b"authorization", text.encode("latin-1", "replace"))]}),
        Unauthenticated,
    ),
}
PIECES = st.sampled_from(
    [":", "=", ",", ";", ".", "-", "15:30", "NSE", "26FEB2026", "29FEB2027", "user", "all", "bearer ", "eyJhbGciOi",
     "AA", "chain:", "quotes:", "watchlist:1", "depth:", "9" * 30, "\x00", "\ud800", "\u0661", " ", "_CE", "RELIANCE_"]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=8).map("".join))


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_only_documented_errors_leave_the_parsers(name: str, text: str) -> None:
    parse, documented = PARSERS[name]
    with suppress(documented):
        parse(text)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"origin", b"sec-fetch-site", b"forwarded", b"x-forwarded-for", b"accept"]),
        st.binary(max_size=40) | st.sampled_from([b"127.0.0.1:8000", b"[::1", b"http://127.0.0.1:8000", b"null"]),
    ),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(headers=HEADERS, end=st.one_of(st.none(), st.tuples(st.text(max_size=20), st.integers(0, 65_535))))
@example(headers=[(b"host", b"127.0.0.1:99999999")], end=("127.0.0.1", 1))
def test_whatever_a_connection_shows_is_judged(headers: list[tuple[bytes, bytes]], end: tuple[str, int] | None) -> None:
    scope = {"type": "http", "scheme": "http", "headers": headers, "client": end, "server": ("127.0.0.1", 8000)}
    assert is_local(scope) in (True, False)
    assert isinstance(address_of(scope), str)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=5,
)
MESSAGES = st.fixed_dictionaries(
    {"op": st.sampled_from(["subscribe", "unsubscribe", "resume", "ping", "auth", "shout"]) | VALUES},
    optional={
        "topics": st.lists(TEXTS | st.sampled_from(["quotes:RELIANCE_EQ", "status", "events"]), max_size=6) | VALUES,
        "topic": TEXTS | VALUES,
        "seq": VALUES,
        "max_rate_hz": VALUES,
        "token": VALUES,
    },
)


@settings(max_examples=120, deadline=None)
@given(said=st.lists(MESSAGES | VALUES, max_size=12), raw=st.lists(st.binary(max_size=30) | st.text(max_size=30)))
def test_whatever_is_said_on_the_stream_is_answered(said: list[object], raw: list[bytes | str]) -> None:
    """Each message gets an error of the house or is obeyed, and the ping behind them all gets its pong."""
    asyncio.run(_converse([*map(_text, said), *raw]))


def _text(message: object) -> str:
    try:
        return orjson.dumps(message).decode()
    except TypeError:
        return repr(message)  # an integer beyond JSON's, a lone surrogate: no JSON, and said all the same


async def _converse(said: list[bytes | str]) -> None:
    world = World()
    await world.bus.start()
    world.start()
    world.books.subscribe(RELIANCE)
    store = MemoryStore(world.clock)
    await store.start()
    authenticator = Authenticator(store, world.clock, "a secret key of some length")
    endpoint = StreamEndpoint(world.hub, authenticator, world.clock, StreamSettings(ops_burst=1_000))
    events: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    events += [{"type": "websocket.receive", "bytes" if isinstance(each, bytes) else "text": each} for each in said]
    events.append({"type": "websocket.receive", "text": '{"op":"ping"}'})
    done = asyncio.Event()
    heard: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop(0)
        await done.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            heard.append(orjson.loads(message.get("text") or message["bytes"]))
            if not events and heard[-1]["type"] == "pong":
                done.set()
        assert message["type"] != "websocket.close"

    host = (b"host", b"127.0.0.1:8000")
    scope = {"type": "websocket", "path": "/api/v2/stream", "scheme": "ws", "headers": [host], "query_string": b"",
             "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000)}  # fmt: skip
    await asyncio.wait_for(endpoint(scope, receive, send), 10)
    assert all(message["code"] != "INTERNAL" for message in heard if message["type"] == "error")
    assert world.hub.clients == 0
    world.hub.stop()
    world.publisher.stop()
    await store.stop()
    await world.bus.stop()
