"""The upstream feed as the owners of state see it: limits, buffers that ticks land in, and connections.

``market`` creates one :class:`TickBuffers` and hands it to the feed adapter. A decoder writes rows, marks and counters
straight into it, synchronously, in arrival order; nothing buffers ticks in between, so nothing can overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, Mode
from app.core.rows import ROW_BYTES, ROW_DTYPE

NO_SOCKET = 255
LAG_BUCKET_MS = 20
LAG_BUCKETS = 1_500  # half a minute; the last one holds all that is longer


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """What the venue allows one account."""

    connections: int
    instruments_per_connection: int
    instruments_per_message: int

    @property
    def capacity(self) -> int:
        return self.connections * self.instruments_per_connection


class Retry(StrEnum):
    """What a closed connection asks of the pool (contract, rule 13)."""

    BACKOFF = "backoff"
    FEWER_SOCKETS = "fewer_sockets"  # 805: open one socket fewer
    NEW_TOKEN = "new_token"  # noqa: S105 - 807, 808, 809: mint once, then wait for a new credential
    SLOWLY = "slowly"  # 806
    RATE_LIMITED = "rate_limited"  # HTTP 429: 60 s doubling to 15 min, kept over a restart
    STOP = "stop"  # 810


class FeedClosed(Exception):
    """A connection ended, or could not be made. ``reason`` never holds a token."""

    def __init__(self, reason: str, *, code: int | None = None, retry: Retry = Retry.BACKOFF, min_delay_s: float = 0.0):
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.retry = retry
        self.min_delay_s = min_delay_s


@dataclass(slots=True)
class ConnectionCounters:
    """What one connection has received since the service started; plain ints, read at scrape time."""

    frames: int = 0
    packets: int = 0
    bytes: int = 0
    applied: int = 0
    superseded: int = 0  # older than what the row holds
    foreign: int = 0  # for a key that another socket owns
    unwanted: int = 0  # for a key nobody tracks: a ghost after an unsubscribe
    unknown: int = 0  # unknown code or segment
    malformed: int = 0  # frames whose bytes break the protocol
    bad_time: int = 0  # last-trade time out of any possible range
    last_data_ms: int = 0  # receive time of the last data packet; pings do not count
    last_lag_ms: int = 0  # receive time minus last-trade time of the newest trade


@dataclass(slots=True, repr=False)  # a text of megabytes helps nobody
class TickBuffers:
    """The memory that decoders write to. One slot is one tracked instrument.

    ``slot_of`` maps :attr:`InstrumentKey.packed` to a slot. ``rows`` is ``slots x 256`` bytes in the layout of
    ``core.rows``. ``socket_of[slot]`` is the connection that owns the key, ``moving_to[slot]`` the one it is moving to;
    ``NO_SOCKET`` where there is none. A packet from ``moving_to`` is applied and completes the move: the decoder sets
    ``socket_of = moving_to`` and ``moving_to = NO_SOCKET``. A packet from any other connection is counted as foreign.
    ``dirty[slot]`` is set to 1 on every applied packet. ``latching[segment]`` is 1 while the segment is in session, so
    that the first close field of a session may be latched as the previous close. ``disconnect_code`` holds the reason
    of a disconnect packet per connection, 0 if there was none. ``lag_counts`` is a histogram per connection of what
    ``last_lag_ms`` was: ``LAG_BUCKETS`` counts of ``LAG_BUCKET_MS``, from 0 on; ``lag_table`` is the same memory.
    """

    slots: int
    connections: int
    slot_of: dict[int, int] = field(default_factory=dict)
    rows: bytearray = field(init=False)
    socket_of: bytearray = field(init=False)
    moving_to: bytearray = field(init=False)
    dirty: bytearray = field(init=False)
    latching: bytearray = field(init=False)
    lag_counts: memoryview = field(init=False)
    counters: list[ConnectionCounters] = field(init=False)
    disconnect_code: list[int] = field(init=False)
    table: npt.NDArray[np.void] = field(init=False)
    dirty_marks: npt.NDArray[np.uint8] = field(init=False)
    lag_table: npt.NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = bytearray(self.slots * ROW_BYTES)
        self.socket_of = bytearray([NO_SOCKET]) * self.slots
        self.moving_to = bytearray([NO_SOCKET]) * self.slots
        self.dirty = bytearray(self.slots)
        self.latching = bytearray(256)
        self.lag_counts = memoryview(bytearray(8 * self.connections * LAG_BUCKETS)).cast("Q")
        self.counters = [ConnectionCounters() for _ in range(self.connections)]
        self.disconnect_code = [0] * self.connections
        self.table = np.frombuffer(self.rows, dtype=ROW_DTYPE)
        self.dirty_marks = np.frombuffer(self.dirty, dtype=np.uint8)
        self.lag_table = np.frombuffer(self.lag_counts, dtype=np.uint64).reshape(self.connections, LAG_BUCKETS)


class FeedConnection(Protocol):
    """One live upstream socket. Data lands in the buffers by itself."""

    async def subscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        """Ask for at most ``instruments_per_message`` keys; returning proves nothing but that it was sent.

        Raises:
            FeedClosed: the connection is gone.
        """
        ...

    async def unsubscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        """Ask to stop; Dhan may ignore it. Raises as :meth:`subscribe`."""
        ...

    async def wait_closed(self) -> FeedClosed:
        """Return once the connection has ended, with why."""
        ...

    async def close(self) -> None:
        """End it; safe to repeat."""
        ...


class Feed(Protocol):
    """Opens connections. ``index`` is 0-based; people read ``ws_1``."""

    async def connect(self, index: int) -> FeedConnection:
        """Open connection ``index``; its packets land in the buffers given to the adapter.

        Raises:
            FeedClosed: refused, with the policy that the refusal asks for.
        """
        ...


FeedFactory = Callable[[TickBuffers], Feed]
