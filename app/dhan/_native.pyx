# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The decoder of ``decoder.py`` in C, and a WebSocket listener that calls it without a Python object per packet.

``decoder.py`` is the reference: both are held together by tests that compare whole boards, byte for byte. Little-endian
machines only, as is the wire.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define bt_prefetch(at) __builtin_prefetch((at), 1, 3)
    #else
    #define bt_prefetch(at) ((void)(at))
    #endif
    """
    void bt_prefetch(const void* at) noexcept nogil

cdef uint64_t NO_KEY = <uint64_t>1 << 50  # no segment has it

# Packets: codes, sizes and offsets (protocol notes, section 2); rows: app/core/rows.py.
cdef enum:
    TICKER = 2
    QUOTE = 4
    OI = 5
    PREV_CLOSE = 6
    STATUS = 7
    FULL = 8
    DISCONNECT = 50
    HEADER_BYTES = 8

    ROW_BYTES = 256
    ROW_LTP = 8
    ROW_LTT = 14
    ROW_VOLUME = 22
    ROW_OI = 34
    ROW_OPEN = 46
    ROW_PREV_CLOSE = 164
    ROW_PREV_OI = 168
    ROW_FIRST_MS = 176
    ROW_LAST_MS = 184
    ROW_PACKETS = 192
    ROW_GAP = 196

    HAS_TICKER = 1
    HAS_QUOTE = 2
    HAS_FULL = 4
    HAS_OI = 8
    LATCHED = 16

    NO_SOCKET = 255
    IST_OFFSET_S = 19800
    AHEAD_MAX_MS = 120000
    LTT_MIN = 946684800
    USUAL_GAP_MAX_MS = 600000

    LAG_BUCKET_MS = 20
    LAG_BUCKETS = 1500

    # An entry of the slot table is (key + 1) << SLOT_BITS | slot; a key takes 40 bits at most, 0 is an empty place.
    SLOT_BITS = 22
    SLOT_MASK = (1 << SLOT_BITS) - 1

    # How many frames ahead a slot table entry, and then a row, is called into the cache; powers of two.
    KEYS_AHEAD = 16
    ROWS_AHEAD = 8


cdef inline uint16_t u16(const uint8_t* at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value


cdef inline uint32_t u32(const uint8_t* at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline int64_t i64(const uint8_t* at) noexcept nogil:
    cdef int64_t value
    memcpy(&value, at, 8)
    return value


cdef inline float f32(const uint8_t* at) noexcept nogil:
    cdef float value
    memcpy(&value, at, 4)
    return value


cdef inline bint is_segment(uint8_t segment) noexcept nogil:
    return segment <= 8 and segment != 6


cdef inline Py_ssize_t least_size(uint8_t code) noexcept nogil:
    if code == FULL:
        return 162
    if code == QUOTE:
        return 50
    if code == TICKER or code == PREV_CLOSE:
        return 16
    if code == OI:
        return 12
    if code == DISCONNECT:
        return 10
    return HEADER_BYTES


cdef class Counters:
    """What :class:`app.ports.feed.ConnectionCounters` counts, as plain C integers; read at scrape time."""

    cdef public int64_t frames, packets, bytes, applied, superseded, foreign, unwanted, unknown, malformed, bad_time
    cdef public int64_t last_data_ms, last_lag_ms

    def __init__(self, before=None):
        if before is not None:
            for name in COUNTER_NAMES:
                setattr(self, name, getattr(before, name))

    def __repr__(self):
        told = ", ".join(f"{name}={getattr(self, name)}" for name in COUNTER_NAMES)
        return f"Counters({told})"


COUNTER_NAMES = (
    "frames", "packets", "bytes", "applied", "superseded", "foreign", "unwanted", "unknown", "malformed", "bad_time",
    "last_data_ms", "last_lag_ms",
)


cdef class SlotIndex:
    """Open addressing with linear probing; at most half full, so that a probe always ends."""

    cdef uint64_t* _entries
    cdef uint64_t _mask
    cdef int _shift
    cdef Py_ssize_t _used
    cdef readonly Py_ssize_t slots

    def __cinit__(self, Py_ssize_t slots):
        cdef Py_ssize_t capacity = 16
        cdef int bits = 4
        if not 0 < slots <= SLOT_MASK:
            raise ValueError(f"{slots} slots")
        while capacity < 2 * slots:
            capacity *= 2
            bits += 1
        self.slots = slots
        self._mask = <uint64_t>capacity - 1
        self._shift = 64 - bits
        self._entries = <uint64_t*>calloc(capacity, sizeof(uint64_t))
        if self._entries == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._entries)

    cdef inline uint64_t _home(self, uint64_t key) noexcept nogil:
        return (key * <uint64_t>0x9E3779B97F4A7C15) >> self._shift

    cdef inline int32_t find(self, uint64_t key) noexcept nogil:
        cdef uint64_t place = self._home(key)
        cdef uint64_t entry
        while True:
            entry = self._entries[place]
            if entry == 0:
                return -1
            if entry >> SLOT_BITS == key + 1:
                return <int32_t>(entry & SLOT_MASK)
            place = (place + 1) & self._mask

    cdef inline void expect(self, uint64_t key) noexcept nogil:
        bt_prefetch(&self._entries[self._home(key)])

    def get(self, uint64_t key):
        """The key's slot, None without one: what the decoder would find."""
        cdef int32_t slot = self.find(key)
        return None if slot < 0 else slot

    cpdef put(self, uint64_t key, Py_ssize_t slot):
        cdef uint64_t place = self._home(key)
        if not 0 <= slot < self.slots or key >> 40:
            raise ValueError(f"key {key} in slot {slot} of {self.slots}")
        while self._entries[place] and self._entries[place] >> SLOT_BITS != key + 1:
            place = (place + 1) & self._mask
        if self._entries[place] == 0:
            if self._used >= self.slots:
                raise OverflowError("more keys than slots")
            self._used += 1
        self._entries[place] = (key + 1) << SLOT_BITS | <uint64_t>slot

    cpdef drop(self, uint64_t key):
        cdef uint64_t hole = self._home(key)
        cdef uint64_t place, home
        while self._entries[hole] >> SLOT_BITS != key + 1:
            if self._entries[hole] == 0:
                return
            hole = (hole + 1) & self._mask
        self._used -= 1
        place = hole
        while True:  # close the gap, so that later keys of the same run are still found
            place = (place + 1) & self._mask
            if self._entries[place] == 0:
                break
            home = self._home((self._entries[place] >> SLOT_BITS) - 1)
            if ((place - home) & self._mask) >= ((place - hole) & self._mask):
                self._entries[hole] = self._entries[place]
                hole = place
        self._entries[hole] = 0


