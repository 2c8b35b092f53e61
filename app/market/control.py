"""The control loop: spots to windows to wishes; what is written behind; what comes back by itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from app.core.errors import StoreUnavailable
from app.market.always_on import TierB
from app.market.journal import Journal
from app.market.subscription_manager import SubscriptionManager
from app.market.tiers import AlwaysOn
from app.market.watchlist_manager import WatchlistManager
from app.market.ws_manager import WebSocketManager
from app.ports.clock import Clock
from app.ports.store import StoredState

REST_S = 0.05  # never more often than this
IDLE_S = 1.0  # nor less often than this
BUSY_S = 0.2  # while chains wait for a spot or keys move between connections
FOLLOW_EVERY_S = 0.5
WRITE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class ReturnPolicy:
    """When evicted chains come back: once ``room`` instruments have been free for ``after_s`` seconds."""

    room: int = 500
    after_s: float = 60.0


class Control:
    """Two tasks: one steers wishes and wire and never waits for the store, one keeps the store in step."""

    def __init__(
        self,
        tier_b: TierB,
        lists: WatchlistManager,
        wishes: SubscriptionManager,
        wire: WebSocketManager,
        journal: Journal,
        clock: Clock,
        returns: ReturnPolicy | None = None,
    ) -> None:
        self._returns = returns or ReturnPolicy()
        self._tier_b = tier_b
        self._lists = lists
        self._wishes = wishes
        self._wire = wire
        self._journal = journal
        self._clock = clock
        self._log = structlog.get_logger("control")
        self._woken = asyncio.Event()
        self._followed_at = 0.0
        self._room_since: float | None = None
        self._is_reviewed = False
        self._store_is_up = True
        wishes.on_change(self.wake)

    def wake(self) -> None:
        """Something changed that the loop should look at."""
        self._woken.set()

    def start(self, state: StoredState, universe: AlwaysOn) -> None:
        """Wish drivers first, then what the store remembers; chains of Tier B follow as spots come."""
        self._tier_b.use(universe)
        self._lists.restore(state)

    def relist(self) -> None:
        """A new instrument master: what it does not list under the same id leaves books and wire at once.

        Caller: has it read a moment ago, with no wait in between; then calls :meth:`use_universe`, and lets the lists
        find their entries anew.
        """
        self._wishes.relist()
        self._tier_b.relist()

    def use_universe(self, universe: AlwaysOn) -> None:
        """A new day or a new instrument master: the always-on universe changes where it differs."""
        self._tier_b.use(universe)
        self._is_reviewed = False
        self.wake()

    def tier_b_report(self) -> dict[str, object]:
        """Asked, listed, subscribed, missing by name, waiting for a spot."""
        return self._tier_b.report()

    async def run(self) -> None:
        """Until cancelled; then call :meth:`flush` once more."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._steer())
            group.create_task(self._keep_books())

    async def step(self) -> None:
        """One pass of the loop: everything that is due now."""
        self._lists.settle_swept()
        opened = self._tier_b.fill()
        while opened:  # others have their turn between chains
            await asyncio.sleep(0)
            opened = self._tier_b.fill()
        now = self._clock.monotonic()
        if now - self._followed_at >= FOLLOW_EVERY_S:
            self._followed_at = now
            self._tier_b.follow()
            await self._lists.follow_spots()
        self._wishes.expire_lingering()
        self._wire.reconcile()
        self._journal.note_keys(self._wire.take_rehomed())
        if not self._is_reviewed and self._tier_b.is_whole:
            self._is_reviewed = True
            self._journal.review()
            self._log.info(f"[OK] Tier B loaded: {self._wishes.tier_b_count} instruments")

    async def flush(self) -> None:
        """Store everything that is written behind.

        Raises:
            StoreUnavailable: what could not be stored stays due.
        """
        while await self._lists.write_behind():
            pass

    async def return_evicted(self) -> int:
        """Bring evicted chains back, most recently used first, once there has been room for a while."""
        returned = 0
        while (chain := self._lists.due_back(has_room=self._has_had_room())) is not None:
            if not await self._lists.bring_back(chain):
                break
            returned += 1
        return returned

    def _has_had_room(self) -> bool:
        if self._wishes.free < self._returns.room:
            self._room_since = None
            return False
        now = self._clock.monotonic()
        if self._room_since is None:
            self._room_since = now
        return now - self._room_since >= self._returns.after_s

    async def _steer(self) -> None:
        while True:
            self._woken.clear()
            await self.step()
            is_busy = bool(self._tier_b.waiting) or not self._wire.is_settled
            try:
                async with asyncio.timeout(BUSY_S if is_busy else IDLE_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(REST_S)

    async def _keep_books(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.flush()
                await self._lists.retry_store()
                await self.return_evicted()
            except StoreUnavailable as error:
                self._note_store(is_up=False, reason=error.detail)
            else:
                self._note_store(is_up=True)

    def _note_store(self, *, is_up: bool, reason: str = "") -> None:
        if is_up is self._store_is_up:
            return
        self._store_is_up = is_up
        if is_up:
            self._log.info("store is back, rows written behind")
        else:
            self._log.warning("store is away, rows are kept for later", reason=reason)
