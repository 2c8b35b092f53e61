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
from app.ports.feed import LAG_BUCKET_MS, LAG_BUCKETS, NO_SOCKET, ConnectionCounters, TickBuffers

AHEAD_MAX_MS: Final = 120_000  # a trade cannot be further ahead of our clock
LTT_MIN: Final = 946_684_800  # 2000-01-01
USUAL_GAP_MAX_MS: Final = 600_000  # a night or an outage is no gap between packets

_SEGMENTS: Final = frozenset(map(int, Segment))
_SIZES: Final = tuple(PACKET_BYTES.get(code, HEADER_BYTES) for code in range(256))
_DATA_CODES: Final = frozenset((TICKER, QUOTE, OI, PREV_CLOSE, FULL))

_header: Final = Struct("<BHBI").unpack_from
_reason: Final = Struct("<8xH").unpack_from
_price: Final = Struct("<8xf").unpack_from
_ticker_time: Final = Struct("<12xI").unpack_from

# has, ltt, volume, first_ms, last_ms, packets, usual_gap_ms
_row_state: Final = Struct("<B13xI4xI150xqqIf").unpack_from
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


def _ticker_state(frame: bytes, at: int) -> tuple[int, int, float]:
    return _ticker_time(frame, at)[0], 0xFFFF_FFFF, 0.0  # tells no volume and no close


class _Layout(NamedTuple):
    """How a packet with a trade is copied: its bytes from 8 to ``head``, then those up to ``tail`` to ``tail_to``."""

    state: Callable[[bytes, int], tuple[int, int, float]]  # ltt, volume, close
    head: int
    write_head: Callable[..., None]
    tail: int  # 0: there is no second part
    tail_to: int
    write_tail: Callable[..., None]
    has: int


def _layout(
    state: Callable[[bytes, int], tuple[int, int, float]], head: int, tail: int, tail_to: int, has: Has
) -> _Layout:
    head_bytes, tail_bytes = head - HEADER_BYTES, max(tail - head, 0)
    write_head, write_tail = Struct(f"{head_bytes}s").pack_into, Struct(f"{tail_bytes}s").pack_into
    return _Layout(state, head, write_head, tail, tail_to, write_tail, int(has))


_LAYOUTS: Final = {
    TICKER: _layout(_ticker_state, 12, 16, _LTT, Has.TICKER),
    QUOTE: _layout(Struct("<14xI4xI12xf").unpack_from, 34, 50, _OPEN, Has.TICKER | Has.QUOTE),
    FULL: _layout(Struct("<14xI4xI24xf").unpack_from, 162, 0, 0, Has.TICKER | Has.QUOTE | Has.FULL | Has.OI),
}


def write_frame(buffers: TickBuffers, connection: int, frame: bytes, received_ms: int) -> bool:
    """Apply every packet of one binary message that arrived on ``connection`` at ``received_ms`` (epoch ms UTC).

    Never raises for what the bytes say: a broken packet is counted and ends its frame, those before it stay applied.

    Returns:
        True if it held a disconnect packet.
    """
    counters = buffers.counters[connection]
    end = len(frame)
    counters.frames += 1
    counters.bytes += end
    at = 0
    is_goodbye = False
    while at < end:
        if end - at < HEADER_BYTES:
            counters.malformed += 1
            break
        code, length, segment, security_id = _header(frame, at)
        if length > end - at or length < _SIZES[code]:
            counters.malformed += 1
            break
        counters.packets += 1
        if code in _DATA_CODES and segment in _SEGMENTS:
            counters.last_data_ms = received_ms
            slot = buffers.slot_of.get(segment << 32 | security_id)
            if slot is None:
                counters.unwanted += 1
            elif buffers.socket_of[slot] != connection and not _completes_move(buffers, connection, slot):
                counters.foreign += 1
            elif code in _LAYOUTS:
                _write_trade(buffers, connection, slot, frame, at, _LAYOUTS[code], segment, received_ms)
            else:
                _write_side(buffers, counters, slot, frame, at, code, received_ms)
        elif code == DISCONNECT:
            is_goodbye = True
            (buffers.disconnect_code[connection],) = _reason(frame, at)
        elif code != STATUS or segment not in _SEGMENTS:
            counters.unknown += 1
        at += length
    return is_goodbye