class SlotTable(dict):
    """The ``slot_of`` of the buffers: a dict whose every change reaches the native index in the same call."""

    def __init__(self, board, before):
        super().__init__()
        self.board = board
        self._index = (<Board>board).index
        self.update(before)

    def __setitem__(self, key, slot):
        self._index.put(key, slot)
        super().__setitem__(key, slot)

    def __delitem__(self, key):
        super().__delitem__(key)
        self._index.drop(key)

    def pop(self, key, *default):
        if key in self:
            self._index.drop(key)
        return super().pop(key, *default)

    def popitem(self):
        key, slot = super().popitem()
        self._index.drop(key)
        return key, slot

    def clear(self):
        for key in self:
            self._index.drop(key)
        super().clear()

    def setdefault(self, key, slot=None):
        if key not in self:
            self[key] = slot
        return self[key]

    def update(self, *others, **named):
        for key, slot in dict(*others, **named).items():
            self[key] = slot

    def __ior__(self, other):
        self.update(other)
        return self


cdef class Board:
    """The memory of one :class:`app.ports.feed.TickBuffers`, with the native index and counters put in place there."""

    cdef readonly SlotIndex index
    cdef uint8_t[::1] _rows, _socket_of, _moving_to, _dirty, _latching
    cdef uint64_t[:, ::1] _lags
    cdef list _counters, _disconnect_code

    def __init__(self, buffers):
        self.index = SlotIndex(buffers.slots)
        self._rows = buffers.rows
        self._socket_of = buffers.socket_of
        self._moving_to = buffers.moving_to
        self._dirty = buffers.dirty
        self._latching = buffers.latching
        self._lags = buffers.lag_table
        if self._rows.shape[0] != buffers.slots * ROW_BYTES or self._latching.shape[0] != 256 or not (
            self._socket_of.shape[0] == self._moving_to.shape[0] == self._dirty.shape[0] == buffers.slots
        ) or self._lags.shape[0] < len(buffers.counters) or self._lags.shape[1] != LAG_BUCKETS:
            raise ValueError("buffers of other sizes than the slots ask for")
        buffers.slot_of = SlotTable(self, buffers.slot_of)
        for connection, before in enumerate(buffers.counters):
            buffers.counters[connection] = Counters(before)
        self._counters = list(buffers.counters)
        self._disconnect_code = buffers.disconnect_code

    def write_frame(self, Py_ssize_t connection, const uint8_t[::1] frame not None, int64_t received_ms):
        """As :func:`app.dhan.decoder.write_frame`."""
        if not 0 <= connection < len(self._counters):
            raise IndexError(connection)
        cdef const uint8_t* at = &frame[0] if frame.shape[0] else NULL
        cdef Counters counters = <Counters>self._counters[connection]
        return self.write(counters, <uint8_t>connection, at, frame.shape[0], received_ms)

    cdef bint write(
        self, Counters counters, uint8_t connection, const uint8_t* frame, Py_ssize_t left, int64_t received_ms
    ) except -1:
        """Apply a frame; true if it held a disconnect packet."""
        cdef uint8_t code, segment
        cdef Py_ssize_t length
        cdef bint is_goodbye = False
        counters.frames += 1
        counters.bytes += left
        while left > 0:
            if left < HEADER_BYTES:
                counters.malformed += 1
                break
            code = frame[0]
            length = u16(frame + 1)
            segment = frame[3]
            if length > left or length < least_size(code):
                counters.malformed += 1
                break
            counters.packets += 1
            if is_segment(segment) and (
                code == FULL or code == QUOTE or code == TICKER or code == OI or code == PREV_CLOSE
            ):
                counters.last_data_ms = received_ms
                self._place(counters, connection, frame, code, segment, received_ms)
            elif code == DISCONNECT:
                is_goodbye = True
                self._disconnect_code[connection] = u16(frame + 8)
            elif code != STATUS or not is_segment(segment):
                counters.unknown += 1
            frame += length
            left -= length
        return is_goodbye

    cdef inline void expect(self, uint64_t key) noexcept:
        """Call the row of a key into the cache."""
        cdef int32_t slot = self.index.find(key)
        cdef const uint8_t* row
        if slot >= 0:
            row = &self._rows[<Py_ssize_t>slot * ROW_BYTES]
            bt_prefetch(row)
            bt_prefetch(row + 64)
            bt_prefetch(row + 128)
            bt_prefetch(row + 192)
            bt_prefetch(row + 255)

    cdef inline void _place(
        self, Counters counters, uint8_t connection, const uint8_t* packet, uint8_t code, uint8_t segment,
        int64_t received_ms
    ) noexcept:
        cdef int32_t slot = self.index.find(<uint64_t>segment << 32 | u32(packet + 4))
        cdef uint8_t* row
        if slot < 0:
            counters.unwanted += 1
            return
        if self._socket_of[slot] != connection:
            if self._moving_to[slot] != connection:
                counters.foreign += 1
                return
            self._socket_of[slot] = connection
            self._moving_to[slot] = NO_SOCKET
        row = &self._rows[<Py_ssize_t>slot * ROW_BYTES]
        if code == OI:
            memcpy(row + ROW_OI, packet + 8, 4)
            row[0] |= HAS_OI
        elif code == PREV_CLOSE:
            if 0.0 < f32(packet + 8) < INFINITY:
                memcpy(row + ROW_PREV_CLOSE, packet + 8, 4)
                row[0] |= LATCHED
            memcpy(row + ROW_PREV_OI, packet + 12, 4)
        elif not self._trade(counters, connection, row, packet, code, segment, received_ms):
            counters.superseded += 1
            return
        counters.applied += 1
        self._dirty[slot] = 1
        note_packet(row, received_ms)

    cdef inline bint _trade(
        self, Counters counters, uint8_t connection, uint8_t* row, const uint8_t* packet, uint8_t code, uint8_t segment,
        int64_t received_ms
    ) noexcept:
        cdef uint32_t row_ltt = u32(row + ROW_LTT)
        cdef uint32_t row_volume = u32(row + ROW_VOLUME)
        cdef uint32_t ltt, volume
        cdef uint8_t has
        cdef float close = 0.0
        cdef int64_t lag_ms, bucket
        cdef bint is_timed
        if code == TICKER:
            ltt = u32(packet + 12)
            volume = 0
        else:
            ltt = u32(packet + 14)
            volume = u32(packet + 22)
            close = f32(packet + (50 if code == FULL else 38))
        lag_ms = received_ms - (<int64_t>ltt - IST_OFFSET_S) * 1000
        is_timed = ltt >= LTT_MIN and lag_ms >= -AHEAD_MAX_MS
        if not is_timed:
            counters.bad_time += ltt != 0
        elif ltt <= row_ltt:
            if ltt < row_ltt or 0 < volume < row_volume:
                return False
        elif row_ltt:
            counters.last_lag_ms = lag_ms
            bucket = lag_ms // LAG_BUCKET_MS if lag_ms > 0 else 0
            self._lags[connection, bucket if bucket < LAG_BUCKETS else LAG_BUCKETS - 1] += 1

        if code == FULL:
            memcpy(row + ROW_LTP, packet + 8, 154)
            has = HAS_TICKER | HAS_QUOTE | HAS_FULL | HAS_OI
        elif code == QUOTE:
            memcpy(row + ROW_LTP, packet + 8, 26)
            memcpy(row + ROW_OPEN, packet + 34, 16)
            has = HAS_TICKER | HAS_QUOTE
        else:
            memcpy(row + ROW_LTP, packet + 8, 4)
            memcpy(row + ROW_LTT, packet + 12, 4)
            has = HAS_TICKER
        if not is_timed:
            memcpy(row + ROW_LTT, &row_ltt, 4)
        if not row[0] & LATCHED and 0.0 < close < INFINITY and self._latching[segment]:
            memcpy(row + ROW_PREV_CLOSE, &close, 4)
            has |= LATCHED
        row[0] |= has
        return True


