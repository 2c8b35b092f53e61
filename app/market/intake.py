"""Taking an entry in and letting it go: what adding, copying, subscribing and removing have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date

from app.core.errors import AlreadyExists, AlreadyInWatchlist
from app.core.ids import InstrumentKey
from app.market.entries import ChainResult, Entry, Wanted
from app.market.eviction import ChainKey
from app.market.lists import name_of
from app.market.upkeep import Upkeep
from app.ports.store import AuditAction, Changes, EntryRow, InstrumentType


class Intake(Upkeep):
    """Each of these is the middle of a use case that has its turn."""

    async def _take_in(
        self, user_id: int, list_name: str, wanted: Wanted, held: Entry | None
    ) -> tuple[Entry, ChainResult]:
        """Admit, store, wish. A held entry is reopened: evicted before, or to be centred anew."""
        chain = wanted.chain
        await self._require_user(user_id)
        admission = self._wishes.admit(wanted.legs, chain, held.id if held else None)
        try:
            evictions = self._evictions(admission.victims, chain)
            row = self._active_row(held.row if held else self._new_row(user_id, list_name, chain), wanted, used=True)
            dropped = self._dropped_by(held, wanted)
            legs, subscribed = self._journal.arriving(
                wanted.legs, AuditAction.SUBSCRIBE, f"{name_of(chain)} for user {user_id}"
            )
            tokens, unsubscribed = self._journal.leaving(
                self._wishes.instruments(dropped), AuditAction.UNSUBSCRIBE, f"{name_of(chain)} centred anew"
            )
            gone = self._wishes.instruments([*dropped, *(key for each in admission.victims for key in each.freed)])
            ids = await self._store.commit(
                Changes(
                    entries_updated=[*evictions.entries_updated, *([row] if held else [])],
                    entries_added=[] if held else [row],
                    leg_tokens_removed=[*evictions.leg_tokens_removed, *tokens],
                    legs=legs,
                    audit=[*evictions.audit, *unsubscribed, *subscribed],
                )
            )
        except AlreadyExists as error:
            self._wishes.withdraw(admission)
            raise AlreadyInWatchlist(f"{name_of(chain)} is in the watchlist of user {user_id} already") from error
        except BaseException:
            self._wishes.withdraw(admission)
            raise
        entry_id = held.id if held else ids[0]
        self._journal.committed(legs, gone)
        evicted = self._evicted_chains(admission.victims, user_id)
        self._wishes.want(admission, entry_id)
        self._after_eviction(admission.victims, evictions.entries_updated, user_id)
        entry = self._remember(replace(row, id=entry_id), wanted)
        if held is not None:
            self._forget_eviction(held.chain, [each.key for each in held.legs])
            self._forget_window(held.chain)
        assert chain.expiry is not None or chain.instrument_type is InstrumentType.EQUITY
        result = ChainResult(
            symbol=chain.symbol,
            exchange=chain.exchange,
            expiry=chain.expiry or date.min,
            message="",
            subscribed=wanted.legs,
            failed=wanted.missing,
            window=wanted.window,
            evicted=evicted,
            revision=self._wishes.revision,
        )
        return entry, result

    def _dropped_by(self, held: Entry | None, wanted: Wanted) -> list[InstrumentKey]:
        """Legs that only the held entry owns and that its new window leaves out."""
        if held is None:
            return []
        staying = {each.key for each in wanted.legs}
        return [each.key for each in self._wishes.would_free((held.id,)) if each.key not in staying]

    def _new_row(self, user_id: int, list_name: str, chain: ChainKey) -> EntryRow:
        now = self._clock.now()
        return EntryRow(
            id=0,
            user_id=user_id,
            list_name=list_name,
            symbol=chain.symbol,
            exchange=chain.exchange,
            expiry=chain.expiry,
            instrument_type=chain.instrument_type,
            added_at=now,
            added_order=self.book.next_order(user_id, list_name),
            last_used_at=now,
            position=self.book.next_position(user_id, list_name),
        )

    async def _delete(
        self, entries: Collection[Entry], action: AuditAction, reason: str, lists: Sequence[tuple[int, str]] = ()
    ) -> int:
        """Take entries, and the lists of these users and names, out of store and books.

        Returns how many instruments nobody owns any more.
        """
        freed = self._wishes.would_free([each.id for each in entries])
        tokens, audit = self._journal.leaving(freed, action, reason)
        await self._store.commit(
            Changes(
                lists_removed=lists,
                entries_removed=[each.id for each in entries],
                leg_tokens_removed=tokens,
                audit=audit,
            )
        )
        self._journal.committed((), freed)
        self._drop_entries(entries)
        return len(freed)

    async def _require_user(self, user_id: int) -> None:
        if user_id not in self._known_users:
            await self._store.ensure_user(user_id)
            self._known_users.add(user_id)
