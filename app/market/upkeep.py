"""What happens to lists by itself: restart, returns after eviction, windows that follow, end of day."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from app.core.eod import MAIN_SEGMENT
from app.core.errors import AlreadyExists, ExpiryUnknown, InstrumentUnknown, TerminalError
from app.core.ids import Exchange, InstrumentKey, Segment, format_expiry
from app.core.instruments import Instrument
from app.core.sessions import LOOK_AHEAD_DAYS, Calendar
from app.market.atm_engine import COOLDOWN_MS, Window, has_moved
from app.market.entries import Entry, Identity, Wanted, identity
from app.market.events import Event
from app.market.eviction import ChainKey
from app.market.lists import NO_ROOM, NO_ROOM_AGAIN, Desk, Lists, epoch_ms, name_of, was_evicted
from app.ports.store import (
    AuditAction,
    AuditRow,
    Changes,
    EntryRow,
    EntryState,
    StoredState,
)

ASLEEP = "; returns with the next session"  # how the reason of a kept entry ends
NO_LONGER_LISTED = "no longer listed"
SLICE = 1_000  # instruments released before others get a turn
FOLLOW_SLICE = 100  # windows looked at before others get a turn
RETURN_SLICE = 100  # entries that return in one commit


class Upkeep(Lists):
    """The entries' life between two requests."""

    def __init__(self, desk: Desk, *, keep_at_end_of_day: bool = False) -> None:
        super().__init__(desk)
        self._keeps = keep_at_end_of_day
        self._known_users: set[int] = set()

    # -- start -----------------------------------------------------------------------------------------------------

    def restore(self, state: StoredState) -> None:
        """Rebuild the wishes from the store: the same path after a clean stop and after a crash.

        The most recently used come first; what has no room is shown as evicted.
        """
        self._journal.loaded(state)
        since = {leg.key: leg.subscribed_at for leg in state.legs}
        for row in sorted(state.entries, key=lambda each: each.last_used_at, reverse=True):
            self._restore_entry(row, since)
        self._log.info("lists restored", entries=len(self.book), instruments=self._wishes.total)

    def _restore_entry(self, row: EntryRow, since: Mapping[InstrumentKey, datetime]) -> None:
        chain = ChainKey(row.exchange, row.symbol, row.expiry, row.instrument_type)
        wanted = self._finder.again(chain, row.centre)
        entry = self._remember(row, wanted or Wanted(chain, ()))
        if row.state is EntryState.EVICTED:
            entry.sleeps = (row.state_reason or "").endswith(ASLEEP)
            if was_evicted(entry):
                self._wishes.set_evicted((each.key for each in entry.legs), is_evicted=True)
        elif wanted is None:
            self._suspend(entry, NO_LONGER_LISTED)
        elif not self._wishes.restore(entry.id, chain, wanted.legs, epoch_ms(row.last_used_at)):
            self._suspend_evicted(entry, NO_ROOM)
        for each in entry.legs:
            if each.key in since:
                self._wishes.subscribed_since(each.key, since[each.key])

    def _suspend_evicted(self, entry: Entry, reason: str) -> None:
        """Mark an entry whose claim is gone, and its legs as evicted."""
        self._suspend(entry, reason)
        self._wishes.set_evicted((each.key for each in entry.legs), is_evicted=True)

    async def write_behind(self) -> bool:
        """Store one batch of rows that changed without a use case; False when nothing is due.

        Raises:
            StoreUnavailable: the batch stays due.
        """
        if not self._journal.has_work:
            return False
        return await self._in_turn(self._write_behind())

    async def retry_store(self) -> None:
        """After a failure, see whether the store works again, also where nobody asks and nothing is due.

        Raises:
            StoreUnavailable: not yet.
        """
        if self._store.trouble is not None:
            await self._store.ping()
            await self._store.ping_write()

    async def _write_behind(self) -> bool:
        batch = self._journal.take(self._row_of)
        if batch is None:
            return False
        try:
            await self._store.commit(batch[0])
        except BaseException:
            self._journal.failed(*batch)
            raise
        self._journal.settled(*batch)
        return True

    def _row_of(self, entry_id: int) -> EntryRow | None:
        entry = self.book.get(entry_id)
        return None if entry is None else entry.row

    # -- windows ---------------------------------------------------------------------------------------------------

    async def follow_spots(self) -> int:
        """Move the windows of entries whose spot has left them; returns how many moved."""
        spots: dict[ChainKey, float | None] = {}
        moved = 0
        for number, entry in enumerate(list(self.book)):
            if number % FOLLOW_SLICE == FOLLOW_SLICE - 1:
                await asyncio.sleep(0)
            if entry.window is None or not entry.is_active or self.book.get(entry.id) is not entry:
                continue
            if entry.chain not in spots:
                spots[entry.chain] = self._finder.spot(entry.chain)
            moved += self._follow(entry, spots[entry.chain])
        return moved

    def _follow(self, entry: Entry, spot: float | None) -> bool:
        window = entry.window
        if window is None or spot is None or entry.reference is None:
            return False
        judged = Window(window.window.lo, window.window.hi, window.window.atm, entry.reference)
        now_ms = self._clock.now_ms()
        if not has_moved(judged, spot, window.ladder.step) or 0 <= now_ms - entry.moved_ms < COOLDOWN_MS:
            return False
        try:
            wanted = self._finder.cut(window.ladder, entry.chain.instrument_type, spot)
        except (InstrumentUnknown, ExpiryUnknown):  # gone with a new master: it stays as it is until the end of day
            return False
        old = {each.key for each in entry.legs}
        new = {each.key for each in wanted.legs}
        changing = (each.token for each in (*entry.legs, *wanted.legs) if (each.key in old) != (each.key in new))
        self._journal.note_reason(changing, f"window of {name_of(entry.chain)} moved")
        if not self._wishes.move(entry.id, [each for each in wanted.legs if each.key not in old], old - new):
            return False
        self._centre(entry, wanted)
        centre = None if wanted.window is None else wanted.window.atm_strike
        entry.row = replace(entry.row, centre=centre)
        self._journal.note_entry(entry.id)
        if old != new:
            self._tell("window_moved", entry.row.user_id, entry.chain, atm_strike=centre, underlying_ltp=spot)
        return old != new

    # -- a new instrument master -----------------------------------------------------------------------------------

    async def relist(self) -> None:
        """Find every entry anew that a new master lists otherwise, as a restart would."""
        await self._in_turn(self._relist())

    async def _relist(self) -> None:
        for number, entry in enumerate(list(self.book)):
            if number % FOLLOW_SLICE == FOLLOW_SLICE - 1:
                await asyncio.sleep(0)
            if not entry.is_active:
                self._relist_inactive(entry)
            elif len(self._wishes.held_by(entry.id)) != len(entry.legs):
                self._relist_active(entry)
        self._journal.review()

    def _relist_active(self, entry: Entry) -> None:
        wanted = self._finder.again(entry.chain, entry.reference)
        if wanted is None:
            self._let_fall(entry, Wanted(entry.chain, ()), NO_LONGER_LISTED)
            return
        new = {each.key for each in wanted.legs}
        if not self._wishes.move(entry.id, wanted.legs, set(self._wishes.held_by(entry.id)) - new):
            self._let_fall(entry, wanted, NO_ROOM)
            return
        self._centre(entry, wanted)
        entry.row = replace(entry.row, centre=None if wanted.window is None else wanted.window.atm_strike)
        self._journal.note_entry(entry.id)

    def _let_fall(self, entry: Entry, wanted: Wanted, reason: str) -> None:
        """An entry that cannot go on: its owner is told, and the list says why."""
        lost = len(entry.legs)
        self._wishes.release(entry.id)
        self._centre(entry, wanted)
        self._suspend_evicted(entry, reason)
        self._forget_window(entry.chain)
        self._tell("evicted", entry.row.user_id, entry.chain, legs=lost, reason=reason, by="other")

    def _relist_inactive(self, entry: Entry) -> None:
        wanted = self._finder.again(entry.chain, entry.row.centre)
        before, entry.legs = [each.key for each in entry.legs], () if wanted is None else wanted.legs
        if was_evicted(entry):
            self._forget_eviction(entry.chain, before)
            self._wishes.set_evicted((each.key for each in entry.legs), is_evicted=True)

    # -- returns ---------------------------------------------------------------------------------------------------

    def due_back(self, *, has_room: bool) -> ChainKey | None:
        """The chain that should return next: kept ones at their session, evicted ones when there is room."""
        waking = [each for each in self.book if each.sleeps and self._session_began_since(each)]
        waiting = [each for each in self.book if has_room and self._may_return(each)]
        chosen = max(waking or waiting, key=lambda each: each.used_ms, default=None)
        return None if chosen is None else chosen.chain

    def _may_return(self, entry: Entry) -> bool:
        return was_evicted(entry) and not entry.sleeps and not self._is_over(entry)

    def _is_over(self, entry: Entry) -> bool:
        return entry.row.expiry is not None and entry.row.expiry < self._today()

    def _session_began_since(self, entry: Entry) -> bool:
        """Whether a session of the entry's exchange has begun since it was put to sleep."""
        asleep_since, now = entry.row.state_at, self._clock.now()
        if asleep_since is None:
            return True
        # What is listed no more has no legs: it wakes with its exchange, to be told so.
        segment = entry.legs[0].key.segment if entry.legs else MAIN_SEGMENT[Exchange(entry.chain.exchange)]
        return _first_opening(self._calendar, segment, asleep_since) <= now

    async def bring_back(self, chain: ChainKey) -> bool:
        """Return the evicted entries of a chain, at nobody's cost; False where there is no room after all.

        Raises:
            StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._bring_back(chain))

    async def _bring_back(self, chain: ChainKey) -> bool:
        due = deque(each for each in self.book.of_chain(chain) if each.sleeps or self._may_return(each))
        returned = False
        while due:
            returned |= await self._store_returned(chain, self._wish_anew(chain, due))
        return returned

    def _wish_anew(self, chain: ChainKey, due: deque[Entry]) -> list[tuple[Entry, Wanted]]:
        """Wish for the first of the entries again, as many as one commit bears; returns those that have room."""
        returning: list[tuple[Entry, Wanted]] = []
        legs = 0
        while due and legs < SLICE and len(returning) < RETURN_SLICE:
            entry = due.popleft()
            wanted = self._finder.again(chain, entry.row.centre)
            if wanted is None:
                entry.sleeps = False
                self._suspend(entry, NO_LONGER_LISTED)
            elif self._wishes.restore(entry.id, chain, wanted.legs, entry.used_ms):
                returning.append((entry, wanted))
                legs += len(wanted.legs)
            elif entry.sleeps:  # its session is there: from now on it waits for room, and holds up no other
                entry.sleeps = False
                self._suspend_evicted(entry, NO_ROOM_AGAIN)
        return returning

    async def _store_returned(self, chain: ChainKey, returning: Sequence[tuple[Entry, Wanted]]) -> bool:
        """Many users may have kept the same chain: they return in one commit. False where there are none."""
        if not returning:
            return False
        rows = [self._active_row(entry.row, wanted, used=False) for entry, wanted in returning]
        back = {leg.key: leg for _, wanted in returning for leg in wanted.legs}
        legs, audit = self._journal.arriving(back.values(), AuditAction.RESTORE, f"{name_of(chain)} is back")
        try:
            await self._store.commit(Changes(entries_updated=rows, legs=legs, audit=audit))
        except BaseException:
            for entry, _ in returning:
                self._wishes.release(entry.id)
            self._wishes.set_evicted(back, is_evicted=True)
            raise
        self._journal.committed(legs, ())
        lost = {leg.key for entry, _ in returning for leg in entry.legs}
        for (entry, wanted), row in zip(returning, rows, strict=True):
            entry.row, entry.sleeps = row, False
            self._centre(entry, wanted)
            self._tell("restored", row.user_id, chain, legs=len(wanted.legs))
        self._forget_eviction(chain, lost)
        return True

    # -- end of day ------------------------------------------------------------------------------------------------

    async def end_of_day(self, mark: str, added_before: datetime, exchanges: Collection[str]) -> int | None:
        """Clear every list of those exchanges, once: entries added before the moment, whatever their state.

        ``mark`` names the day's end in the store; returns how many instruments left, or None if it was done before.
        With lists kept, entries stay, release their legs until the next session, and roll on to a living expiry.

        Raises:
            StoreUnavailable: nothing has changed; try again.
        """
        return await self._in_turn(self._end_of_day(mark, added_before, frozenset(map(str, exchanges))))

    async def _end_of_day(self, mark: str, added_before: datetime, exchanges: frozenset[str]) -> int | None:
        if await self._store.was_done(mark):
            return None
        due = [each for each in self.book if each.row.exchange in exchanges and each.row.added_at < added_before]
        kept = [each for each in due if self._keeps and not each.is_explicit]
        removed = [each for each in due if not self._keeps or each.is_explicit]
        by_token = [each for each in self._wishes.taken_by_token() if each.chain.exchange in exchanges]
        rolled = {each.id: self._rolled(each, added_before) for each in kept}
        due_ids = {each.id for each in due}
        added_since = {identity(each.row) for each in self.book if each.id not in due_ids}
        merged = _same_identity(rolled.values(), added_since)
        removed = [*removed, *(each for each in kept if each.id in merged)]
        rows = [row for row in rolled.values() if row.id not in merged]
        owners = [each.id for each in due] + [each.owner for each in by_token]
        freed = self._wishes.would_free(owners)
        tokens, audit = self._journal.leaving(freed, AuditAction.EOD_CLEANUP, mark)
        summary = f"{mark}: {len(removed)} entries cleared, {len(rows)} kept, {len(freed)} instruments released"
        head = AuditRow(AuditAction.EOD_CLEANUP, "*", summary, self._clock.now())
        try:
            await self._store.commit(
                Changes(
                    once=mark,
                    entries_removed=[each.id for each in removed],
                    entries_updated=rows,
                    leg_tokens_removed=tokens,
                    audit=[head, *audit],
                )
            )
        except AlreadyExists:
            return None
        self._journal.committed((), freed)
        await self._let_go(owners)
        self._drop_entries(removed)
        for row in rows:
            self._put_to_sleep(row)
        self._tell_end_of_day(exchanges, len(removed), len(rows), freed)
        self._tell_rolled(kept, rolled)
        return len(freed)

    async def _let_go(self, owners: Sequence[int]) -> None:
        """Release many owners without holding everything else up."""
        since_pause = 0
        for owner in owners:
            since_pause += len(self._wishes.release(owner))
            if since_pause >= SLICE:
                since_pause = 0
                await asyncio.sleep(0)

    def _rolled(self, entry: Entry, moment: datetime) -> EntryRow:
        """The kept row: asleep from that moment until its next session, on the nearest expiry if its own is over then.

        ``moment`` may be long past, after a downtime; the session that follows it may run already.
        """
        row = replace(self._suspended(entry, f"end of day{ASLEEP}"), state_at=moment)
        next_day = max(moment.astimezone(self._calendar.zone).date() + timedelta(days=1), self._today())
        if row.expiry is None or row.expiry >= next_day:
            return row
        try:
            nearest = self._finder.nearest_expiry(entry.chain, from_day=next_day)
        except TerminalError:
            nearest = None
        if nearest is None:
            return row
        reason = f"rolled on from {format_expiry(row.expiry)} at end of day{ASLEEP}"
        return replace(row, expiry=nearest, state_reason=reason)

    def _put_to_sleep(self, row: EntryRow) -> None:
        chain = ChainKey(row.exchange, row.symbol, row.expiry, row.instrument_type)
        entry = self._remember(row, self._finder.again(chain, row.centre) or Wanted(chain, ()))
        entry.sleeps = True

    def _tell_end_of_day(self, exchanges: Iterable[str], cleared: int, kept: int, freed: Sequence[Instrument]) -> None:
        data: dict[str, object] = {
            "exchanges": sorted(exchanges),
            "cleared": cleared,
            "kept": kept,
            "released": len(freed),
        }
        self._notify(Event("eod", self._clock.now_ms(), None, data))

    def _tell_rolled(self, kept: Iterable[Entry], rolled: Mapping[int, EntryRow]) -> None:
        """Each user hears of the own entries: what others have on their lists is theirs."""
        by_user: dict[int, list[dict[str, str]]] = {}
        for entry in kept:
            row = rolled[entry.id]
            if entry.chain.expiry is not None and row.expiry is not None and entry.chain.expiry != row.expiry:
                old, new = format_expiry(entry.chain.expiry), format_expiry(row.expiry)
                by_user.setdefault(row.user_id, []).append({"symbol": row.symbol, "from": old, "to": new})
        for user_id, moves in by_user.items():
            self._notify(Event("eod", self._clock.now_ms(), user_id, {"phase": "rolled", "rolled": moves}))

    def _today(self) -> date:
        return self._clock.now().astimezone(self._calendar.zone).date()


def _same_identity(rows: Iterable[EntryRow], others: Collection[Identity]) -> set[int]:
    """Rows that would fall together with another after rolling: with one of ``others``, and of themselves the later."""
    seen = set(others)
    twice: set[int] = set()
    for row in rows:
        if identity(row) in seen:
            twice.add(row.id)
        seen.add(identity(row))
    return twice


def _first_opening(calendar: Calendar, segment: Segment, after: datetime) -> datetime:
    """When the segment's next session opens; far off if the calendar knows none."""
    day = after.astimezone(calendar.zone).date()
    for ahead in range(LOOK_AHEAD_DAYS):
        for session in calendar.sessions(segment, day + timedelta(days=ahead)):
            if session.open > after:
                return session.open
    return after + timedelta(days=LOOK_AHEAD_DAYS)
