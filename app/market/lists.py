"""What every use case on lists shares: the mirror of the stored entries, one write at a time, commits and notices."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog

from app.core.errors import ExpiryUnknown, InstrumentUnknown
from app.core.ids import Exchange, InstrumentKey, format_expiry
from app.core.sessions import Calendar
from app.market.atm_engine import ATMEngine, ChainId
from app.market.entries import EXPIRED, Entry, EntryBook, EntryView, EvictedChain, Wanted
from app.market.events import Event, Notify
from app.market.eviction import ChainKey, Victim
from app.market.journal import Journal, atm_row
from app.market.legs import LegFinder
from app.market.subscription_manager import SubscriptionManager
from app.ports.clock import Clock
from app.ports.store import AuditAction, Changes, EntryRow, EntryState, Store

T = TypeVar("T")

EVICTED_BY = "evicted to make room for"
NO_ROOM = "no room at start"
NO_ROOM_AGAIN = "no room when its session began"


@dataclass(frozen=True, slots=True)
class Desk:
    """The owners that lists work with."""

    wishes: SubscriptionManager
    engine: ATMEngine
    finder: LegFinder
    journal: Journal
    store: Store
    calendar: Calendar
    clock: Clock
    notify: Notify


class Lists:
    """The stored entries and how they change: admitted, committed, then wished, one request at a time.

    The turn makes admission still true when the commit returns; window moves and returns that happen meanwhile count
    what was admitted.
    """

    def __init__(self, desk: Desk) -> None:
        self.book = EntryBook()
        self._wishes = desk.wishes
        self._engine = desk.engine
        self._finder = desk.finder
        self._journal = desk.journal
        self._store = desk.store
        self._calendar = desk.calendar
        self._clock = desk.clock
        self._notify = desk.notify
        self._log = structlog.get_logger("lists")
        self._turn = asyncio.Lock()

    async def _in_turn(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one write from admission to wish, alone, and to its end even if the caller goes away."""
        return await to_the_end(self._alone(work))

    async def _alone(self, work: Coroutine[Any, Any, T]) -> T:
        async with self._turn:
            self.settle_swept()
            return await work

    def settle_swept(self) -> int:
        """Bring the lists in line with claims that ended in the books alone (wishes by token evict too)."""
        swept = self._wishes.take_swept()
        for each in swept:
            self._journal.note_reason((instrument.token for instrument in each.freed), each.reason)
            entry = self.book.get(each.owner)
            if entry is None or not entry.is_active:
                continue
            self._suspend(entry, each.reason)
            if each.evicted:
                self._tell(
                    "evicted", entry.row.user_id, entry.chain, legs=len(each.freed), reason=each.reason, by="other"
                )
        return len(swept)

    def _suspend(self, entry: Entry, reason: str) -> None:
        """Mark an entry whose claim is gone; written behind."""
        entry.row = self._suspended(entry, reason)
        self._journal.note_entry(entry.id)

    # -- views -----------------------------------------------------------------------------------------------------

    def view(self, entry: Entry, position: int | None = None) -> EntryView:
        """The entry for people; ``position`` where the caller knows its place in the list, from 1."""
        row = entry.row
        if position is None:
            position = 1 + self.book.of_list(row.user_id, row.list_name).index(entry)
        today = self._clock.now().astimezone(self._calendar.zone).date()
        return EntryView(
            id=row.id,
            user_id=row.user_id,
            list_name=row.list_name,
            position=position,
            symbol=row.symbol,
            exchange=row.exchange,
            expiry=row.expiry,
            instrument_type=row.instrument_type,
            added_at=row.added_at,
            added_order=row.added_order,
            last_used_at=row.last_used_at,
            state=EXPIRED if row.expiry is not None and row.expiry < today else row.state.value,
            state_at=row.state_at,
            state_reason=row.state_reason,
            legs=tuple(each.key for each in entry.legs),
            missing=entry.missing,
        )

    # -- entries and claims ----------------------------------------------------------------------------------------

    def _remember(self, row: EntryRow, wanted: Wanted) -> Entry:
        """Mirror a committed entry with the legs it has now."""
        entry = Entry(row, wanted.chain, wanted.legs, wanted.missing)
        entry.used_ms = entry.stored_use_ms = epoch_ms(row.last_used_at)
        self._centre(entry, wanted)
        self.book.put(entry)
        return entry

    def _centre(self, entry: Entry, wanted: Wanted) -> None:
        """Give an entry its window, and the chain the window that people see."""
        entry.legs, entry.missing, entry.window = wanted.legs, wanted.missing, wanted.window
        if wanted.window is None:
            return
        self._journal.note_atm(atm_row(wanted.window))
        live = self._finder.spot(entry.chain)
        entry.reference = wanted.window.window.centre if live is None else live
        entry.moved_ms = self._clock.now_ms()
        shown = self._engine.window(wanted.window.chain)
        if shown is None or live is not None:
            with suppress(InstrumentUnknown, ExpiryUnknown):  # by a master that came while it was stored
                self._engine.centre(wanted.window.chain, entry.reference, wanted.window.count)

    def _drop_entries(self, entries: Collection[Entry]) -> None:
        """Entries left the store: release what they hold, forget them."""
        for entry in entries:
            self._wishes.release(entry.id)
        self.book.discard([entry.id for entry in entries])
        for entry in entries:
            if not entry.is_active:
                self._forget_eviction(entry.chain, [each.key for each in entry.legs])
        for chain in {entry.chain for entry in entries}:
            self._forget_window(chain)

    def _forget_eviction(self, chain: ChainKey, keys: Iterable[InstrumentKey]) -> None:
        """An entry waits for those instruments no longer; another of the chain may."""
        awaited = {leg.key for each in self.book.of_chain(chain) if was_evicted(each) for leg in each.legs}
        self._wishes.set_evicted([key for key in keys if key not in awaited], is_evicted=False)

    def _forget_window(self, chain: ChainKey) -> None:
        """Nobody subscribes the chain any more: the next to open it gets a fresh window."""
        chain_id = chain_id_of(chain)
        if chain_id is None or self._wishes.is_claimed(chain):
            return
        shown = self._engine.window(chain_id)
        if shown is not None and not any(self._wishes.is_tier_b(key) for key in shown.keys):
            self._engine.forget(chain_id)

    def _suspended(self, entry: Entry, reason: str) -> EntryRow:
        return replace(entry.row, state=EntryState.EVICTED, state_at=self._clock.now(), state_reason=reason)

    def _active_row(self, row: EntryRow, wanted: Wanted, *, used: bool) -> EntryRow:
        centre = None if wanted.window is None else wanted.window.atm_strike
        now = self._clock.now()
        return replace(
            row,
            exchange=wanted.chain.exchange,
            expiry=wanted.chain.expiry,
            centre=centre,
            state=EntryState.ACTIVE,
            state_at=None,
            state_reason=None,
            last_used_at=now if used else row.last_used_at,
        )

    # -- eviction --------------------------------------------------------------------------------------------------

    def _evictions(self, victims: Sequence[Victim], wanted: ChainKey) -> Changes:
        """What the store has to know of chains that give way."""
        reason = f"{EVICTED_BY} {name_of(wanted)}"
        rows = [
            self._suspended(entry, reason)
            for victim in victims
            for owner in victim.owners
            if (entry := self.book.get(owner)) is not None
        ]
        freed = self._wishes.instruments(key for victim in victims for key in victim.freed)
        tokens, audit = self._journal.leaving(freed, AuditAction.RATE_LIMIT_EVICT, reason)
        return Changes(entries_updated=rows, leg_tokens_removed=tokens, audit=audit)

    def _after_eviction(self, victims: Sequence[Victim], rows: Sequence[EntryRow], user_id: int | None) -> None:
        """The chains have left: mirror it and tell their owners."""
        by_id = {row.id: row for row in rows}
        for victim in victims:
            told: set[int] = set()
            for owner in victim.owners:
                entry, row = self.book.get(owner), by_id.get(owner)
                if entry is None or row is None:
                    continue
                entry.row = row
                if row.user_id not in told:
                    told.add(row.user_id)
                    self._tell_evicted(entry, victim, user_id)
            self._forget_window(victim.chain)
            self._log.info("chain evicted", chain=name_of(victim.chain), legs=len(victim.freed))

    def _tell_evicted(self, entry: Entry, victim: Victim, asking_user: int | None) -> None:
        self._tell(
            "evicted",
            entry.row.user_id,
            victim.chain,
            legs=len(victim.freed),
            reason=entry.row.state_reason,
            by="you" if entry.row.user_id == asking_user else "other",
        )

    def _evicted_chains(self, victims: Sequence[Victim], user_id: int) -> tuple[EvictedChain, ...]:
        def whose(victim: Victim) -> str:
            owners = (self.book.get(owner) for owner in victim.owners)
            return "you" if any(each is not None and each.row.user_id == user_id for each in owners) else "other"

        return tuple(
            EvictedChain(each.chain.symbol, each.chain.expiry, len(each.freed), whose(each)) for each in victims
        )

    def _tell(self, kind: str, user_id: int | None, chain: ChainKey, **data: object) -> None:
        """One notice about a chain."""
        named: dict[str, object] = {
            "symbol": chain.symbol,
            "expiry": None if chain.expiry is None else format_expiry(chain.expiry),
            "exchange": str(chain.exchange),
            "instrument_type": chain.instrument_type.value,
        }
        self._notify(Event(kind, self._clock.now_ms(), user_id, named | data))


def counted(instruments: int) -> str:
    return "1 instrument" if instruments == 1 else f"{instruments} instruments"


def name_of(chain: ChainKey) -> str:
    """A chain for people: ``RELIANCE 26FEB2026``."""
    return chain.symbol if chain.expiry is None else f"{chain.symbol} {format_expiry(chain.expiry)}"


def chain_id_of(chain: ChainKey) -> ChainId | None:
    """The option chain that people look at; None for a cash line or a future."""
    if chain.expiry is None or not chain.instrument_type.value.endswith("OPTION"):
        return None
    return ChainId(chain.symbol, chain.expiry, Exchange(chain.exchange))


def was_evicted(entry: Entry) -> bool:
    """Whether the entry lost its legs to another, and not to a person's hand or the end of day."""
    reason = entry.row.state_reason or ""
    return not entry.is_active and ("evicted" in reason or reason in (NO_ROOM, NO_ROOM_AGAIN))


def epoch_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end even if the caller is cancelled meanwhile: what was committed must also be wished.

    Without a running loop (the in-memory service behind the module-level doors) nothing can cancel it.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await work
    task = loop.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        with suppress(Exception):
            task.result()
        raise cancelled
    return task.result()
