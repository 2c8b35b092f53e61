"""From a frame to board rows, in arrival order, without a Python object per packet. The reference of both decoders.

The rules are those of :class:`app.ports.feed.TickBuffers` and :mod:`app.core.rows`; the offsets are in the protocol
notes, section 2. ``_native.pyx`` does the same in C, byte for byte alike: change both, their common tests compare them.

What a packet does to the row of its key:

* Full replaces the image, Quote its own part of it, Ticker price and time, OI the open interest.
* It is *superseded*, and changes nothing, if its (last trade time, volume) is older than the row's. No volume at all is
  not older: before its first trade of the day an instrument still tells the last trade of the day before.
* A last trade time of 0 means no trade yet; one before 2000 or more than two minutes ahead is counted as bad. Either
  way the packet is applied and the row keeps the time it had.
* A previous-close packet always counts. The close field of Quote and Full is taken as the previous close once, while
  the segment is in session, because after hours it turns into today's (contract, rule 11). Zero is not a price.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from struct import Struct
from typing import Final, NamedTuple

from app.core.ids import Segment
from app.core.packets import IST_OFFSET_S
from app.core.rows import ROW_BYTES, Has, offset_of
from app.dhan.codec import DISCONNECT, FULL, HEADER_BYTES, OI, PACKET_BYTES, PREV_CLOSE, QUOTE, STATUS, TICKER
from app.ports.feed import LAG_BUCKET_MS, LAG_BUCKETS, NO_SOCKET, TickBuffers

AHEAD_MAX_MS: Final = 120_000  # a trade cannot be further ahead of our clock
LTT_MIN: Final = 946_684_800  # 2000-01-01
USUAL_GAP_MAX_MS: Final = 600_000  # a night or an outage is no gap between packets

_SEGMENTS: Final = frozenset(map(int, Segment))
_TRADE_CODES: Final = frozenset((TICKER, QUOTE, FULL))
_DATA_CODES: Final = _TRADE_CODES | {OI, PREV_CLOSE}

_reason: Final = Struct("<8xH").unpack_from
_price: Final = Struct("<8xf").unpack_from
_header: Final = Struct("<xHBI").unpack_from
_ticker: Final = Struct("<xHBI4xI").unpack_from

# has, ltt, volume, what lies between a Full packet's image and the row's life, first_ms, last_ms, packets, usual_gap_ms
_row_state: Final = Struct("<B13xI4xI136x14sqqIf").unpack_from
_write_row: Final = Struct("<B7x154s14sqqIf").pack_into  # all of it in one go; nothing is kept between has and ltp
_write_life: Final = Struct("<qqIf").pack_into
_write_u32: Final = Struct("<I").pack_into
_write_f32: Final = Struct("<f").pack_into
_write_4: Final = Struct("4s").pack_into  # half the time of assigning to a slice
_LIFE: Final = offset_of("first_ms")
_LTT: Final = offset_of("ltt")
_OI: Final = offset_of("oi")
_OPEN: Final = offset_of("open")
_PREV_CLOSE: Final = offset_of("prev_close")
_PREV_OI: Final = offset_of("prev_oi")

_LATCHED: Final = int(Has.PREV_CLOSE)
_HAS_OI: Final = int(Has.OI)


_Head = tuple[int, int, int, int, int, float]
"""Of a packet: its length, segment, security id, and of a trade last trade time, volume and close."""


def _plain_head(frame: bytes, at: int) -> _Head:
    return (*_header(frame, at), 0, 0, 0.0)


def _ticker_head(frame: bytes, at: int) -> _Head:
    return (*_ticker(frame, at), 0xFFFF_FFFF, 0.0)  # tells no volume and no close


_READERS: Final[dict[int, Callable[[bytes, int], _Head]]] = {
    TICKER: _ticker_head,
    QUOTE: Struct("<xHBI6xI4xI12xf").unpack_from,
    FULL: Struct("<xHBI6xI4xI24xf").unpack_from,
}
_HEADS: Final = tuple((_READERS.get(code, _plain_head), PACKET_BYTES.get(code, HEADER_BYTES)) for code in range(256))
_FULL_HAS: Final = int(Has.TICKER | Has.QUOTE | Has.FULL | Has.OI)
_FULL_END: Final = PACKET_BYTES[FULL]


class _Part(NamedTuple):
    """Where a trade that is not a row's whole image goes: its bytes from 8 to ``head``, then up to ``tail``."""

    has: int
    head: int
    write_head: Callable[..., None]
    tail: int
    tail_to: int
    write_tail: Callable[..., None]


