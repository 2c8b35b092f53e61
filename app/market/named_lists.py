"""Named lists of a user: which there are, in which order, and which entry stands where in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from app.core.errors import (
    AlreadyInWatchlist,
    InstrumentUnknown,
    InvalidRequest,
    ListExists,
    ListLimit,
    ListUnknown,
    NotInWatchlist,
)
from app.market.entries import Entry, EntryView, EvictedChain
from app.market.events import Event
from app.market.intake import Intake
from app.market.lists import Desk, name_of
from app.ports.store import DEFAULT_LIST, AuditAction, Changes, ListRow, StoredState

Item = TypeVar("Item")

LIST_NAME_CHARS_MAX = 40
RESERVED_MARK = "@"  # first letter of lists that are none of a user's own


@dataclass(frozen=True, slots=True)
class ListLimits:
    """How many lists a user may have, the default one among them, and how many entries may be put into one."""

    lists: int = 50
    entries: int = 1_000


@dataclass(frozen=True, slots=True)
class ListView:
    """A list as people see it; ``position`` counts from 1, ``evicted`` its entries that are not ACTIVE."""

    name: str
    position: int
    count: int
    evicted: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """``unsubscribed`` counts instruments that nobody owns any more."""

    name: str
    removed: int
    unsubscribed: int


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry that was moved or copied; a copy of an evicted entry may have evicted others."""

    entry: EntryView
    message: str
    evicted: tuple[EvictedChain, ...] = ()


@dataclass(slots=True)
class ListBook:
    """Every stored list. The default list is there for everybody, first unless it was put elsewhere."""

    _by_user: dict[int, dict[str, ListRow]] = field(default_factory=dict)

    def put(self, row: ListRow) -> None:
        self._by_user.setdefault(row.user_id, {})[_folded(row.name)] = row

    def drop(self, row: ListRow) -> None:
        del self._by_user[row.user_id][_folded(row.name)]

    def find(self, user_id: int, name: str) -> ListRow | None:
        """The list of that name, in whatever case it is written."""
        stored = self._by_user.get(user_id, {}).get(_folded(name))
        return stored or (_default(user_id) if _folded(name) == DEFAULT_LIST else None)

    def of_user(self, user_id: int) -> list[ListRow]:
        """One user's lists, in their order."""
        rows = {DEFAULT_LIST: _default(user_id), **self._by_user.get(user_id, {})}
        return sorted(rows.values(), key=lambda row: (row.position, row.name))


