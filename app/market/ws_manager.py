"""OWNS what each upstream connection carries, and runs the pool of connections.

Wishes come in through ``carry`` and ``uncarry``, which only :class:`SubscriptionManager` calls; ``add_instrument`` and
``remove_instrument`` are the doors of the user's document and go through the wishes.
"""

from __future__ import annotations

import random
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from app.core.doors import Door
from app.core.ids import InstrumentKey
from app.core.instruments import Instrument
from app.core.sessions import Calendar
from app.market.carried import Board, CarriedBook, Move, Precedence
from app.market.feed_gauge import FeedGauge
from app.market.pool import FeedPool, LineHealth, PoolHooks
from app.market.pool_policy import LineState, PoolPolicy
from app.market.watchdog import Watchdog
from app.ports.clock import Clock
from app.ports.feed import Feed, FeedLimits

__all__ = ["Move", "PoolHooks", "PoolPolicy", "WebSocketManager"]


class WishesByToken(Protocol):
    """The owner of the wishes, as the doors here need it."""

    @property
    def total(self) -> int: ...
    def precedence(self, key: InstrumentKey) -> Precedence: ...
    def subscribe(self, token: str) -> tuple[bool, str, int | None]: ...
    def unsubscribe(self, token: str) -> tuple[bool, str]: ...