def _part(has: Has, head: int, tail: int, tail_to: int) -> _Part:
    write_head, write_tail = Struct(f"{head - HEADER_BYTES}s").pack_into, Struct(f"{tail - head}s").pack_into
    return _Part(int(has), head, write_head, tail, tail_to, write_tail)


_PARTS: Final = {
    TICKER: _part(Has.TICKER, 12, 16, _LTT),
    QUOTE: _part(Has.TICKER | Has.QUOTE, 34, 50, _OPEN),
}


class FrameWriter:
    """Applies what arrives on one connection; its loop looks nothing up twice, for each packet runs through it."""

    def __init__(self, buffers: TickBuffers, connection: int) -> None:
        self._buffers = buffers
        self._connection = connection
        self._counters = buffers.counters[connection]
        self._slot_of = buffers.slot_of.get
        self._socket_of = buffers.socket_of
        self._rows = buffers.rows
        self._dirty = buffers.dirty
        self._latching = buffers.latching
        self._lag_counts = buffers.lag_counts
        self._lags = connection * LAG_BUCKETS

    def write(self, frame: bytes, received_ms: int) -> bool:
        """Apply every packet of one binary message that arrived at ``received_ms`` (epoch ms UTC).

        Never raises for what the bytes say: a broken packet is counted and ends its frame, those before it stay
        applied.

        Returns:
            True if it held a disconnect packet.
        """
        counters = self._counters
        end, at, is_goodbye = len(frame), 0, False
        counters.frames += 1
        counters.bytes += end
        while at < end:
            code, left = frame[at], end - at
            read_head, least = _HEADS[code]
            if left < least:
                counters.malformed += 1
                break
            length, segment, security_id, ltt, volume, close = read_head(frame, at)
            if not least <= length <= left:
                counters.malformed += 1
                break
            counters.packets += 1
            if code in _DATA_CODES and segment in _SEGMENTS:
                counters.last_data_ms = received_ms
                slot = self._slot_of(segment << 32 | security_id)
                if slot is None:
                    counters.unwanted += 1
                elif self._socket_of[slot] != self._connection and not self._completes_move(slot):
                    counters.foreign += 1
                elif code in _TRADE_CODES:
                    self._write_trade(slot, frame, at, code, segment, ltt, volume, close, received_ms)
                else:
                    self._write_side(slot, frame, at, code, received_ms)
            else:
                is_goodbye |= self._note_other(code, segment, frame, at)
            at += length
        return is_goodbye

    def _note_other(self, code: int, segment: int, frame: bytes, at: int) -> bool:
        """A packet without data; true if the exchange takes its leave with it."""
        if code == DISCONNECT:
            (self._buffers.disconnect_code[self._connection],) = _reason(frame, at)
            return True
        if code != STATUS or segment not in _SEGMENTS:
            self._counters.unknown += 1
        return False

    def _completes_move(self, slot: int) -> bool:
        buffers = self._buffers
        if buffers.moving_to[slot] != self._connection:
            return False
        buffers.socket_of[slot] = self._connection
        buffers.moving_to[slot] = NO_SOCKET
        return True

    def _write_trade(
        self,
        slot: int,
        frame: bytes,
        at: int,
        code: int,
        segment: int,
        ltt: int,
        volume: int,
        close: float,
        received_ms: int,
    ) -> None:
        counters, rows = self._counters, self._rows
        row = slot * ROW_BYTES
        has, row_ltt, row_volume, kept, first_ms, last_ms, packets, usual_ms = _row_state(rows, row)
        lag_ms = received_ms - (ltt - IST_OFFSET_S) * 1000
        timed = ltt >= LTT_MIN and lag_ms >= -AHEAD_MAX_MS
        if not timed:
            counters.bad_time += ltt != 0
        elif ltt <= row_ltt:
            if ltt < row_ltt or 0 < volume < row_volume:  # none: a new day on which it has not traded yet
                counters.superseded += 1
                return
        elif row_ltt:  # a trade seen as it happened, not the last one before we came
            self._note_lag(lag_ms)
        latches = not has & _LATCHED and 0.0 < close < inf and self._latching[segment]
        if latches:
            has |= _LATCHED
        if first_ms:
            usual_ms = _usual_gap(usual_ms, received_ms - last_ms)
        else:
            first_ms = received_ms
        packets = packets + 1 & 0xFFFF_FFFF
        if code == FULL:
            image = frame[at + 8 : at + _FULL_END]
            _write_row(rows, row, has | _FULL_HAS, image, kept, first_ms, received_ms, packets, usual_ms)
        else:
            self._write_part(row, frame, at, code, has)
            _write_life(rows, row + _LIFE, first_ms, received_ms, packets, usual_ms)
        if not timed:
            _write_u32(rows, row + _LTT, row_ltt)
        if latches:
            _write_f32(rows, row + _PREV_CLOSE, close)
        counters.applied += 1
        self._dirty[slot] = 1

    def _note_lag(self, lag_ms: int) -> None:
        self._counters.last_lag_ms = lag_ms
        bucket = lag_ms // LAG_BUCKET_MS if lag_ms > 0 else 0
        self._lag_counts[self._lags + (bucket if bucket < LAG_BUCKETS else LAG_BUCKETS - 1)] += 1

    def _write_part(self, row: int, frame: bytes, at: int, code: int, has: int) -> None:
        rows = self._rows
        bits, head, write_head, tail, tail_to, write_tail = _PARTS[code]
        rows[row] = has | bits
        write_head(rows, row + 8, frame[at + 8 : at + head])
        write_tail(rows, row + tail_to, frame[at + head : at + tail])

    def _write_side(self, slot: int, frame: bytes, at: int, code: int, received_ms: int) -> None:
        rows = self._rows
        row = slot * ROW_BYTES
        has, _, _, _, first_ms, last_ms, packets, usual_ms = _row_state(rows, row)
        if code == OI:
            _write_4(rows, row + _OI, frame[at + 8 : at + 12])
            rows[row] = has | _HAS_OI
        else:
            (price,) = _price(frame, at)
            if 0.0 < price < inf:
                _write_f32(rows, row + _PREV_CLOSE, price)
                rows[row] = has | _LATCHED
            _write_4(rows, row + _PREV_OI, frame[at + 12 : at + 16])
        if first_ms:
            usual_ms = _usual_gap(usual_ms, received_ms - last_ms)
        _write_life(rows, row + _LIFE, first_ms or received_ms, received_ms, packets + 1 & 0xFFFF_FFFF, usual_ms)
        self._counters.applied += 1
        self._dirty[slot] = 1


def write_frame(buffers: TickBuffers, connection: int, frame: bytes, received_ms: int) -> bool:
    """Apply one message as :meth:`FrameWriter.write` does."""
    return FrameWriter(buffers, connection).write(frame, received_ms)


def _usual_gap(usual_ms: float, gap_ms: int) -> float:
    if not 0 <= gap_ms <= USUAL_GAP_MAX_MS:
        gap_ms = 0 if gap_ms < 0 else USUAL_GAP_MAX_MS
    return usual_ms + (gap_ms - usual_ms) * 0.125 if usual_ms else gap_ms
