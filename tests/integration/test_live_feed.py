"""The feed client against a small real server on loopback that speaks the codec's bytes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from app.core.ids import InstrumentKey, Mode, Segment
from app.core.packets import DepthLevel, Disconnect, Full, OpenInterest, Packet, Quote, Ticker, ltt_from_utc
from app.dhan.codec import Bye, Command, Subscribe, Unsubscribe, encode_packet, parse_command
from app.dhan.live_feed import DhanFeed
from app.dhan.native import Wanted
from app.ports.feed import FeedClosed, Retry, TickBuffers
from tests.fixtures.decoders import DECODERS

TOKEN = "eyJhbGciOi.very-secret+token/0=.sig"
NOW_MS = 1_789_359_597_000
LTT = ltt_from_utc(NOW_MS / 1000)
FUTURE = InstrumentKey(Segment.NSE_FNO, 49543)
NIFTY = InstrumentKey(Segment.IDX_I, 13)
LEVELS = tuple(DepthLevel(1, 2, 3, 4, 99.5, 100.5) for _ in range(5))
FULL = Full(FUTURE, 100.0, 75, LTT, 99.0, 5000, 6, 7, 42, 43, 41, 98.0, 97.5, 101.0, 96.0, depth=LEVELS)
QUOTE = Quote(NIFTY, 24_850.0, 0, LTT, 0.0, 0, 0, 0, 24_800.0, 0.0, 24_900.0, 24_700.0)


class FixedClock:
    def now(self) -> datetime:
        return datetime.fromtimestamp(NOW_MS / 1000, UTC)

    def now_ms(self) -> int:
        return NOW_MS

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Keys:
    """Credentials of one token that remembers who refused it."""

    client_id: str = "1000000001"
    value: str = TOKEN
    refusals: list[str] = field(default_factory=list)

    async def token(self) -> str:
        return self.value

    def refused(self, token: str) -> None:
        self.refusals.append(token)


class Session(WSListener):
    """The exchange's end of one connection."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.pongs: list[bytes] = []
        self.gone = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.exchange.sessions.put_nowait(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.exchange.commands.put_nowait(parse_command(frame.get_payload_as_utf8_text()))
        elif frame.msg_type == WSMsgType.PONG:
            self.exchange.pongs.put_nowait(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone.set()

    def send(self, *packets: Packet) -> None:
        self.transport.send(WSMsgType.BINARY, b"".join(map(encode_packet, packets)))


class Exchange:
    """What the server saw, and how it answers the next handshake."""

    def __init__(self) -> None:
        self.sessions: asyncio.Queue[Session] = asyncio.Queue(100)
        self.commands: asyncio.Queue[Command] = asyncio.Queue(1000)
        self.pongs: asyncio.Queue[bytes] = asyncio.Queue(100)
        self.paths: list[str] = []
        self.refuse_with: WSUpgradeResponse | None = None
        self.on_request: Callable[[], object] = lambda: None
        self.url = ""

    def answer(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        self.paths.append(request.path.decode())
        self.on_request()
        if self.refuse_with is not None:
            return WSUpgradeResponseWithListener(self.refuse_with, None)
        return Session(self)


@contextlib.asynccontextmanager
async def serving(exchange: Exchange, **options: object) -> AsyncIterator[Exchange]:
    server = await ws_create_server(exchange.answer, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    port = server.sockets[0].getsockname()[1]
    exchange.url = f"{'wss' if 'ssl' in options else 'ws'}://127.0.0.1:{port}"
    try:
        yield exchange
    finally:
        server.close()
        while not exchange.sessions.empty():
            exchange.sessions.get_nowait().transport.disconnect(graceful=False)
        await server.wait_closed()


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    async with serving(Exchange()) as running:
        yield running


def new_buffers() -> TickBuffers:
    buffers = TickBuffers(slots=4, connections=5)
    buffers.slot_of.update({FUTURE.packed: 0, NIFTY.packed: 1})
    buffers.socket_of[0] = buffers.socket_of[1] = 0
    return buffers


@pytest.fixture
def buffers() -> TickBuffers:
    return new_buffers()


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture(params=DECODERS)
def feed(request: pytest.FixtureRequest, exchange: Exchange, buffers: TickBuffers, keys: Keys) -> DhanFeed:
    native: Wanted = "1" if request.param == "native" else "0"
    return DhanFeed(buffers, exchange.url, keys, FixedClock(), connect_timeout_s=5.0, native=native)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the board tells nobody
            await asyncio.sleep(0.002)


async def test_logs_in_by_url_subscribes_and_fills_rows(
    feed: DhanFeed, exchange: Exchange, buffers: TickBuffers
) -> None:
    connection = await feed.connect(0)
    (path,) = exchange.paths
    query = parse_qs(urlsplit(path).query)
    assert query == {"version": ["2"], "token": [TOKEN], "clientId": ["1000000001"], "authType": ["2"]}
    await connection.subscribe([FUTURE], Mode.FULL)
    await connection.unsubscribe([NIFTY], Mode.QUOTE)
    assert await exchange.commands.get() == Subscribe(Mode.FULL, (FUTURE,))
    assert await exchange.commands.get() == Unsubscribe(Mode.QUOTE, (NIFTY,))

    session = await exchange.sessions.get()
    session.send(FULL)
    session.send(QUOTE, OpenInterest(FUTURE, 99))
    await until(lambda: buffers.counters[0].packets == 3)
    assert (buffers.table[0]["ltp"], buffers.table[0]["oi"], buffers.table[1]["ltp"]) == (100.0, 99, 24_850.0)
    assert (buffers.table[0]["last_ms"], buffers.counters[0].last_data_ms) == (NOW_MS, NOW_MS)
    await connection.close()
    assert await exchange.commands.get() == Bye()
    await session.gone.wait()


async def test_pings_are_answered_and_are_no_data(feed: DhanFeed, exchange: Exchange, buffers: TickBuffers) -> None:
    connection = await feed.connect(0)
    session = await exchange.sessions.get()
    session.transport.send_ping(b"alive?")
    assert await exchange.pongs.get() == b"alive?"
    assert buffers.counters[0].last_data_ms == buffers.counters[0].frames == 0
    await connection.close()


async def test_the_receive_time_is_that_of_the_read(
    exchange: Exchange, buffers: TickBuffers, keys: Keys, feed: DhanFeed
) -> None:
    """Each read of the socket has its own time, even where a ping was the last frame of the read before."""

    class Ticking(FixedClock):
        at_ms = NOW_MS

        def now_ms(self) -> int:
            Ticking.at_ms += 1000
            return Ticking.at_ms

    feed._clock = Ticking()
    connection = await feed.connect(0)
    session = await exchange.sessions.get()
    seen: list[int] = []
    for number in range(3):
        session.send(FULL._replace(volume=5000 + number))
        session.transport.send_ping(b"last")
        await exchange.pongs.get()
        seen.append(int(buffers.table[0]["last_ms"]))
    assert seen == sorted(set(seen))
    assert seen[-1] - seen[0] >= 2000
    await connection.close()


async def test_pieces_of_a_message_are_joined(feed: DhanFeed, exchange: Exchange, buffers: TickBuffers) -> None:
    connection = await feed.connect(0)
    session = await exchange.sessions.get()
    message = encode_packet(FULL) + encode_packet(QUOTE)
    session.transport.send(WSMsgType.BINARY, message[:5], fin=False)
    session.transport.send(WSMsgType.CONTINUATION, message[5:170], fin=False)
    session.transport.send_ping(b"between")
    session.transport.send(WSMsgType.CONTINUATION, message[170:])
    session.send(Ticker(FUTURE, 101.0, LTT))
    await until(lambda: buffers.counters[0].packets == 3)
    assert (buffers.counters[0].frames, buffers.counters[0].malformed) == (2, 0)
    assert (buffers.table[0]["ltp"], buffers.table[1]["high"]) == (101.0, 24_900.0)
    await connection.close()


async def test_endless_pieces_end_the_connection(feed: DhanFeed, exchange: Exchange) -> None:
    connection = await feed.connect(0)
    session = await exchange.sessions.get()
    session.transport.send(WSMsgType.BINARY, bytes(1 << 19), fin=False)
    for _ in range(3):
        session.transport.send(WSMsgType.CONTINUATION, bytes(1 << 19), fin=False)
    assert "do not fit" in (await connection.wait_closed()).reason


async def test_text_is_counted_and_told_once(feed: DhanFeed, exchange: Exchange, buffers: TickBuffers) -> None:
    connection = await feed.connect(2)
    session = await exchange.sessions.get()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            session.transport.send(WSMsgType.TEXT, "hello")
        await until(lambda: feed.text_frames[2] == 3)
    assert [(line["event"], line["text"]) for line in logs] == [("feed.text_ignored", "hello")]
    assert buffers.counters[2].frames == 0
    await connection.close()


async def test_broken_bytes_do_not_end_the_connection(feed: DhanFeed, exchange: Exchange, buffers: TickBuffers) -> None:
    connection = await feed.connect(0)
    session = await exchange.sessions.get()
    session.transport.send(WSMsgType.BINARY, b"\x08\x00\x00garbage")
    session.send(FULL)
    await until(lambda: buffers.counters[0].applied == 1)
    assert buffers.counters[0].malformed == 1
    await connection.close()


@pytest.mark.parametrize(
    ("code", "retry", "is_refusal"),
    [
        (805, Retry.FEWER_SOCKETS, False),
        (806, Retry.SLOWLY, False),
        (807, Retry.NEW_TOKEN, True),
        (810, Retry.STOP, False),
    ],
)
async def test_a_disconnect_packet_ends_it_with_its_policy(
    feed: DhanFeed, exchange: Exchange, keys: Keys, code: int, retry: Retry, is_refusal: bool
) -> None:
    connection = await feed.connect(0)
    session = await exchange.sessions.get()
    session.send(FULL, Disconnect(code))  # and leaves the socket open: the client hangs up
    closed = await connection.wait_closed()
    assert (closed.code, closed.retry) == (code, retry)
    assert (keys.refusals == [TOKEN]) is is_refusal
    await session.gone.wait()
    with pytest.raises(FeedClosed) as late:
        await connection.subscribe([FUTURE], Mode.FULL)
    assert late.value.code == code


async def test_a_new_connection_forgets_the_last_goodbye(feed: DhanFeed, exchange: Exchange) -> None:
    first = await feed.connect(0)
    (await exchange.sessions.get()).send(Disconnect(805))
    await first.wait_closed()
    second = await feed.connect(0)
    (await exchange.sessions.get()).transport.disconnect(graceful=False)
    assert (await second.wait_closed()).code is None


async def test_a_cut_and_a_close_frame_mean_backoff(feed: DhanFeed, exchange: Exchange) -> None:
    connection = await feed.connect(0)
    (await exchange.sessions.get()).transport.disconnect(graceful=False)
    cut = await connection.wait_closed()
    assert (cut.retry, cut.reason) == (Retry.BACKOFF, "cut without a word")

    connection = await feed.connect(0)
    (await exchange.sessions.get()).transport.send_close(WSCloseCode.GOING_AWAY, f"bye {TOKEN}")
    closed = await connection.wait_closed()
    assert (closed.retry, closed.reason) == (Retry.BACKOFF, "closed by the exchange: 1001 bye ***")


@pytest.mark.parametrize(
    ("status", "body", "retry"),
    [
        (429, b"", Retry.RATE_LIMITED),
        (401, b"", Retry.NEW_TOKEN),
        (403, b"client id is blocked", Retry.STOP),
        (503, b"", Retry.BACKOFF),
    ],
)
async def test_a_refused_handshake_asks_for_its_policy(
    feed: DhanFeed, exchange: Exchange, keys: Keys, status: int, body: bytes, retry: Retry
) -> None:
    exchange.refuse_with = WSUpgradeResponse.create_error_response(status, body)
    with pytest.raises(FeedClosed) as refused:
        await feed.connect(0)
    assert (refused.value.retry, refused.value.code) == (retry, 403 if retry is Retry.STOP else status)
    assert bool(keys.refusals) is (retry is Retry.NEW_TOKEN)


async def test_a_redirect_is_not_followed_with_the_token(feed: DhanFeed, exchange: Exchange) -> None:
    exchange.refuse_with = WSUpgradeResponse.create_redirect_response(302, f"{exchange.url}/elsewhere")
    with pytest.raises(FeedClosed, match="302"):
        await feed.connect(0)
    assert len(exchange.paths) == 1


async def test_nobody_there_and_nobody_answering(buffers: TickBuffers, keys: Keys) -> None:
    hung_up = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = hung_up.sockets[0].getsockname()[1]
    feed = DhanFeed(buffers, f"ws://127.0.0.1:{port}", keys, FixedClock(), connect_timeout_s=0.2)
    async with hung_up:
        with pytest.raises(FeedClosed, match="before the handshake"):
            await feed.connect(0)
    with pytest.raises(FeedClosed, match="cannot connect"):
        await feed.connect(0)


async def test_a_server_that_never_answers(buffers: TickBuffers, keys: Keys) -> None:
    writers: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda _reader, writer: writers.append(writer), "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    feed = DhanFeed(buffers, f"ws://127.0.0.1:{port}", keys, FixedClock(), connect_timeout_s=0.2)
    async with mute:
        with pytest.raises(FeedClosed, match="no answer"):
            await feed.connect(0)
        for writer in writers:
            writer.close()


async def test_a_handshake_that_is_answered_after_we_gave_up_leaves_no_connection(
    feed: DhanFeed, exchange: Exchange
) -> None:
    """It would count towards the account's five, with nobody behind it."""
    opening = asyncio.create_task(feed.connect(0))
    exchange.on_request = opening.cancel
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(5):
        session = await exchange.sessions.get()
        await session.gone.wait()


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2100, 1, 1))
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem = folder / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context, pem


async def test_tls_is_verified(buffers: TickBuffers, keys: Keys, tmp_path: Path) -> None:
    context, pem = self_signed(tmp_path)
    async with serving(Exchange(), ssl=context, use_aiofastnet=False) as exchange:
        stranger = DhanFeed(buffers, exchange.url, keys, FixedClock())
        with pytest.raises(FeedClosed, match=r"(?i)certificate") as refused:
            await stranger.connect(0)
        assert refused.value.retry is Retry.BACKOFF
        trusted = ssl.create_default_context(cafile=str(pem))
        feed = DhanFeed(buffers, exchange.url, keys, FixedClock(), ssl_context=trusted)
        connection = await feed.connect(0)
        (await exchange.sessions.get()).send(FULL)
        await until(lambda: buffers.counters[0].applied == 1)
        await connection.close()


def test_it_stays_on_the_transports_of_the_loop_that_serves(buffers: TickBuffers, keys: Keys) -> None:
    """Others watch a socket from outside uvloop, and may never hear of its reset (decision 33)."""
    seen: list[object] = []

    class Noting(DhanFeed):
        async def _shake_hands(self, make_listener: object, token: str) -> tuple[WSTransport, WSListener | None]:
            opened = await super()._shake_hands(make_listener, token)  # type: ignore[arg-type]
            seen.append(opened[0].underlying_transport)
            return opened

    async def connect() -> None:
        async with serving(Exchange()) as exchange:
            connection = await Noting(buffers, exchange.url, keys, FixedClock()).connect(0)
            await connection.close()

    uvloop.run(connect())
    assert [type(transport).__module__ for transport in seen] == ["uvloop.loop"]


async def test_close_is_safe_to_repeat(feed: DhanFeed) -> None:
    connection = await feed.connect(0)
    await connection.close()
    await connection.close()
    assert (await connection.wait_closed()).reason == "closed by this side"
    with pytest.raises(FeedClosed):
        await connection.subscribe([FUTURE], Mode.FULL)


async def test_five_connections_count_apart(feed: DhanFeed, exchange: Exchange, buffers: TickBuffers) -> None:
    connections = [await feed.connect(index) for index in range(5)]
    sessions = [await exchange.sessions.get() for _ in range(5)]
    for number, session in enumerate(sessions):
        for _ in range(number + 1):
            session.send(FULL)
    await until(lambda: sum(c.packets for c in buffers.counters) == 15)
    assert [c.packets for c in buffers.counters] == [1, 2, 3, 4, 5]
    assert [c.foreign for c in buffers.counters] == [0, 2, 3, 4, 5]
    for connection in connections:
        await connection.close()


async def test_many_messages_are_paced_by_the_socket(feed: DhanFeed, exchange: Exchange) -> None:
    connection = await feed.connect(0)
    keys = [InstrumentKey(Segment.NSE_FNO, 100_000 + n) for n in range(100)]
    for _ in range(250):
        await connection.subscribe(keys, Mode.FULL)
    for _ in range(250):
        command = await exchange.commands.get()
        assert isinstance(command, Subscribe)
        assert len(command.keys) == 100
    await connection.close()


async def test_the_token_is_nowhere(
    feed: DhanFeed, exchange: Exchange, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    logging.getLogger("picows").setLevel(1)
    told: list[object] = [feed]
    with structlog.testing.capture_logs() as logs:
        connection = await feed.connect(0)
        told.append(connection)
        session = await exchange.sessions.get()
        session.transport.send(WSMsgType.TEXT, f"your token {TOKEN} is bad")
        session.send(Disconnect(808))
        told.append(await connection.wait_closed())
        exchange.refuse_with = WSUpgradeResponse.create_error_response(401, f"bad {TOKEN}".encode())
        for url in (exchange.url, "ws://127.0.0.1:1", f"http://{TOKEN}"):
            with pytest.raises(FeedClosed) as refused:
                await DhanFeed(new_buffers(), url, keys, FixedClock()).connect(0)
            told += [refused.value, repr(refused.value), refused.value.__cause__]
    client_lines = [line for line in caplog.text.splitlines() if "picows.server" not in line and "New data" not in line]
    everything = "\n".join([*map(repr, told), *map(str, told), str(logs), *client_lines])
    assert "very-secret" not in everything
    logging.getLogger("picows").setLevel(logging.NOTSET)