def board_of(buffers):
    """The board of these buffers, made on first use."""
    return buffers.slot_of.board if isinstance(buffers.slot_of, SlotTable) else Board(buffers)


cdef inline void note_packet(uint8_t* row, int64_t received_ms) noexcept nogil:
    cdef int64_t gap_ms
    cdef double usual_ms
    cdef float rounded
    cdef uint32_t packets = u32(row + ROW_PACKETS) + 1
    if i64(row + ROW_FIRST_MS):
        gap_ms = received_ms - i64(row + ROW_LAST_MS)
        gap_ms = 0 if gap_ms < 0 else gap_ms if gap_ms < USUAL_GAP_MAX_MS else USUAL_GAP_MAX_MS
        usual_ms = f32(row + ROW_GAP)
        rounded = <float>(usual_ms + (gap_ms - usual_ms) * 0.125 if usual_ms != 0.0 else gap_ms)
        memcpy(row + ROW_GAP, &rounded, 4)
    else:
        memcpy(row + ROW_FIRST_MS, &received_ms, 8)
    memcpy(row + ROW_LAST_MS, &received_ms, 8)
    memcpy(row + ROW_PACKETS, &packets, 4)


cdef class Ahead:
    """Looks through the frames that were read together, a few ahead of the one being applied, for what they will touch.

    At 25,000 instruments nearly every packet meets a cold row; most of the time of a packet was waiting for memory. What
    is seen here decides nothing: a wrong guess costs a line of cache.
    """

    cdef const uint8_t* _at
    cdef const uint8_t* _end
    cdef uint64_t _keys[KEYS_AHEAD]
    cdef uint32_t _seen

    cdef void begin(self, Board board, const uint8_t* at, Py_ssize_t left) noexcept:
        """A new read: its frames behind the first begin at ``at``."""
        cdef int step
        self._at = at
        self._end = at + left
        self._seen = 0
        for step in range(KEYS_AHEAD):
            self.advance(board)

    cdef inline void advance(self, Board board) noexcept:
        """One frame further. Frames from a server are not masked; a strange one ends the looking."""
        cdef Py_ssize_t left = self._end - self._at
        cdef Py_ssize_t header = 2
        cdef Py_ssize_t size
        cdef uint64_t key
        self._seen += 1
        if self._seen > ROWS_AHEAD:
            board.expect(self._keys[(self._seen - ROWS_AHEAD) % KEYS_AHEAD])
        self._keys[self._seen % KEYS_AHEAD] = NO_KEY
        if left < 2:
            return
        size = self._at[1]
        if size == 126 and left >= 4:
            size = <Py_ssize_t>self._at[2] << 8 | self._at[3]
            header = 4
        elif size > 125:
            self._at = self._end
            return
        if size >= HEADER_BYTES and left >= header + HEADER_BYTES:
            key = <uint64_t>self._at[header + 3] << 32 | u32(self._at + header + 4)
            board.index.expect(key)
            self._keys[self._seen % KEYS_AHEAD] = key
        self._at += header + size if left > header + size else left