def _completes_move(buffers: TickBuffers, connection: int, slot: int) -> bool:
    if buffers.moving_to[slot] != connection:
        return False
    buffers.socket_of[slot] = connection
    buffers.moving_to[slot] = NO_SOCKET
    return True


def _write_trade(
    buffers: TickBuffers,
    connection: int,
    slot: int,
    frame: bytes,
    at: int,
    layout: _Layout,
    segment: int,
    received_ms: int,
) -> None:
    counters = buffers.counters[connection]
    rows = buffers.rows
    row = slot * ROW_BYTES
    has, row_ltt, row_volume, first_ms, last_ms, packets, usual_ms = _row_state(rows, row)
    state, head, write_head, tail, tail_to, write_tail, bits = layout
    ltt, volume, close = state(frame, at)
    lag_ms = received_ms - (ltt - IST_OFFSET_S) * 1000
    timed = ltt >= LTT_MIN and lag_ms >= -AHEAD_MAX_MS
    if not timed:
        counters.bad_time += ltt != 0
    elif ltt <= row_ltt:
        if ltt < row_ltt or 0 < volume < row_volume:  # none: a new day on which it has not traded yet
            counters.superseded += 1
            return
    elif row_ltt:  # a trade seen as it happened, not the last one before we came
        counters.last_lag_ms = lag_ms
        bucket = lag_ms // LAG_BUCKET_MS if lag_ms > 0 else 0
        buffers.lag_counts[connection * LAG_BUCKETS + (bucket if bucket < LAG_BUCKETS else LAG_BUCKETS - 1)] += 1

    write_head(rows, row + 8, frame[at + 8 : at + head])
    if tail:
        write_tail(rows, row + tail_to, frame[at + head : at + tail])
    if not timed:
        _write_u32(rows, row + _LTT, row_ltt)
    if not has & _LATCHED and 0.0 < close < inf and buffers.latching[segment]:
        _write_f32(rows, row + _PREV_CLOSE, close)
        has |= _LATCHED
    rows[row] = has | bits
    counters.applied += 1
    buffers.dirty[slot] = 1
    if first_ms:  # as in _note_packet; a call would cost a twentieth of the whole
        gap_ms = received_ms - last_ms
        gap_ms = 0 if gap_ms < 0 else gap_ms if gap_ms < USUAL_GAP_MAX_MS else USUAL_GAP_MAX_MS
        usual_ms = usual_ms + (gap_ms - usual_ms) * 0.125 if usual_ms else gap_ms
    _write_life(rows, row + _LIFE, first_ms or received_ms, received_ms, packets + 1 & 0xFFFF_FFFF, usual_ms)


def _write_side(
    buffers: TickBuffers, counters: ConnectionCounters, slot: int, frame: bytes, at: int, code: int, received_ms: int
) -> None:
    rows = buffers.rows
    row = slot * ROW_BYTES
    has, _, _, first_ms, last_ms, packets, usual_ms = _row_state(rows, row)
    if code == OI:
        _write_4(rows, row + _OI, frame[at + 8 : at + 12])
        rows[row] = has | _HAS_OI
    else:
        (price,) = _price(frame, at)
        if 0.0 < price < inf:
            _write_f32(rows, row + _PREV_CLOSE, price)
            rows[row] = has | _LATCHED
        _write_4(rows, row + _PREV_OI, frame[at + 12 : at + 16])
    counters.applied += 1
    buffers.dirty[slot] = 1
    _note_packet(rows, row, first_ms, last_ms, packets, usual_ms, received_ms)


def _note_packet(
    rows: bytearray, row: int, first_ms: int, last_ms: int, packets: int, usual_ms: float, received_ms: int
) -> None:
    if first_ms:
        gap_ms = received_ms - last_ms
        gap_ms = 0 if gap_ms < 0 else gap_ms if gap_ms < USUAL_GAP_MAX_MS else USUAL_GAP_MAX_MS
        usual_ms = usual_ms + (gap_ms - usual_ms) * 0.125 if usual_ms else gap_ms
    _write_life(rows, row + _LIFE, first_ms or received_ms, received_ms, packets + 1 & 0xFFFF_FFFF, usual_ms)