class NamedLists(Intake):
    """What users do with whole lists, and with the places of entries in them."""

    def __init__(self, desk: Desk, *, keep_at_end_of_day: bool = False, limits: ListLimits | None = None) -> None:
        super().__init__(desk, keep_at_end_of_day=keep_at_end_of_day)
        self._limits = limits or ListLimits()
        self._names = ListBook()

    def restore(self, state: StoredState) -> None:
        for row in state.lists:
            self._names.put(row)
        super().restore(state)

    # -- reading ---------------------------------------------------------------------------------------------------

    def lists(self, user_id: int) -> list[ListView]:
        """The user's lists, in their order; the default list is always among them."""
        entries = self.book.of_user(user_id)
        views = []
        for place, row in enumerate(self._names.of_user(user_id), start=1):
            states = [each.is_active for each in entries if each.row.list_name == row.name]
            views.append(ListView(row.name, place, len(states), states.count(False)))
        return views

    def listed(self, user_id: int, list_name: str | None = None) -> list[Entry]:
        """The entries of one list in its order, or of all lists, list by list; of no list where there is none."""
        if list_name is not None:
            row = self._names.find(user_id, list_name)
            return [] if row is None else self.book.of_list(user_id, row.name)
        place = {row.name: number for number, row in enumerate(self._names.of_user(user_id))}
        entries = [each for each in self.book.of_user(user_id) if not each.is_explicit]
        return sorted(entries, key=lambda each: (place[each.row.list_name], each.row.position, each.id))

    def entries(self, user_id: int, list_name: str | None = None) -> list[EntryView]:
        """As :meth:`listed`, for people.

        Raises:
            ListUnknown: there is no such list.
        """
        if list_name is not None:
            self._require_list(user_id, list_name)
        views: list[EntryView] = []
        place = 0
        for entry in self.listed(user_id, list_name):
            is_first = not views or views[-1].list_name != entry.row.list_name
            place = 1 if is_first else place + 1
            views.append(self.view(entry, place))
        return views

    # -- whole lists -----------------------------------------------------------------------------------------------

    async def create_list(self, user_id: int, name: str) -> str:
        """Make a list, behind the others; returns its name as stored.

        Raises:
            InvalidRequest: no name for a list.
            ListExists, ListLimit, StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._create_list(user_id, name))

    async def _create_list(self, user_id: int, name: str) -> str:
        wanted = list_name_of(name)
        lists = self._names.of_user(user_id)
        if self._names.find(user_id, wanted) is not None:
            raise ListExists(f"user {user_id} has a list {wanted} already")
        if len(lists) >= self._limits.lists:
            raise ListLimit(f"a user has at most {self._limits.lists} lists", limit=self._limits.lists)
        await self._require_user(user_id)
        row = ListRow(user_id, wanted, lists[-1].position + 1)
        await self._store.commit(Changes(lists=[row]))
        self._names.put(row)
        self._tell_lists(user_id, "created", wanted)
        return wanted

    async def rename_list(self, user_id: int, list_name: str, name: str) -> str:
        """Give a list another name; its entries stay. Returns the name as stored.

        Raises:
            InvalidRequest: no name for a list, or the default list was meant.
            ListUnknown, ListExists, StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._rename_list(user_id, list_name, name))

    async def _rename_list(self, user_id: int, list_name: str, name: str) -> str:
        old = self._require_own(user_id, list_name)
        wanted = list_name_of(name)
        taken = self._names.find(user_id, wanted)
        if taken is not None and taken != old:
            raise ListExists(f"user {user_id} has a list {taken.name} already")
        if wanted == old.name:
            return wanted
        new = replace(old, name=wanted)
        entries = self.book.of_list(user_id, old.name)
        await self._store.commit(
            Changes(
                lists_removed=[(user_id, old.name)],
                lists=[new],
                entries_updated=[replace(each.row, list_name=wanted) for each in entries],
            )
        )
        self._names.drop(old)
        self._names.put(new)
        for entry in entries:
            self.book.place(entry, wanted, entry.row.position)
        self._tell_lists(user_id, "renamed", wanted)
        return wanted

    async def delete_list(self, user_id: int, list_name: str) -> Deleted:
        """Delete a list; its entries leave as by remove.

        Raises:
            InvalidRequest: the default list was meant.
            ListUnknown, StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._delete_list(user_id, list_name))

    async def _delete_list(self, user_id: int, list_name: str) -> Deleted:
        row = self._require_own(user_id, list_name)
        entries = self.book.of_list(user_id, row.name)
        reason = f"list {row.name} deleted by user {user_id}"
        freed = await self._delete(entries, AuditAction.UNSUBSCRIBE, reason, lists=[(user_id, row.name)])
        self._names.drop(row)
        self._tell_lists(user_id, "deleted", row.name)
        return Deleted(row.name, len(entries), freed)

    async def order_lists(self, user_id: int, names: Sequence[str]) -> None:
        """Put lists into an order: the named ones first, the others behind as they were.

        Raises:
            InvalidRequest: one is named twice.
            ListUnknown, StoreUnavailable: nothing has changed.
        """
        await self._in_turn(self._order_lists(user_id, names))

    async def _order_lists(self, user_id: int, names: Sequence[str]) -> None:
        named = [self._require_list(user_id, name).name for name in names]
        lists = self._names.of_user(user_id)
        ordered = _named_first(lists, named, lambda row: row.name, "lists")
        rows = [replace(row, position=place) for place, row in enumerate(ordered, start=1)]
        if rows != lists:
            await self._require_user(user_id)
            await self._store.commit(Changes(lists=rows))
            for row in rows:
                self._names.put(row)
            self._tell_lists(user_id, "ordered", None)

    # -- places of entries -----------------------------------------------------------------------------------------

    async def order_entries(self, user_id: int, list_name: str, ids: Sequence[int]) -> None:
        """Put a list into an order: the entries of these ids first, the others behind as they were.

        Raises:
            InvalidRequest: one is named twice.
            ListUnknown, NotInWatchlist, StoreUnavailable: nothing has changed.
        """
        await self._in_turn(self._order_entries(user_id, list_name, ids))

    async def _order_entries(self, user_id: int, list_name: str, ids: Sequence[int]) -> None:
        row = self._require_list(user_id, list_name)
        for entry_id in ids:
            self._require_entry(user_id, entry_id, row.name)
        entries = self.book.of_list(user_id, row.name)
        await self._arrange(row, _named_first(entries, ids, lambda entry: entry.id, "ids"))
        self._tell_lists(user_id, "ordered", row.name)

    async def move_entry(self, user_id: int, entry_id: int, list_name: str, position: int | None = None) -> Placed:
        """Move an entry to another list, or within its own; without a position (from 1) to the end.

        What it subscribes stays as it is.

        Raises:
            ListUnknown, NotInWatchlist: no such list, no such entry of that user.
            AlreadyInWatchlist, ListLimit, StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._move_entry(user_id, entry_id, list_name, position))

    async def _move_entry(self, user_id: int, entry_id: int, list_name: str, position: int | None) -> Placed:
        row, entry = self._require_list(user_id, list_name), self._require_entry(user_id, entry_id)
        if entry.row.list_name != row.name:
            self._require_place(row, entry)
        await self._insert(row, entry, position)
        self._tell_lists(user_id, "moved", row.name)
        return Placed(self.view(entry), f"{name_of(entry.chain)} moved to {row.name}")

    async def copy_entry(self, user_id: int, entry_id: int, list_name: str, position: int | None = None) -> Placed:
        """Put the same into another list as well: a second owner of the same legs, which leaves on its own.

        Raises:
            ListUnknown, NotInWatchlist: no such list, no such entry of that user.
            InstrumentUnknown: it is listed no longer.
            AlreadyInWatchlist, ListLimit, CapacityExceeded, StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(self._copy_entry(user_id, entry_id, list_name, position))

    async def _copy_entry(self, user_id: int, entry_id: int, list_name: str, position: int | None) -> Placed:
        row, entry = self._require_list(user_id, list_name), self._require_entry(user_id, entry_id)
        self._require_place(row, entry)
        wanted = self._finder.again(entry.chain, entry.row.centre)
        if wanted is None:
            raise InstrumentUnknown(f"{name_of(entry.chain)} is listed no longer", symbol=entry.row.symbol)
        copied, result = await self._take_in(user_id, row.name, wanted, None)
        if position is not None:
            await self._insert(row, copied, position)
        self._tell_lists(user_id, "copied", row.name)
        return Placed(self.view(copied), f"{name_of(entry.chain)} copied to {row.name}", result.evicted)

    async def _insert(self, row: ListRow, entry: Entry, position: int | None) -> None:
        others = [each for each in self.book.of_list(row.user_id, row.name) if each is not entry]
        place = len(others) if position is None else position - 1
        await self._arrange(row, [*others[:place], entry, *others[place:]])

    async def _arrange(self, row: ListRow, ordered: Sequence[Entry]) -> None:
        """Number the entries of a list anew, those that come from elsewhere included."""
        moved = [
            (entry, place)
            for place, entry in enumerate(ordered, start=1)
            if (entry.row.list_name, entry.row.position) != (row.name, place)
        ]
        if not moved:
            return
        rows = [replace(entry.row, list_name=row.name, position=place) for entry, place in moved]
        await self._store.commit(Changes(entries_updated=rows))
        for entry, place in moved:
            self.book.place(entry, row.name, place)

    # -- what must be there ----------------------------------------------------------------------------------------

    def _require_list(self, user_id: int, name: str) -> ListRow:
        row = self._names.find(user_id, name)
        if row is None:
            raise ListUnknown(f"user {user_id} has no list {name.strip()}", list=name)
        return row

    def _require_own(self, user_id: int, name: str) -> ListRow:
        row = self._require_list(user_id, name)
        if row.name == DEFAULT_LIST:
            raise InvalidRequest(f"the list {DEFAULT_LIST} can be neither renamed nor deleted", field="list")
        return row

    def _require_entry(self, user_id: int, entry_id: int, list_name: str | None = None) -> Entry:
        """The user's entry of that id, in that list; another user's is as unknown as none."""
        entry = self.book.get(entry_id)
        is_there = entry is not None and entry.row.user_id == user_id and not entry.is_explicit
        if entry is None or not is_there or list_name not in (None, entry.row.list_name):
            where = "the watchlists" if list_name is None else f"the list {list_name}"
            raise NotInWatchlist(f"there is no entry {entry_id} in {where} of user {user_id}", id=entry_id)
        return entry

    def _require_place(self, row: ListRow, entry: Entry) -> None:
        """Room in a list for the like of an entry that is not in it."""
        at = entry.row
        if self.book.find(row.user_id, row.name, at.symbol, at.expiry, at.instrument_type) is not None:
            raise AlreadyInWatchlist(f"{name_of(entry.chain)} is in the list {row.name} already")
        self._require_room(row)

    def _require_room(self, row: ListRow) -> None:
        if len(self.book.of_list(row.user_id, row.name)) >= self._limits.entries:
            raise ListLimit(f"a list has at most {self._limits.entries} entries", limit=self._limits.entries)

    def _tell_lists(self, user_id: int | None, change: str, list_name: str | None) -> None:
        data: dict[str, object] = {"change": change, "list": list_name}
        self._notify(Event("lists", self._clock.now_ms(), user_id, data))


def list_name_of(text: str) -> str:
    """A name as it is stored: blanks trimmed and run together, accents composed.

    Raises:
        InvalidRequest: empty, too long, not printable, or of a form that means something else.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    fits = 0 < len(name) <= LIST_NAME_CHARS_MAX and name.isprintable()
    if not fits or name.startswith(RESERVED_MARK) or ":" in name:
        raise InvalidRequest(
            f"a list's name is 1 to {LIST_NAME_CHARS_MAX} printable characters, does not begin with {RESERVED_MARK} "
            "and has no colon",
            field="name",
        )
    return name


def _folded(name: str) -> str:
    """Equal for names that people would take for the same."""
    return unicodedata.normalize("NFC", " ".join(name.split())).casefold()


def _default(user_id: int) -> ListRow:
    return ListRow(user_id, DEFAULT_LIST, 0)


def _named_first(
    everything: Iterable[Item], named: Sequence[object], name_of_item: Callable[[Item], object], field_name: str
) -> list[Item]:
    """Those named first, in the order of naming, then the others in their own."""
    place = {name: number for number, name in enumerate(named)}
    if len(place) != len(named):
        raise InvalidRequest(f"{field_name}: one is named twice", field=field_name)
    return sorted(everything, key=lambda item: place.get(name_of_item(item), len(place)))