cdef class Listener(WSListener):
    """Whole binary frames go straight to the board; everything else to ``other``, the listener in Python.

    The clock is read once per read of the socket, so pings must come here too: connect with ``enable_auto_pong=False``.
    """

    cdef Board _board
    cdef Ahead _ahead
    cdef Counters _counters
    cdef object _now_ms, _other
    cdef uint8_t _connection
    cdef bint _is_next_read
    cdef int64_t _received_ms

    def __init__(self, Board board not None, Py_ssize_t connection, now_ms, other):
        if not 0 <= connection < min(len(board._counters), NO_SOCKET):
            raise IndexError(connection)
        self._board = board
        self._ahead = Ahead()
        self._counters = <Counters>board._counters[connection]
        self._connection = <uint8_t>connection
        self._now_ms = now_ms
        self._other = other
        self._is_next_read = True

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self._is_next_read:
            self._received_ms = self._now_ms()
            self._ahead.begin(self._board, <const uint8_t*>frame.payload_ptr + frame.payload_size, frame.tail_size)
        else:
            self._ahead.advance(self._board)
        self._is_next_read = frame.last_in_buffer
        if frame.msg_type == WSMsgType.BINARY and frame.fin:
            if self._board.write(
                self._counters, self._connection, <const uint8_t*>frame.payload_ptr, frame.payload_size, self._received_ms
            ):
                transport.disconnect()
        else:
            self._other.on_ws_frame(transport, frame)

    cpdef on_ws_disconnected(self, WSTransport transport):
        self._other.on_ws_disconnected(transport)

    cpdef pause_writing(self):
        self._other.pause_writing()

    cpdef resume_writing(self):
        self._other.resume_writing()
