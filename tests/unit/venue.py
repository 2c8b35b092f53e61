"""A pool of connections on a venue of its own in virtual time: sockets that refuse, fall mute and ignore as told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

from app.core.ids import InstrumentKey, Mode, Segment
from app.core.sessions import Calendar
from app.market.events import Event
from app.market.live_prices import LivePrices
from app.market.ws_manager import PoolHooks, PoolPolicy, WebSocketManager
from app.ports.feed import NO_SOCKET, FeedClosed, FeedLimits
from app.sim.loop import SimLoop
from tests.tiny_market import IST, MORNING, HandClock, share

LIMITS = FeedLimits(connections=3, instruments_per_connection=40, instruments_per_message=10)
QUIET_POLICY = PoolPolicy(mute_keys_min=5, quiet_s=1.0)


class LoopClock(HandClock):
    """The loop's own virtual time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(MORNING)
        self._loop = loop
        self.set_by = timedelta()

    def now(self):  # type: ignore[no-untyped-def]
        return MORNING + self.set_by + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()


class Socket:
    """One connection at the venue: what it carries, every message it got."""

    def __init__(self, venue: Venue, index: int) -> None:
        self._venue = venue
        self.index = index
        self.ghosts: list[InstrumentKey] = []
        self.keys: dict[InstrumentKey, Mode] = {}
        self.messages: list[tuple[str, int]] = []
        self.asked: list[InstrumentKey] = []
        self._ended: asyncio.Future[FeedClosed] = asyncio.get_running_loop().create_future()

    async def subscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        self._require_open()
        assert 1 <= len(keys) <= LIMITS.instruments_per_message
        self.messages.append(("subscribe", len(keys)))
        self.asked += keys
        self.keys.update((key, mode) for key in keys if key.security_id not in self._venue.ignored)
        assert len(self.keys) <= LIMITS.instruments_per_connection

    async def unsubscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        self._require_open()
        self.messages.append(("unsubscribe", len(keys)))
        for key in keys:
            assert self.keys.pop(key) is mode
            if self._venue.ignores_unsubscribe:
                self.ghosts.append(key)

    async def wait_closed(self) -> FeedClosed:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self.end(FeedClosed("closed by us"))

    def end(self, why: FeedClosed) -> None:
        if not self._ended.done():
            self._ended.set_result(why)
            self._venue.sockets.pop(self.index, None)

    def _require_open(self) -> None:
        if self._ended.done():
            raise FeedClosed("gone")


class Venue:
    """Opens sockets, refuses as scripted, sends data for what is carried."""

    def __init__(self) -> None:
        self.ignored: set[int] = set()  # numbers of instruments that a subscribe does nothing for
        self.sockets: dict[int, Socket] = {}
        self.refusals: dict[int, list[FeedClosed]] = {}
        self.attempts: list[tuple[float, int]] = []
        self.ignores_unsubscribe = False

    async def connect(self, index: int) -> Socket:
        self.attempts.append((asyncio.get_running_loop().time(), index))
        if self.refusals.get(index):
            raise self.refusals[index].pop(0)
        socket = self.sockets[index] = Socket(self, index)
        return socket

    def waits(self, index: int) -> list[float]:
        """Seconds between the attempts of one connection."""
        times = [at for at, which in self.attempts if which == index]
        return [round(later - earlier, 3) for earlier, later in pairwise(times)]


class Rig:
    """A manager, its venue, and a board that the venue's data lands in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, policy: PoolPolicy, calendar: Calendar, **hooks: Any) -> None:
        self.clock = LoopClock(loop)
        self.board = LivePrices(256, LIMITS.connections)
        self.venue = Venue()
        self.told: list[Event] = []
        self.wire = WebSocketManager(
            self.board, self.venue, LIMITS, calendar, self.clock, random.Random(1),
            policy=policy, hooks=PoolHooks(notify=self.told.append, **hooks),
        )  # fmt: skip

    def carry(self, numbers: range) -> None:
        for number in numbers:
            self.wire.carry(share(number))

    def tick(self, *, only: set[int] | None = None) -> None:
        """A packet for every key that a socket carries."""
        buffers, now_ms = self.board.buffers, self.clock.now_ms()
        for index, socket in self.venue.sockets.items():
            if only is not None and index not in only:
                continue
            for key in [*socket.keys, *socket.ghosts]:
                slot = buffers.slot_of.get(key.packed)
                if slot is None:
                    buffers.counters[index].unwanted += 1
                    continue
                if buffers.moving_to[slot] == index:
                    buffers.socket_of[slot], buffers.moving_to[slot] = index, NO_SOCKET
                if buffers.socket_of[slot] != index:
                    buffers.counters[index].foreign += 1
                    continue
                row = buffers.table[slot]
                row["packets"], row["usual_gap_ms"], row["last_ms"] = row["packets"] + 1, 1_000, now_ms
                buffers.counters[index].last_data_ms = now_ms

    async def ticks(self, seconds: int, *, only: set[int] | None = None) -> None:
        for _ in range(seconds):
            self.tick(only=only)
            await asyncio.sleep(1)

    def state(self, ws_id: int) -> str:
        per_connection = self.wire.get_status()["per_connection"]
        assert isinstance(per_connection, dict)
        return str(per_connection[f"ws_{ws_id}"]["state"])

    @property
    def on_wire(self) -> list[InstrumentKey]:
        return [key for socket in self.venue.sockets.values() for key in socket.keys]


@asynccontextmanager
async def running(
    loop: SimLoop, policy: PoolPolicy = QUIET_POLICY, *, is_open: bool = True, **hooks: Any
) -> AsyncIterator[Rig]:
    rig = Rig(loop, policy, OpenOrShut(is_open), **hooks)
    async with asyncio.TaskGroup() as group:
        pool = group.create_task(rig.wire.run())
        await asyncio.sleep(1)
        yield rig
        pool.cancel()


class OpenOrShut(Calendar):
    """Trades round the clock, or never."""

    def __init__(self, is_open: bool) -> None:
        super().__init__((), IST, always_open=True)
        self._is_open = is_open

    def sessions(self, segment: Segment, day: Any) -> Any:
        return super().sessions(segment, day) if self._is_open else ()


Body = Callable[[SimLoop], Coroutine[Any, Any, None]]


def virtually(body: Body) -> None:
    with asyncio.Runner(loop_factory=lambda: SimLoop(1)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SimLoop)
        runner.run(body(loop))
