"""Dhan's live feed as bytes: packets and commands, both halves. Pure; layouts are in the protocol notes, section 2.

The client half is :func:`packets`, :func:`decode` and the ``encode_*`` commands; the exchange half, for the simulator
and the tests, is :func:`encode_packet` and :func:`parse_command`. Nothing but :class:`BadFrame` leaves the decoder and
nothing but :class:`BadCommand` leaves the parser, whatever they are fed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, assert_never

import numpy as np
import orjson

from app.core.errors import BadFrame
from app.core.ids import InstrumentKey, Mode, Segment
from app.core.packets import (
    DepthLevel,
    Disconnect,
    Full,
    MarketStatus,
    OpenInterest,
    Packet,
    PrevClose,
    Quote,
    Ticker,
    Unknown,
)
from app.core.rows import DEPTH_DTYPE
from app.dhan.limits import INSTRUMENTS_PER_MESSAGE

HEADER_BYTES: Final = 8
TICKER, QUOTE, OI, PREV_CLOSE, STATUS, FULL, DISCONNECT = 2, 4, 5, 6, 7, 8, 50
PACKET_BYTES: Final = {TICKER: 16, QUOTE: 50, OI: 12, PREV_CLOSE: 16, STATUS: 8, FULL: 162, DISCONNECT: 10}
DEPTH_LEVELS: Final = 5

_HEADER = Struct("<BHBI")  # code, total length with this header, segment, security id; the length is unaligned
_TICKER = Struct("<fI")
_PREV_CLOSE = Struct("<fI")
_QUOTE = Struct("<fHIfIIIffff")  # sell before buy, and open-close-high-low
_OI = Struct("<I")
_FULL = Struct("<fHIfIIIIIIffff")
_LEVEL = Struct("<IIHHff")
_DISCONNECT = Struct("<H")

_DISCONNECT_REQUEST = 12
_U16_MAX = 0xFFFF
_U32_MAX = 0xFFFF_FFFF
_UNASSIGNED_SEGMENT = 6
_SEGMENTS: Final[dict[int, Segment]] = {int(segment): segment for segment in Segment}
_COMMAND_CHARS_MAX = 65_536  # 100 keys take about 6,000

_HEADER_FIELDS = [("code", "u1"), ("length", "<u2"), ("segment", "u1"), ("security_id", "<u4")]
_TRADE_FIELDS = [
    ("ltp", "<f4"),
    ("ltq", "<u2"),
    ("ltt", "<u4"),
    ("atp", "<f4"),
    ("volume", "<u4"),
    ("total_sell_qty", "<u4"),
    ("total_buy_qty", "<u4"),
]
_OI_FIELDS = [("oi", "<u4"), ("oi_high", "<u4"), ("oi_low", "<u4")]
_DAY_FIELDS = [("open", "<f4"), ("close_raw", "<f4"), ("high", "<f4"), ("low", "<f4")]

TICKER_DTYPE = np.dtype([*_HEADER_FIELDS, ("ltp", "<f4"), ("ltt", "<u4")])
QUOTE_DTYPE = np.dtype([*_HEADER_FIELDS, *_TRADE_FIELDS, *_DAY_FIELDS])
FULL_DTYPE = np.dtype(
    [*_HEADER_FIELDS, *_TRADE_FIELDS, *_OI_FIELDS, *_DAY_FIELDS, ("depth", DEPTH_DTYPE, (DEPTH_LEVELS,))]
)
"""Packet images for those who write many packets at once; the same bytes as :func:`encode_packet`."""


class BadCommand(Exception):
    """A client's text that is no command; ``reason`` says why in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Subscribe:
    mode: Mode
    keys: tuple[InstrumentKey, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    mode: Mode
    keys: tuple[InstrumentKey, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """Close the whole connection."""


Command = Subscribe | Unsubscribe | Bye


# --- packets, client half ---------------------------------------------------------------------------------------------


def packets(frame: bytes | memoryview) -> Iterator[Packet]:
    """Read the stacked packets of one message in order (protocol notes, 2.12).

    Packets before a broken one are yielded before the error, so that a caller can use them. A packet that is longer
    than its table says is read and skipped by its own length; one of an unknown code or segment is :class:`Unknown`.

    Raises:
        BadFrame: a header or packet cut short, or a length that cannot be.
    """
    end = len(frame)
    offset = 0
    while offset < end:
        if end - offset < HEADER_BYTES:
            raise BadFrame(offset, f"{end - offset} bytes after the last packet, a header takes {HEADER_BYTES}")
        code, length, segment, security_id = _HEADER.unpack_from(frame, offset)
        if not HEADER_BYTES <= length <= end - offset:
            raise BadFrame(offset, f"packet of {length} bytes where {end - offset} are left")
        if length < PACKET_BYTES.get(code, HEADER_BYTES):
            raise BadFrame(offset, f"packet {code} of {length} bytes, it takes {PACKET_BYTES[code]}")
        yield _read(frame, offset, code, length, segment, security_id)
        offset += length


def decode(frame: bytes | memoryview) -> list[Packet]:
    """All packets of one message; :class:`BadFrame` if any is broken. See :func:`packets`."""
    return list(packets(frame))


def _read(frame: bytes | memoryview, offset: int, code: int, length: int, segment: int, security_id: int) -> Packet:
    body = offset + HEADER_BYTES
    if code == DISCONNECT:
        return Disconnect(*_DISCONNECT.unpack_from(frame, body))
    reader = _READERS.get(code)
    known = _SEGMENTS.get(segment)
    if reader is None or known is None:
        return Unknown(code, length)
    return reader(InstrumentKey(known, security_id), frame, body)


def _read_full(key: InstrumentKey, frame: bytes | memoryview, body: int) -> Full:
    first = body + _FULL.size
    depth = tuple(DepthLevel(*_LEVEL.unpack_from(frame, first + i * _LEVEL.size)) for i in range(DEPTH_LEVELS))
    return Full._make((key, *_FULL.unpack_from(frame, body), depth))


_READERS: Final[dict[int, Callable[[InstrumentKey, bytes | memoryview, int], Packet]]] = {
    TICKER: lambda key, frame, body: Ticker(key, *_TICKER.unpack_from(frame, body)),
    QUOTE: lambda key, frame, body: Quote(key, *_QUOTE.unpack_from(frame, body)),
    OI: lambda key, frame, body: OpenInterest(key, *_OI.unpack_from(frame, body)),
    PREV_CLOSE: lambda key, frame, body: PrevClose(key, *_PREV_CLOSE.unpack_from(frame, body)),
    STATUS: lambda key, _frame, _body: MarketStatus(key),
    FULL: _read_full,
}


# --- packets, exchange half -------------------------------------------------------------------------------------------


def encode_packet(packet: Packet) -> bytes:
    """Write one packet as the exchange does.

    Last quantity and order counts are clamped to 65,535, the most that their fields hold. :class:`Unknown` becomes a
    header with zeros up to its length, on the unassigned segment.

    Raises:
        struct.error, OverflowError: another field does not fit its place.
    """
    match packet:
        case Ticker(key, ltp, ltt):
            return _header(TICKER, key) + _TICKER.pack(ltp, ltt)
        case PrevClose(key, prev_close, prev_oi):
            return _header(PREV_CLOSE, key) + _PREV_CLOSE.pack(prev_close, prev_oi)
        case Quote(key, ltp, ltq):
            return _header(QUOTE, key) + _QUOTE.pack(ltp, min(ltq, _U16_MAX), *packet[3:])
        case OpenInterest(key, oi):
            return _header(OI, key) + _OI.pack(oi)
        case Full(key, ltp, ltq):
            body = _FULL.pack(ltp, min(ltq, _U16_MAX), *packet[3:-1])
            return b"".join((_header(FULL, key), body, *map(_level, packet.depth)))
        case MarketStatus(key):
            return _header(STATUS, key)
        case Disconnect(reason):
            return _HEADER.pack(DISCONNECT, PACKET_BYTES[DISCONNECT], 0, 0) + _DISCONNECT.pack(reason)
        case Unknown(code, length):
            return _HEADER.pack(code, length, _UNASSIGNED_SEGMENT, 0).ljust(length, b"\0")
        case _:
            assert_never(packet)


def _header(code: int, key: InstrumentKey) -> bytes:
    return _HEADER.pack(code, PACKET_BYTES[code], key.segment, key.security_id)


def _level(level: DepthLevel) -> bytes:
    bid_qty, ask_qty, bid_orders, ask_orders, bid, ask = level
    return _LEVEL.pack(bid_qty, ask_qty, min(bid_orders, _U16_MAX), min(ask_orders, _U16_MAX), bid, ask)


# --- commands, client half --------------------------------------------------------------------------------------------


def encode_subscribe(keys: Sequence[InstrumentKey], mode: Mode) -> str:
    """Ask for up to 100 instruments (protocol notes, 1.3).

    Raises:
        ValueError: none, or more than one message may carry.
    """
    return _encode_list(int(mode), keys)


def encode_unsubscribe(keys: Sequence[InstrumentKey], mode: Mode) -> str:
    """Ask to stop; Dhan may ignore it (protocol notes, 1.4). Raises as :func:`encode_subscribe`."""
    return _encode_list(mode.unsubscribe_code, keys)


def encode_disconnect() -> str:
    """Say goodbye: the exchange closes the whole connection."""
    return json.dumps({"RequestCode": _DISCONNECT_REQUEST})


def _encode_list(code: int, keys: Sequence[InstrumentKey]) -> str:
    if not 0 < len(keys) <= INSTRUMENTS_PER_MESSAGE:
        raise ValueError(f"{len(keys)} instruments in one message, it carries 1 to {INSTRUMENTS_PER_MESSAGE}")
    listed = [{"ExchangeSegment": key.segment.name, "SecurityId": str(key.security_id)} for key in keys]
    return json.dumps({"RequestCode": code, "InstrumentCount": len(keys), "InstrumentList": listed})


# --- commands, exchange half ------------------------------------------------------------------------------------------

_SUBSCRIBE_CODES: Final[dict[object, Mode]] = {int(mode): mode for mode in Mode}
_UNSUBSCRIBE_CODES: Final[dict[object, Mode]] = {mode.unsubscribe_code: mode for mode in Mode}


def parse_command(text: str) -> Command:
    """Read what a client sent.

    Raises:
        BadCommand: anything but a well-formed command of at most 100 instruments.
    """
    if len(text) > _COMMAND_CHARS_MAX:
        raise BadCommand(f"text of {len(text)} characters")
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadCommand("not JSON") from error
    if not isinstance(request, dict):
        raise BadCommand("not an object")
    code = request.get("RequestCode")
    if type(code) is not int:  # JSON's true is a Python int as well
        raise BadCommand("RequestCode is not an integer")
    if code == _DISCONNECT_REQUEST:
        return Bye()
    if mode := _SUBSCRIBE_CODES.get(code):
        return Subscribe(mode, _parse_list(request))
    if mode := _UNSUBSCRIBE_CODES.get(code):
        return Unsubscribe(mode, _parse_list(request))
    raise BadCommand(f"RequestCode {code} is not one of this feed")


def _parse_list(request: dict[str, object]) -> tuple[InstrumentKey, ...]:
    listed, count = request.get("InstrumentList"), request.get("InstrumentCount")
    if not isinstance(listed, list):
        raise BadCommand("InstrumentList is not a list")
    if type(count) is not int or count != len(listed):
        raise BadCommand(f"InstrumentCount does not say that {len(listed)} are listed")
    if not 0 < count <= INSTRUMENTS_PER_MESSAGE:
        raise BadCommand(f"{count} instruments in one message, it carries 1 to {INSTRUMENTS_PER_MESSAGE}")
    return tuple(map(_parse_key, listed))


def _parse_key(entry: object) -> InstrumentKey:
    if not isinstance(entry, dict):
        raise BadCommand("an instrument is not an object")
    name, number = entry.get("ExchangeSegment"), entry.get("SecurityId")
    if not isinstance(name, str) or name not in Segment.__members__:
        raise BadCommand("ExchangeSegment is not one of this feed")
    if not isinstance(number, str) or not (number.isascii() and number.isdecimal() and len(number) <= 10):
        raise BadCommand("SecurityId is not a string of digits")
    if int(number) > _U32_MAX:
        raise BadCommand("SecurityId does not fit 32 bits")
    return InstrumentKey(Segment[name], int(number))