class WebSocketManager:
    """The wire: homes, carried keys, connections. ``feed`` None means that no socket is ever opened."""

    def __init__(
        self,
        board: Board,
        feed: Feed | None,
        limits: FeedLimits,
        calendar: Calendar,
        clock: Clock,
        rng: random.Random,
        *,
        policy: PoolPolicy,
        hooks: PoolHooks,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._counters = board.buffers.counters
        self._book = CarriedBook(board, limits, clock.now_ms)
        watchdog = Watchdog(self._book, board, calendar, limits, policy)
        self._gauge = FeedGauge(board.buffers, clock, policy.late_s * 1000.0)
        self._pool = FeedPool(self._book, feed, clock, rng, watchdog, self._gauge, policy, hooks)
        self._wishes: WishesByToken | None = None

    def bind(self, wishes: WishesByToken) -> None:
        """Tell who owns the wishes; once, at composition."""
        self._wishes = wishes
        self._book.rank_by(wishes.precedence)

    # -- for the owner of the wishes -------------------------------------------------------------------------------

    def carry(self, instrument: Instrument) -> int | None:
        """Give the instrument a connection (1-based), or None while none has room. It is sent without further ado."""
        home = self._book.carry(instrument)
        return None if home is None else home + 1

    def uncarry(self, key: InstrumentKey) -> None:
        """Take the key off the wire."""
        self._book.uncarry(key)

    def ws_id(self, key: InstrumentKey) -> int | None:
        """The connection that the key belongs to, 1-based."""
        home = self._book.home(key)
        return None if home is None else home + 1

    def is_carried(self, key: InstrumentKey) -> bool:
        """Whether the key was sent on a connection that is up."""
        return self._book.is_carried(key)

    def ws_usage(self) -> dict[int, int]:
        """Instruments per connection, 1-based."""
        return {index + 1: load for index, load in enumerate(self._book.loads())}

    # -- for control and states ------------------------------------------------------------------------------------

    @property
    def sent_ms(self) -> npt.NDArray[np.int64]:
        """When each slot was subscribed, epoch ms; 0 while it is not on the wire."""
        return self._book.sent_ms

    @property
    def asked_ms(self) -> npt.NDArray[np.int64]:
        """When each slot was last asked for, epoch ms; later than :attr:`sent_ms` if it had to be asked for again."""
        return self._book.asked_ms

    @property
    def repeats(self) -> npt.NDArray[np.int64]:
        """How often each slot was asked for again."""
        return self._book.repeats

    @property
    def asked_again(self) -> int:
        """Instruments asked for more than once because nothing came, since the start."""
        return self._book.asked_again

    @property
    def slot_lost_ms(self) -> npt.NDArray[np.int64]:
        """When a connection that carried the slot was last cut or judged mute, epoch ms; 0 for never."""
        return self._book.slot_lost_ms

    @property
    def lost_ms(self) -> list[int]:
        """When each connection was last lost, epoch ms."""
        return self._book.lost_ms

    @property
    def connected(self) -> int:
        return self._pool.connected

    @property
    def late_ms(self) -> dict[int, float]:
        """Connections (1-based) whose prices come late, and how late at the median; not those on which none come."""
        readings = ((index + 1, self._gauge.reading(index)) for index in range(self._limits.connections))
        lags = ((number, reading.lag_p50_ms) for number, reading in readings if reading.is_late)
        return {number: lag_ms for number, lag_ms in lags if lag_ms is not None}

    @property
    def is_away(self) -> bool:
        """Every connection has failed or been refused."""
        return self._pool.is_away

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits to be sent and nothing moves."""
        book = self._book
        return not (book.moves or book.unplaced or any(line.adds or line.drops for line in book.lines))

    def reconcile(self) -> None:
        """Finish moves, place what had no room. Sending needs no call: every change wakes its connection."""
        self._book.settle()

    def take_rehomed(self) -> set[InstrumentKey]:
        """Keys that changed their connection since the last call. One reader: the write-behind."""
        rehomed, self._book.rehomed = self._book.rehomed, set()
        return rehomed

    def credentials_renewed(self) -> None:
        """There is a new token: connections that wait for one try again."""
        self._pool.credentials_renewed()

    def recycle(self, ws_id: int, reason: str) -> None:
        """Replace one connection by a fresh one; everything on it is sent again."""
        self._pool.recycle(ws_id - 1, reason, is_planned=True)

    async def run(self) -> None:
        """Keep the connections up until cancelled."""
        await self._pool.run()

    async def wait_stopped(self) -> None:
        """Until :meth:`run` has ended; at once where it does not run."""
        await self._pool.wait_stopped()

    # -- doors -----------------------------------------------------------------------------------------------------

    def rebalance(self) -> list[Move]:
        """Level the open connections, make before break; returns the moves begun."""
        return self._book.rebalance()

    def add_instrument(self, token: str) -> int | None:
        """Wish one instrument by token; returns its connection, or None if it was refused."""
        assert self._wishes is not None, "not composed yet"
        return self._wishes.subscribe(token)[2]

    def remove_instrument(self, token: str) -> bool:
        """Take back a wish made by token."""
        assert self._wishes is not None, "not composed yet"
        return self._wishes.unsubscribe(token)[0]

    def get_status(self) -> dict[str, object]:
        """Endpoint 15."""
        total = len(self._book) if self._wishes is None else self._wishes.total
        return {
            "total_subscriptions": total,
            "max_capacity": self._limits.capacity,
            "utilization_percent": round(100.0 * total / self._limits.capacity, 2),
            "connected_connections": self._pool.connected,
            "total_connections": self._limits.connections,
            "per_connection": {f"ws_{line.index + 1}": self._line_status(line) for line in self._pool.lines},
        }

    def _line_status(self, health: LineHealth) -> dict[str, object]:
        line, reading = self._book.lines[health.index], self._gauge.reading(health.index)
        last_data_ms = self._counters[health.index].last_data_ms
        return {
            "active": health.state is LineState.UP,
            "state": health.state.value,
            "instruments": len(line.homes),
            "sent": len(line.carried),
            "utilization_percent": round(100.0 * len(line.homes) / self._limits.instruments_per_connection, 2),
            "last_connected": None if health.connected_at is None else health.connected_at.isoformat(),
            "reconnect_attempts": health.backoff.attempts,
            "last_error": health.last_error,
            "last_data_age_ms": self._clock.now_ms() - last_data_ms if last_data_ms else None,
            "packets_per_s": reading.packets_per_s,
            "lag_p50_ms": reading.lag_p50_ms,
            "lag_p99_ms": reading.lag_p99_ms,
            "late": reading.is_late,
        }


_DOOR = cast("WebSocketManager", Door(WebSocketManager, lambda service: service.ws_manager))


def get_ws_manager() -> WebSocketManager:
    """The running service's connections: a door of the user's document."""
    return _DOOR
