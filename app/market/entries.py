"""Entries: one wish of one user each, and what the use cases answer. Their book mirrors what is committed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from app.core.ids import InstrumentKey, OptionType
from app.core.instruments import Instrument
from app.market.atm_engine import CachedWindow
from app.market.eviction import ChainKey
from app.ports.store import EXPLICIT_LIST, EntryRow, EntryState, InstrumentType

EXPIRED = "EXPIRED"

Identity = tuple[int, str, str, date | None, InstrumentType]


@dataclass(frozen=True, slots=True)
class MissingLeg:
    """A leg of a window that cannot be had."""

    strike: float
    option_type: OptionType
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The instruments that a wish comes to. ``window`` is None for a cash line or a future."""

    chain: ChainKey
    legs: tuple[Instrument, ...]
    missing: tuple[MissingLeg, ...] = ()
    window: CachedWindow | None = None


@dataclass(slots=True)
class Entry:
    """One wish with its legs and its own window, so that one user's request never moves another's legs.

    ``reference`` is the spot that the window is judged to be centred on: the live one at the time, whatever the
    request gave. ``sleeps`` marks an entry kept over an end of day, until its next session.
    """

    row: EntryRow
    chain: ChainKey
    legs: tuple[Instrument, ...]
    missing: tuple[MissingLeg, ...] = ()
    window: CachedWindow | None = None
    reference: float | None = None
    moved_ms: int = 0
    used_ms: int = 0
    stored_use_ms: int = 0
    sleeps: bool = False

    @property
    def id(self) -> int:
        return self.row.id

    @property
    def is_active(self) -> bool:
        return self.row.state is EntryState.ACTIVE

    @property
    def is_explicit(self) -> bool:
        """Taken through option-chain/subscribe: in none of the user's lists."""
        return self.row.list_name == EXPLICIT_LIST


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry as endpoint 3 shows it. ``state`` is ACTIVE, EVICTED or EXPIRED; ``position`` counts from 1."""

    id: int
    user_id: int
    list_name: str
    position: int
    symbol: str
    exchange: str
    expiry: date | None
    instrument_type: InstrumentType
    added_at: datetime
    added_order: int
    last_used_at: datetime
    state: str
    state_at: datetime | None
    state_reason: str | None
    legs: tuple[InstrumentKey, ...]
    missing: tuple[MissingLeg, ...]


@dataclass(frozen=True, slots=True)
class EvictedChain:
    """A chain that gave way; ``owner`` is ``you`` or ``other``, seen from who asked."""

    symbol: str
    expiry: date | None
    legs: int
    owner: str


@dataclass(frozen=True, slots=True)
class AddResult:
    """Answer of endpoint 1. ``strikes_subscribed`` counts the entry's legs, shared ones too."""

    entry: EntryView
    message: str
    legs: tuple[Instrument, ...]
    missing: tuple[MissingLeg, ...]
    window: CachedWindow | None
    evicted: tuple[EvictedChain, ...]
    revision: int

    @property
    def strikes_subscribed(self) -> int:
        return len(self.legs)


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """Answer of endpoint 2. ``unsubscribed`` counts instruments that nobody owns any more."""

    message: str
    removed: tuple[EntryView, ...]
    unsubscribed: int
    revision: int


@dataclass(frozen=True, slots=True)
class ChainResult:
    """Answer of endpoint 5. ``released`` counts instruments that nobody owns any more."""

    symbol: str
    exchange: str
    expiry: date
    message: str
    subscribed: tuple[Instrument, ...] = ()
    failed: tuple[MissingLeg, ...] = ()
    window: CachedWindow | None = None
    evicted: tuple[EvictedChain, ...] = ()
    released: int = 0
    revision: int = 0


def identity(row: EntryRow) -> Identity:
    """What is unique in the database."""
    return row.user_id, row.list_name, row.symbol, row.expiry, row.instrument_type


@dataclass(slots=True)
class EntryBook:
    """Every stored entry, by what people ask for."""

    _entries: dict[int, Entry] = field(default_factory=dict)
    _ids: dict[Identity, int] = field(default_factory=dict)
    _by_user: dict[int, dict[int, None]] = field(default_factory=dict)
    _by_chain: dict[ChainKey, dict[int, None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, entry_id: int) -> Entry | None:
        return self._entries.get(entry_id)

    def find(
        self, user_id: int, list_name: str, symbol: str, expiry: date | None, instrument_type: InstrumentType
    ) -> Entry | None:
        entry_id = self._ids.get((user_id, list_name, symbol, expiry, instrument_type))
        return None if entry_id is None else self._entries[entry_id]

    def of_user(self, user_id: int) -> list[Entry]:
        """Everything of one user, explicit chains too, list by list in no order of lists."""
        entries = [self._entries[entry_id] for entry_id in self._by_user.get(user_id, ())]
        return sorted(entries, key=lambda each: (each.row.list_name, each.row.position, each.id))

    def of_list(self, user_id: int, list_name: str) -> list[Entry]:
        """One list of one user, in its order."""
        return [each for each in self.of_user(user_id) if each.row.list_name == list_name]

    def of_chain(self, chain: ChainKey) -> list[Entry]:
        return [self._entries[entry_id] for entry_id in self._by_chain.get(chain, ())]

    def next_order(self, user_id: int, list_name: str) -> int:
        return max((each.row.added_order for each in self.of_list(user_id, list_name)), default=0) + 1

    def next_position(self, user_id: int, list_name: str) -> int:
        """Behind the last one."""
        return max((each.row.position for each in self.of_list(user_id, list_name)), default=0) + 1

    def place(self, entry: Entry, list_name: str, position: int) -> None:
        """Put an entry into a list of its user; what else its row says stays."""
        self.discard([entry.id])
        entry.row = replace(entry.row, list_name=list_name, position=position)
        self.put(entry)

    def put(self, entry: Entry) -> None:
        """Add an entry, or replace the one with its id."""
        self.discard([entry.id])
        self._entries[entry.id] = entry
        self._ids[identity(entry.row)] = entry.id
        self._by_user.setdefault(entry.row.user_id, {})[entry.id] = None
        self._by_chain.setdefault(entry.chain, {})[entry.id] = None

    def discard(self, entry_ids: Iterable[int]) -> None:
        for entry_id in entry_ids:
            entry = self._entries.pop(entry_id, None)
            if entry is None:
                continue
            del self._ids[identity(entry.row)]
            for index, name in ((self._by_user, entry.row.user_id), (self._by_chain, entry.chain)):
                _take_out(index, name, entry_id)


def _take_out(index: dict[int, dict[int, None]] | dict[ChainKey, dict[int, None]], name: object, entry_id: int) -> None:
    members = index[name]  # type: ignore[index]
    del members[entry_id]
    if not members:
        del index[name]  # type: ignore[arg-type]
