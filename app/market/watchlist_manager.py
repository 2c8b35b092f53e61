"""Use cases on users' lists: resolve, admit, store, wish. What is answered with success is durable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import cast

from app.core.blocking import run
from app.core.doors import Door
from app.core.errors import AlreadyInWatchlist, InstrumentUnknown, NotInWatchlist, TerminalError
from app.core.ids import format_expiry
from app.core.instruments import Instrument
from app.market.atm_engine import ChainId
from app.market.entries import AddResult, ChainResult, EntryView, RemoveResult
from app.market.eviction import ChainKey
from app.market.lists import Desk, counted, name_of
from app.market.named_lists import ListLimits, NamedLists
from app.ports.store import DEFAULT_LIST, EXPLICIT_LIST, AuditAction, Changes, InstrumentType

__all__ = ["Desk", "ListLimits", "WatchlistManager"]

USE_STORED_EVERY_MS = 15_000  # last use is written at most so often per entry
LIST_SHOWN_MAX = 8  # chains of a list that count as on the screen that shows it
OPTION_TYPES = (InstrumentType.STOCK_OPTION, InstrumentType.INDEX_OPTION, InstrumentType.COMMODITY_OPTION)


Permit = Callable[[Sequence[Instrument]], None]


def _anything(instruments: Sequence[Instrument]) -> None:
    """Everybody may see everything."""


class WatchlistManager(NamedLists):
    """Users' lists and explicit chains. Reads are synchronous, from the mirror; writes take turns."""

    # -- endpoint 1 and 2 --------------------------------------------------------------------------------------------

    async def add(
        self,
        user_id: int,
        symbol: str,
        expiry: str | date | None,
        instrument_type: InstrumentType,
        underlying_ltp: float | None = None,
        *,
        exchange: str | None = None,
        list_name: str = DEFAULT_LIST,
        permit: Permit = _anything,
    ) -> AddResult:
        """Put a chain, a future or a cash line on a list of the user and subscribe it whole.

        Without an expiry the nearest listed one is meant. An entry that was evicted is taken back in. ``permit`` raises
        where the user may not see the instruments it is called with.

        Raises:
            ListUnknown: the user has no such list.
            InstrumentUnknown, ExpiryUnknown, InvalidRequest, SpotUnknown: see ``chain`` and ``find`` of ``LegFinder``.
            AlreadyInWatchlist, ListLimit, CapacityExceeded, StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(
            self._add(user_id, symbol, expiry, instrument_type, underlying_ltp, exchange, list_name, permit)
        )

    async def _add(
        self,
        user_id: int,
        symbol: str,
        expiry: str | date | None,
        instrument_type: InstrumentType,
        underlying_ltp: float | None,
        exchange: str | None,
        list_name: str,
        permit: Permit,
    ) -> AddResult:
        row = self._require_list(user_id, list_name)
        chain = self._finder.chain(symbol, expiry, instrument_type, exchange)
        held = self.book.find(user_id, row.name, chain.symbol, chain.expiry, instrument_type)
        if held is not None and held.is_active:  # told before a price is needed: there may be none yet
            what = name_of(chain) if held.chain == chain else f"{name_of(chain)} of {held.chain.exchange}"
            raise AlreadyInWatchlist(f"{what} is in {_the_list(row.name)} of user {user_id} already")
        wanted = self._finder.find(chain, underlying_ltp)
        permit(self._finder.shown(wanted))
        if held is None:
            self._require_room(row)
        entry, result = await self._take_in(user_id, row.name, wanted, held)
        self._tell_lists(user_id, "added", row.name)
        return AddResult(
            entry=self.view(entry),
            message=f"{name_of(chain)} added, {counted(len(wanted.legs))} subscribed",
            legs=wanted.legs,
            missing=wanted.missing,
            window=wanted.window,
            evicted=result.evicted,
            revision=result.revision,
        )

    async def remove(
        self,
        user_id: int,
        symbol: str,
        expiry: str | date | None = None,
        *,
        list_name: str | None = None,
        entry_id: int | None = None,
    ) -> RemoveResult:
        """Take a symbol off a list: the entries of one expiry, or without one all entries of the symbol.

        The default list is meant where none is named. With ``entry_id`` only that entry goes, from whichever list.

        Raises:
            ListUnknown: the user has no such list.
            NotInWatchlist: there is no such entry.
            StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._remove(user_id, symbol, expiry, list_name, entry_id))

    async def _remove(
        self, user_id: int, symbol: str, expiry: str | date | None, list_name: str | None, entry_id: int | None
    ) -> RemoveResult:
        name = self._symbol_held(user_id, symbol)
        day = self._finder.day(name, expiry)
        wanted = None if list_name is None and entry_id is not None else list_name or DEFAULT_LIST
        row = None if wanted is None else self._require_list(user_id, wanted)
        entries = [
            each
            for each in self.listed(user_id, None if row is None else row.name)
            if each.row.symbol == name and day in (None, each.row.expiry) and entry_id in (None, each.id)
        ]
        if not entries:
            what = name if day is None else f"{name} {format_expiry(day)}"
            where = _the_list(DEFAULT_LIST if row is None else row.name)
            raise NotInWatchlist(f"{what} is not in {where} of user {user_id}", symbol=name)
        views = tuple(self.view(each) for each in entries)
        freed = await self._delete(entries, AuditAction.UNSUBSCRIBE, f"removed by user {user_id}")
        for each in {each.row.list_name for each in entries}:
            self._tell_lists(user_id, "removed", each)
        message = f"{', '.join(name_of(each.chain) for each in entries)} removed, {counted(freed)} unsubscribed"
        return RemoveResult(message, views, freed, self._wishes.revision)

    def explicit_entries(self, user_id: int) -> list[EntryView]:
        """Chains that the user took without putting them on the list."""
        return [self.view(each) for each in self.book.of_list(user_id, EXPLICIT_LIST)]

    # -- endpoint 5 ------------------------------------------------------------------------------------------------

    async def subscribe_chain(
        self,
        user_id: int,
        symbol: str,
        expiry: str | date,
        underlying_ltp: float | None = None,
        *,
        exchange: str | None = None,
        permit: Permit = _anything,
    ) -> ChainResult:
        """Subscribe an option chain for its caller without a list; again re-centres that caller's window only.

        Raises:
            InstrumentUnknown, ExpiryUnknown, InvalidRequest, SpotUnknown, CapacityExceeded, StoreUnavailable: as add.
        """
        return await self._in_turn(self._subscribe_chain(user_id, symbol, expiry, underlying_ltp, exchange, permit))

    async def _subscribe_chain(
        self,
        user_id: int,
        symbol: str,
        expiry: str | date,
        underlying_ltp: float | None,
        exchange: str | None,
        permit: Permit,
    ) -> ChainResult:
        chain = self._finder.option_chain(symbol, expiry, exchange)
        wanted = self._finder.find(chain, underlying_ltp)
        permit(self._finder.shown(wanted))
        held = self.book.find(user_id, EXPLICIT_LIST, chain.symbol, chain.expiry, chain.instrument_type)
        _, result = await self._take_in(user_id, EXPLICIT_LIST, wanted, held)
        return replace(result, message=f"{len(wanted.legs)} instruments of {name_of(chain)} subscribed")

    async def release_chain(
        self, user_id: int, symbol: str, expiry: str | date, *, exchange: str | None = None
    ) -> ChainResult:
        """Give an explicitly subscribed chain back.

        Raises:
            NotInWatchlist: this caller has not subscribed it.
            StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._release_chain(user_id, symbol, expiry, exchange))

    async def _release_chain(self, user_id: int, symbol: str, expiry: str | date, exchange: str | None) -> ChainResult:
        name = self._symbol_held(user_id, symbol)
        day = self._finder.day(name, expiry)
        entries = [
            each
            for each in self.book.of_list(user_id, EXPLICIT_LIST)
            if (each.row.symbol, each.row.expiry) == (name, day) and exchange in (None, each.row.exchange)
        ]
        if not entries or day is None:
            raise NotInWatchlist(f"user {user_id} has not subscribed the chain {name} {expiry}", symbol=name)
        freed = await self._delete(entries, AuditAction.UNSUBSCRIBE, f"released by user {user_id}")
        message = f"{name_of(entries[0].chain)} released, {counted(freed)} unsubscribed"
        return ChainResult(name, entries[0].row.exchange, day, message, released=freed, revision=self._wishes.revision)

    def _symbol_held(self, user_id: int, text: str) -> str:
        """Dhan's symbol for what a person wrote; one that is listed no more is known by what the user holds of it.

        Raises:
            InstrumentUnknown: it is neither.
        """
        try:
            return self._finder.symbol(text)
        except InstrumentUnknown:
            written = text.strip().upper()
            if any(each.row.symbol == written for each in self.book.of_user(user_id)):
                return written
            raise

    # -- doors of the user's document: for callers that cannot await ---------------------------------------------------

    def add_to_watchlist(
        self,
        user_id: int,
        symbol: str,
        expiry: str | date | None = None,
        instrument_type: str = InstrumentType.STOCK_OPTION,
        underlying_ltp: float | None = None,
    ) -> dict[str, object]:
        """As :meth:`add`; a refusal is an answer with ``success`` False, its ``code`` and what changed: nothing."""
        try:
            result = run(self.add(user_id, symbol, expiry, InstrumentType(instrument_type), underlying_ltp))
        except (TerminalError, ValueError) as refused:
            return _refusal(refused)
        return {
            "success": True,
            "message": result.message,
            "strikes_subscribed": result.strikes_subscribed,
            "missing": [(leg.strike, str(leg.option_type), leg.reason) for leg in result.missing],
            "evicted": [(each.symbol, each.legs, each.owner) for each in result.evicted],
        }

    def remove_from_watchlist(self, user_id: int, symbol: str, expiry: str | date | None = None) -> dict[str, object]:
        """As :meth:`remove`."""
        try:
            result = run(self.remove(user_id, symbol, expiry))
        except (TerminalError, ValueError) as refused:
            return _refusal(refused)
        return {"success": True, "message": result.message, "unsubscribed": result.unsubscribed}

    def get_user_watchlist(self, user_id: int) -> list[dict[str, object]]:
        """As :meth:`entries`, one record an entry."""
        return [
            {
                "id": each.id,
                "symbol": each.symbol,
                "expiry_date": None if each.expiry is None else format_expiry(each.expiry),
                "instrument_type": str(each.instrument_type),
                "added_at": each.added_at.isoformat(),
                "added_order": each.added_order,
                "state": each.state,
            }
            for each in self.entries(user_id)
        ]

    def clear_all_user_watchlist(self, user_id: int) -> int:
        """As :meth:`clear` for one user."""
        return run(self.clear(user_id))

    # -- endpoints 13 and 14 -----------------------------------------------------------------------------------------

    async def clear(self, user_id: int | None) -> int:
        """Empty one user's lists, or everybody's; the lists and explicit chains stay. Returns how many entries left."""
        return await self._in_turn(self._clear(user_id))

    async def _clear(self, user_id: int | None) -> int:
        entries = [each for each in self.book if not each.is_explicit and user_id in (None, each.row.user_id)]
        if entries:
            await self._delete(entries, AuditAction.UNSUBSCRIBE, "watchlists cleared")
            for each in {each.row.user_id for each in entries}:
                self._tell_lists(each, "cleared", None)
        return len(entries)

    async def unsubscribe_all_tier_a(self, reason: str = "all Tier A unsubscribed") -> int:
        """Release every Tier A instrument. Lists stay and show why; adding an entry again takes it back.

        Returns how many instruments left.
        """
        return await self._in_turn(self._unsubscribe_all(reason))

    async def _unsubscribe_all(self, reason: str) -> int:
        explicit = [each for each in self.book if each.is_explicit]
        rows = [self._suspended(each, reason) for each in self.book if not each.is_explicit]
        freed = self._wishes.would_free(self._wishes.claims())
        tokens, audit = self._journal.leaving(freed, AuditAction.UNSUBSCRIBE, reason)
        await self._store.commit(
            Changes(
                entries_removed=[each.id for each in explicit],
                entries_updated=rows,
                leg_tokens_removed=tokens,
                audit=audit,
            )
        )
        self._journal.committed((), freed)
        self._drop_entries(explicit)
        for row in rows:
            if entry := self.book.get(row.id):
                entry.row = row
        count = self._wishes.sweep(self._wishes.claims(), reason)
        self._wishes.take_swept()  # the lists know already
        return max(count, len(freed))

    # -- use -------------------------------------------------------------------------------------------------------

    def touch_shown(self, chains: Iterable[ChainId]) -> None:
        """Connected clients show these chains; repeat it every few seconds.

        The hub limits how many of one client's chains count as on its screen.
        """
        now_ms = self._clock.now_ms()
        for chain in chains:
            for kind in OPTION_TYPES:
                key = ChainKey(chain.exchange, chain.symbol, chain.expiry, kind)
                self._wishes.show(key, now_ms)
                self._touch(key, now_ms)

    def touch_opened(self, chain: ChainId) -> None:
        """Somebody opened the chain: a use, though it is on no screen that we know of."""
        now_ms = self._clock.now_ms()
        for kind in OPTION_TYPES:
            self._touch(ChainKey(chain.exchange, chain.symbol, chain.expiry, kind), now_ms)

    def touch_entries(self, user_id: int, list_name: str | None = None) -> None:
        """A connected client shows a list of the user, or all of them; repeat it every few seconds.

        The most recently used chains count as on the screen, so that a long list neither pins the capacity nor loses
        its own order of use.
        """
        now_ms = self._clock.now_ms()
        latest = sorted(self.listed(user_id, list_name), key=lambda each: (each.used_ms, each.row.added_order))
        for entry in latest[-LIST_SHOWN_MAX:]:
            self._wishes.show(entry.chain, now_ms)
            self._touch(entry.chain, now_ms)

    def _touch(self, chain: ChainKey, now_ms: int) -> None:
        self._wishes.touch(chain, now_ms)
        for entry in self.book.of_chain(chain):
            entry.used_ms = now_ms
            if not 0 <= now_ms - entry.stored_use_ms < USE_STORED_EVERY_MS:
                entry.stored_use_ms = now_ms
                entry.row = replace(entry.row, last_used_at=self._clock.now())
                self._journal.note_entry(entry.id)


_DOOR = cast(
    "WatchlistManager",
    Door(
        WatchlistManager,
        lambda service: service.watchlists,
        waiting=("add_to_watchlist", "remove_from_watchlist", "clear_all_user_watchlist"),
    ),
)


def get_watchlist_manager() -> WatchlistManager:
    """The running service's lists: a door of the user's document."""
    return _DOOR


def _the_list(name: str) -> str:
    return "the watchlist" if name == DEFAULT_LIST else f"the list {name}"


def _refusal(refused: TerminalError | ValueError) -> dict[str, object]:
    code = refused.code if isinstance(refused, TerminalError) else "INVALID_REQUEST"
    return {"success": False, "message": str(refused), "code": code}
