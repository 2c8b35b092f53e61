"""Keeps the upstream connections up: one task each, retry policy, resubscription, watchdog.

Part of the owner ``ws_manager``: all state of the wire is in the :class:`CarriedBook`; here is only the waiting.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from app.core.backoff import Backoff
from app.market.carried import CarriedBook
from app.market.events import Event, Notify
from app.market.feed_gauge import FeedGauge
from app.market.pool_policy import LONG_ABSENCES, STATE_AFTER, Doubling, LineState, PoolPolicy
from app.market.watchdog import Watchdog
from app.ports.clock import Clock
from app.ports.feed import Feed, FeedClosed, FeedConnection, Retry

WATCH_S = 1.0


async def _no_new_token() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class PoolHooks:
    """What the pool asks of others.

    ``renew_token`` mints a token once and answers whether there is a new one. ``remember_cooldown(until_ms)`` keeps a
    rate limit over a restart; ``cooldown_until_ms`` is what was kept.
    """

    renew_token: Callable[[], Awaitable[bool]] = _no_new_token
    remember_cooldown: Callable[[int], None] = lambda until_ms: None
    cooldown_until_ms: int = 0
    notify: Notify = lambda event: None


@dataclass(slots=True)
class LineHealth:
    """What is known of one connection besides what it carries."""

    index: int
    backoff: Backoff
    state: LineState = LineState.OFF
    connected_at: datetime | None = None
    connected_ms: int = 0
    last_error: str | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    recycle: asyncio.Event = field(default_factory=asyncio.Event)
    recycle_reason: str = ""
    is_planned: bool = False  # the recycling under way is housekeeping, not a failure
    generation: int = 0  # of the credentials it connected with
    since_s: float = 0.0  # monotonic: when it last came up or went away
    is_empty: bool = False  # came up with nothing to carry: it is due its share


class FeedPool:
    """Runs the connections. Mutators are synchronous; only sending and waiting are not."""

    def __init__(
        self,
        book: CarriedBook,
        feed: Feed | None,
        clock: Clock,
        rng: random.Random,
        watchdog: Watchdog,
        gauge: FeedGauge,
        policy: PoolPolicy,
        hooks: PoolHooks,
    ) -> None:
        self._book = book
        self._feed = feed
        self._clock = clock
        self._watchdog = watchdog
        self._gauge = gauge
        self._policy = policy
        self._hooks = hooks
        self._log = structlog.get_logger("feed")
        self.lines = tuple(
            LineHealth(line.index, Backoff(rng, policy.backoff_base_s, policy.backoff_cap_s, policy.healthy_s))
            for line in book.lines
        )
        self._fewer = Doubling(policy.fewer_sockets_s, policy.fewer_sockets_cap_s)
        self._rate_limit = Doubling(policy.rate_limit_s, policy.rate_limit_cap_s)
        left_s = min((hooks.cooldown_until_ms - clock.now_ms()) / 1000, policy.rate_limit_cap_s)
        self._cool_until_s = clock.monotonic() + max(0.0, left_s)  # a step of the wall clock must not end it
        self._generation = 0
        self._has_minted = False
        self._minting = asyncio.Lock()
        self._renewed = asyncio.Event()
        self._opening = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._stopped.set()
        book.on_work(lambda index: self.lines[index].wake.set())

    # -- what others may ask ----------------------------------------------------------------------------------------

    @property
    def connected(self) -> int:
        return sum(1 for line in self.lines if line.state is LineState.UP)

    @property
    def is_away(self) -> bool:
        """Every connection has failed or been refused."""
        return not any(line.state in (LineState.OFF, LineState.STARTING, LineState.UP) for line in self.lines)

    def credentials_renewed(self) -> None:
        """There is a new token: connections that wait for one try again."""
        self._generation += 1
        self._has_minted = False
        renewed, self._renewed = self._renewed, asyncio.Event()
        renewed.set()

    def recycle(self, index: int, reason: str, *, is_planned: bool = False) -> None:
        """Replace a connection by a fresh one; ``is_planned`` does without backoff."""
        line = self.lines[index]
        if line.state is LineState.UP and not line.recycle.is_set():
            line.recycle_reason, line.is_planned = reason, is_planned
            line.recycle.set()

    async def run(self) -> None:
        """Keep every connection up until cancelled."""
        if self._feed is None:
            return
        self._stopped.clear()
        try:
            async with asyncio.TaskGroup() as group:
                for line in self.lines:
                    line.since_s = self._clock.monotonic()
                    group.create_task(self._keep_up(line, self._feed))
                group.create_task(self._watch())
        finally:
            self._stopped.set()

    async def wait_stopped(self) -> None:
        """Until nothing keeps the connections up; at once where nothing does."""
        await self._stopped.wait()

    # -- one connection ----------------------------------------------------------------------------------------------

    async def _keep_up(self, line: LineHealth, feed: Feed) -> None:
        self._set_state(line, LineState.STARTING)
        while True:
            await self._cool_down(line)
            line.generation = self._generation
            try:
                connection = await self._open(line, feed)
            except FeedClosed as refused:
                closed = refused
            else:
                closed = await self._serve(line, connection)
            await self._after(line, closed)

    async def _open(self, line: LineHealth, feed: Feed) -> FeedConnection:
        async with self._opening:
            await asyncio.sleep(self._policy.open_gap_s)
        try:
            async with asyncio.timeout(self._policy.connect_timeout_s):
                return await feed.connect(line.index)
        except TimeoutError:
            raise FeedClosed(f"no connection within {self._policy.connect_timeout_s:g} s") from None

    async def _serve(self, line: LineHealth, connection: FeedConnection) -> FeedClosed:
        line.recycle.clear()
        line.connected_at, line.connected_ms = self._clock.now(), self._clock.now_ms()
        started = self._clock.monotonic()
        self._watchdog.connected(line.index, line.connected_ms)
        line.since_s, line.is_empty = started, not self._book.lines[line.index].homes
        self._book.opened(line.index)
        self._book.unbar(line.index)
        self._set_state(line, LineState.UP)
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(self._send(line, connection)),
                    group.create_task(self._obey(line, connection)),
                ]
                closed = await connection.wait_closed()
                self._book.lost(line.index)
                for helper in helpers:
                    helper.cancel()
        finally:
            self._book.lost(line.index)
            line.since_s = self._clock.monotonic()
            await connection.close()
        self._was_up_for(line, self._clock.monotonic() - started)
        return FeedClosed(line.recycle_reason) if line.recycle.is_set() else closed

    async def _send(self, line: LineHealth, connection: FeedConnection) -> None:
        """Say what is pending, one message at a time, letting others run in between."""
        try:
            while True:
                command = self._book.take(line.index)
                if command is None:
                    line.wake.clear()
                    await line.wake.wait()
                    continue
                if command.subscribe:
                    await connection.subscribe(command.keys, command.mode)
                else:
                    await connection.unsubscribe(command.keys, command.mode)
                    self._watchdog.unsubscribed(line.index, self._clock.now_ms())
                self._book.done(line.index, command)
                await asyncio.sleep(self._policy.message_gap_s)
        except FeedClosed:
            await connection.close()  # wait_closed tells why

    async def _obey(self, line: LineHealth, connection: FeedConnection) -> None:
        await line.recycle.wait()
        await connection.close()

    def _was_up_for(self, line: LineHealth, seconds: float) -> None:
        line.backoff.was_up_for(seconds)
        if seconds >= self._policy.healthy_s:
            self._fewer.reset()
            self._rate_limit.reset()
            self._has_minted = False

    # -- after a connection ended ----------------------------------------------------------------------------------

    async def _after(self, line: LineHealth, closed: FeedClosed) -> None:
        """Wait as the policy asks."""
        if line.recycle.is_set() and line.is_planned:
            line.recycle.clear()
            return
        line.last_error = closed.reason if closed.code is None else f"{closed.reason} ({closed.code})"
        self._set_state(line, STATE_AFTER[closed.retry], closed.reason)
        if closed.retry in LONG_ABSENCES:
            self._hand_over([line.index])
        match closed.retry:
            case Retry.BACKOFF:
                await asyncio.sleep(line.backoff.next_delay_s(closed.min_delay_s))
            case Retry.SLOWLY:
                await asyncio.sleep(line.backoff.next_delay_s(max(self._policy.slowly_s, closed.min_delay_s)))
            case Retry.FEWER_SOCKETS:
                await asyncio.sleep(line.backoff.next_delay_s(max(self._fewer.next_s(), closed.min_delay_s)))
            case Retry.RATE_LIMITED:
                self._note_rate_limit(closed.min_delay_s)
            case Retry.NEW_TOKEN:
                await self._wait_for_token(line)
            case Retry.STOP:
                await self._renewed.wait()

    def _hand_over(self, away: Collection[int]) -> None:
        """Give what connections that are away carried to the others; where none is up it may as well stay."""
        if away and any(self._book.lines[index].is_open for index in self._book.open_to.difference(away)):
            self._book.bar(*away)

    def _note_rate_limit(self, min_delay_s: float) -> None:
        # The limit is the account's: of five refusals at once only the first counts.
        now_s = self._clock.monotonic()
        if now_s >= self._cool_until_s:
            wait_s = max(self._rate_limit.next_s(), min_delay_s)
            self._cool_until_s = now_s + wait_s
            self._hooks.remember_cooldown(self._clock.now_ms() + int(1000 * wait_s))

    async def _cool_down(self, line: LineHealth) -> None:
        while (left_s := self._cool_until_s - self._clock.monotonic()) > 0:
            self._set_state(line, LineState.RATE_LIMITED, "the account's rate limit")
            await asyncio.sleep(left_s)

    async def _wait_for_token(self, line: LineHealth) -> None:
        """Mint once for all connections; if that one is refused too, wait for somebody to bring another."""
        async with self._minting:
            if line.generation == self._generation and not self._has_minted:
                if await self._hooks.renew_token():
                    self._generation += 1
                self._has_minted = True  # last: the new token may have been announced to this pool meanwhile
        if line.generation == self._generation:
            await self._renewed.wait()
        else:
            await asyncio.sleep(line.backoff.next_delay_s())

    def _set_state(self, line: LineHealth, state: LineState, reason: str = "") -> None:
        if line.state is state:
            return
        line.state = state
        data: dict[str, object] = {"ws_id": line.index + 1, "state": state.value}
        if reason:
            data["reason"] = reason
        self._hooks.notify(Event("feed", self._clock.now_ms(), None, data))
        log = self._log.info if state in (LineState.UP, LineState.STARTING) else self._log.warning
        log("connection", **data)

    # -- watching ------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self._gauge.look()
            now_s = self._clock.monotonic()
            up = [line.index for line in self.lines if line.state is LineState.UP]
            for verdict in self._watchdog.look(up, self._clock.now()):
                self.recycle(verdict.index, verdict.reason, is_planned=verdict.is_planned)
            for index, keys in self._watchdog.unheard(up, self._clock.now_ms()):
                self._book.ask_again(index, keys)
            self._hand_over_overdue(now_s)
            self._book.settle()
            self._fill_empty(now_s)

    def _hand_over_overdue(self, now_s: float) -> None:
        overdue_s = now_s - self._policy.hand_over_s
        away = [line for line in self.lines if line.index in self._book.open_to and line.state is not LineState.UP]
        self._hand_over([line.index for line in away if line.since_s <= overdue_s])

    def _fill_empty(self, now_s: float) -> None:
        """Give connections that came back with nothing to carry their share, once they have proved to last."""
        proved_s = now_s - self._policy.level_after_s
        if any(line.is_empty and line.state is LineState.UP and line.since_s <= proved_s for line in self.lines):
            for line in self.lines:
                line.is_empty = False
            self._book.rebalance()
