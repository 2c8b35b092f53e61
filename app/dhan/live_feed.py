"""One connection to Dhan's live feed: connect, frames to the decoder, commands out, and why it ended.

Holds no state beyond its socket: what is subscribed is the pool's business, what arrives is the board's. The access
token is part of the URL (protocol notes, 1.1): no exception, log line or repr of this module shows it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import structlog
from picows import (
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,
)

from app.core import current
from app.core.blocking import run
from app.core.ids import InstrumentKey, Mode
from app.dhan.codec import encode_disconnect, encode_subscribe, encode_unsubscribe
from app.dhan.decoder import FrameWriter
from app.dhan.native import Wanted, load_native
from app.dhan.policy import closed_by_code, closed_by_http
from app.ports.clock import Clock
from app.ports.feed import FeedClosed, FeedConnection, Retry, TickBuffers

MESSAGE_BYTES_MAX: Final = 1 << 20  # Dhan's are below 20 kB; more is not this protocol
_SHOWN_CHARS_MAX: Final = 200
_BINARY: Final = WSMsgType.BINARY


class Credentials(Protocol):
    """What a connection logs in with."""

    @property
    def client_id(self) -> str: ...

    async def token(self) -> str:
        """A token not known to be refused.

        Raises:
            FeedClosed: there is none at present; says when to ask again.
        """
        ...

    def refused(self, token: str) -> None:
        """The exchange does not take that token any more."""
        ...


class DhanFeed:
    """Connections that write into one set of buffers; the real exchange and the simulator differ by ``url`` only.

    ``ssl_context`` None verifies chain and host name. ``native`` is ``BT_NATIVE``; ``decoder_note`` says in one
    line why the native decoder does not serve, None if it does. With it, the buffers' slot table and counters are
    replaced here.
    """

    def __init__(
        self,
        buffers: TickBuffers,
        url: str,
        credentials: Credentials,
        clock: Clock,
        *,
        connect_timeout_s: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        native: Wanted = "auto",
    ) -> None:
        self._native, self.decoder_note = load_native(native)
        self.text_frames = [0] * buffers.connections
        self._board = self._native.board_of(buffers) if self._native else None
        self._buffers = buffers
        self._url = url
        self._credentials = credentials
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._ssl_context = ssl_context
        # The library writes the handshake, with the token, to its debug log; what matters comes back as exceptions.
        self._silent = logging.getLogger("dhan.wire")
        self._silent.setLevel(logging.CRITICAL + 1)

    def __repr__(self) -> str:
        return f"DhanFeed({self._url!r})"

    async def connect(self, index: int) -> FeedConnection:
        """Open connection ``index``.

        Raises:
            FeedClosed: refused, not reached, or no token to log in with.
        """
        token = await self._credentials.token()
        self._buffers.disconnect_code[index] = 0
        try:
            return await self._open(index, token)
        except FeedClosed as closed:
            if closed.retry is Retry.NEW_TOKEN:
                self._credentials.refused(token)
            raise

    async def _open(self, index: int, token: str) -> _Connection:
        def note_text(text: str) -> None:
            self._note_text(index, _without(token, text))

        listener = _Listener(self._buffers, index, self._writer(index), self._clock.now_ms, note_text)

        def make_listener(_request: WSUpgradeRequest, _response: WSUpgradeResponse) -> WSListener:
            if self._native is None or self._board is None:
                return listener
            return self._native.Listener(self._board, index, self._clock.now_ms, listener)

        # The library does not close a socket whose handshake is cancelled: it goes on, and whoever is let in leaves.
        opening = asyncio.get_running_loop().create_task(self._shake_hands(make_listener, token))
        try:
            # The library's own limit counts from the TCP connection on and closes the socket itself.
            async with asyncio.timeout(2 * self._connect_timeout_s):
                transport, answered = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_hang_up)
            raise
        except WSHandshakeError as error:
            raise _refusal(error, token) from None
        except TimeoutError:
            opening.add_done_callback(_hang_up)
            raise FeedClosed(f"no answer to the handshake within {self._connect_timeout_s:g} s") from None
        except (OSError, WSError) as error:
            raise FeedClosed(_without(token, f"cannot connect: {error}")) from None
        if answered is None:  # hung up before it answered
            raise FeedClosed("closed before the handshake was answered")
        return _Connection(transport, listener, self._credentials, token)

    async def _shake_hands(
        self, make_listener: Callable[[WSUpgradeRequest, WSUpgradeResponse], WSListener], token: str
    ) -> tuple[WSTransport, WSListener | None]:
        answered: tuple[WSTransport, WSListener | None] = await ws_connect(
            make_listener,
            _login_url(self._url, token, self._credentials.client_id),
            ssl_context=self._ssl_context,
            websocket_handshake_timeout=self._connect_timeout_s,
            logger_name=self._silent,
            enable_auto_pong=False,  # the listener answers: the native one must see every frame
            max_frame_size=MESSAGE_BYTES_MAX,
            max_redirects=0,  # a redirect would hand the token to somebody else
            use_aiofastnet=False,  # its watchers on uvloop can end without a word at a reset (decision 33)
        )
        return answered

    def _writer(self, index: int) -> Callable[[bytes, int], bool]:
        if self._board is None:
            return FrameWriter(self._buffers, index).write
        return partial(self._board.write_frame, index)

    def _note_text(self, index: int, text: str) -> None:
        self.text_frames[index] += 1
        if self.text_frames[index] == 1:
            structlog.get_logger().warning("feed.text_ignored", connection=index + 1, text=text[:_SHOWN_CHARS_MAX])


class _Listener(WSListener):
    """Receives frames; joins those that were sent in pieces."""

    def __init__(
        self,
        buffers: TickBuffers,
        index: int,
        write: Callable[[bytes, int], bool],
        now_ms: Callable[[], int],
        note_text: Callable[[str], None],
    ) -> None:
        self.index = index
        self.writable = asyncio.Event()
        self.writable.set()
        self.goodbye: str | None = None  # what the peer's close frame said
        self._disconnect_code = buffers.disconnect_code
        self._write = write
        self._now_ms = now_ms
        self._received_ms = 0
        self._is_next_read = True
        self._note_text = note_text
        self._pieces: bytearray | None = None
        self._joins_text = False

    @property
    def disconnect_code(self) -> int:
        return self._disconnect_code[self.index]

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._is_next_read:  # one time for all frames of a read: a clock costs as much as a frame
            self._received_ms = self._now_ms()
        self._is_next_read = frame.last_in_buffer
        if frame.fin and frame.msg_type is _BINARY:
            if self._write(frame.get_payload_as_bytes(), self._received_ms):
                transport.disconnect()
        elif frame.msg_type in (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._join(transport, frame)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            self.goodbye = f"{int(frame.get_close_code().value)} {frame.get_close_reason() or ''}".strip()
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _join(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._pieces, self._joins_text = bytearray(), frame.msg_type == WSMsgType.TEXT
        if self._pieces is None or len(self._pieces) + frame.payload_size > MESSAGE_BYTES_MAX:
            self.goodbye = "pieces of a message that do not fit together"
            transport.disconnect(graceful=False)
            return
        self._pieces += frame.get_payload_as_memoryview()
        if not frame.fin:
            return
        message, self._pieces = bytes(self._pieces), None
        if self._joins_text:
            self._note_text(message.decode("utf-8", "replace"))
        elif self._write(message, self._now_ms()):
            transport.disconnect()


class _Connection:
    """A live socket, as the pool sees it."""

    def __init__(self, transport: WSTransport, listener: _Listener, credentials: Credentials, token: str) -> None:
        self._transport = transport
        self._listener = listener
        self._credentials = credentials
        self._token = token
        self._closing = False

    def __repr__(self) -> str:
        return f"<connection {self._listener.index + 1}>"

    async def subscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        await self._send(encode_subscribe(keys, mode))

    async def unsubscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        await self._send(encode_unsubscribe(keys, mode))

    async def wait_closed(self) -> FeedClosed:
        try:
            await self._transport.wait_disconnected()
        except WSError as error:
            return FeedClosed(_without(self._token, f"broken frames: {error}"))
        return self._why()

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._transport.send(WSMsgType.TEXT, encode_disconnect())
            self._transport.send_close()
            self._transport.disconnect(graceful=False)
        await self.wait_closed()

    async def _send(self, text: str) -> None:
        await self._listener.writable.wait()
        if self._closing or self._transport.is_disconnected or self._transport.is_close_frame_sent:
            raise self._why()
        self._transport.send(WSMsgType.TEXT, text)

    def _why(self) -> FeedClosed:
        if code := self._listener.disconnect_code:
            closed = closed_by_code(code)
            if closed.retry is Retry.NEW_TOKEN:
                self._credentials.refused(self._token)
            return closed
        if self._closing:
            return FeedClosed("closed by this side")
        if self._listener.goodbye is not None:
            said = _without(self._token, self._listener.goodbye)[:_SHOWN_CHARS_MAX]
            return FeedClosed(f"closed by the exchange: {said}")
        return FeedClosed("cut without a word")


def _hang_up(opening: asyncio.Task[tuple[WSTransport, WSListener | None]]) -> None:
    """Leave a connection that was let in after nobody waited for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].disconnect(graceful=False)


def run_feed() -> None:
    """Wait for as long as the running service keeps its connections up (contract, section 8).

    They come up and go with the service, and never a second time beside it: nothing is opened here. Where no service
    runs there are none, and this returns at once.
    """
    run(current.runtime().ws_manager.wait_stopped())


def _login_url(url: str, token: str, client_id: str) -> str:
    parts = urlsplit(url)
    login = f"version=2&token={quote(token, safe='')}&clientId={quote(client_id, safe='')}&authType=2"
    query = f"{parts.query}&{login}" if parts.query else login
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", query, ""))


def _refusal(error: WSHandshakeError, token: str) -> FeedClosed:
    if error.response is None:
        return FeedClosed(_without(token, f"handshake failed: {error}"))
    body = (error.raw_body or b"")[:_SHOWN_CHARS_MAX].decode("utf-8", "replace")
    return closed_by_http(int(error.response.status), body)


def _without(token: str, text: str) -> str:
    for shape in {token, quote(token, safe="")} - {""}:
        text = text.replace(shape, "***")
    return text
