"""What must outlive the process. Adapters: memory, SQL (SQLite and PostgreSQL); one contract suite over all.

Every method is one transaction. ``commit`` is durable when it returns. Times are aware datetimes, stored as UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from app.core.ids import InstrumentKey, OptionType, Tier
from app.ports.access import AccessStore

USER_ID_MAX = 2**52  # half of what JSON keeps exact: accounts added later still get ids that a browser can read
DEFAULT_LIST = "default"
EXPLICIT_LIST = "@explicit"  # chains taken through option-chain/subscribe: kept like a list, shown in none


class InstrumentType(StrEnum):
    """What a watchlist entry asks for."""

    EQUITY = "EQUITY"
    STOCK_OPTION = "STOCK_OPTION"
    INDEX_OPTION = "INDEX_OPTION"
    FUTURE = "FUTURE"
    COMMODITY_OPTION = "COMMODITY_OPTION"


class EntryState(StrEnum):
    ACTIVE = "ACTIVE"
    EVICTED = "EVICTED"


class AuditAction(StrEnum):
    SUBSCRIBE = "SUBSCRIBE"
    UNSUBSCRIBE = "UNSUBSCRIBE"
    RATE_LIMIT_EVICT = "RATE_LIMIT_EVICT"
    EOD_CLEANUP = "EOD_CLEANUP"
    RESTORE = "RESTORE"


@dataclass(frozen=True, slots=True)
class EntryRow:
    """One wish of one user: a chain, a future or a cash line. Table ``watchlist``.

    ``expiry`` is None for a cash line (stored as an empty text, never NULL). ``centre`` is the strike that the window
    was last centred on; with the master it gives the legs back. ``id`` 0 means not stored yet. ``added_order`` is the
    order of adding and stays; ``position`` is the place in the list and changes.
    """

    id: int
    user_id: int
    list_name: str
    symbol: str
    exchange: str
    expiry: date | None
    instrument_type: InstrumentType
    added_at: datetime
    added_order: int
    last_used_at: datetime
    centre: float | None = None
    state: EntryState = EntryState.ACTIVE
    state_at: datetime | None = None
    state_reason: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class ListRow:
    """A named list of one user. Table ``watchlists``, unique by (user_id, name); lists go by ``position``.

    The default list needs no row: it is there for everybody, and has one only to be put elsewhere than first.
    """

    user_id: int
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class LegRow:
    """One subscribed instrument. Table ``subscriptions``, unique by token."""

    token: str
    key: InstrumentKey
    symbol: str
    expiry: date | None
    strike: float | None
    option_type: OptionType | None
    tier: Tier
    subscribed_at: datetime
    ws_id: int | None  # 1-based
    active: bool = True


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the audit trail. Table ``subscription_log``."""

    action: AuditAction
    instrument_token: str
    reason: str
    timestamp: datetime
    id: int = 0


@dataclass(frozen=True, slots=True)
class AtmRow:
    """Where a chain's window stands. Table ``atm_cache``, unique by (underlying_symbol, expiry, exchange)."""

    underlying_symbol: str
    exchange: str
    expiry: date
    current_ltp: float
    atm_strike: float
    strike_step: float
    cached_at: datetime
    strikes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """One transaction's worth of writes. Applied in the order of the fields; all or nothing.

    ``once`` names something that may happen one time only (an end of day, ``EOD:NSE:2026-02-03``): the store refuses
    the whole with ``AlreadyExists`` if the same name was ever committed. ``lists_removed`` deletes lists by user and
    name, but no entry; ``lists`` inserts or updates by both. ``leg_tokens_removed`` deletes subscription rows; ``legs``
    inserts or updates by token.
    """

    once: str | None = None
    lists_removed: Sequence[tuple[int, str]] = ()
    lists: Sequence[ListRow] = ()
    entries_removed: Sequence[int] = ()
    entries_updated: Sequence[EntryRow] = ()
    entries_added: Sequence[EntryRow] = ()
    leg_tokens_removed: Sequence[str] = ()
    legs: Sequence[LegRow] = ()
    atm: Sequence[AtmRow] = ()
    audit: Sequence[AuditRow] = ()


@dataclass(frozen=True, slots=True)
class StoredState:
    """Everything that boot needs to rebuild the wishes."""

    entries: tuple[EntryRow, ...] = ()
    legs: tuple[LegRow, ...] = ()
    atm: tuple[AtmRow, ...] = ()
    lists: tuple[ListRow, ...] = ()


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class UserRow:
    """An account. ``password_hash`` is argon2id, empty for a user made on first use without authentication."""

    id: int
    name: str
    role: Role
    password_hash: str = field(repr=False)
    created_at: datetime
    token_version: int = 0  # raised to revoke every token issued before


@dataclass(frozen=True, slots=True)
class AuditFilter:
    token: str | None = None
    action: AuditAction | None = None
    since: datetime | None = None
    before_id: int | None = None  # cursor: rows with a smaller id
    limit: int = 100


class Store(AccessStore, Protocol):
    """Raises ``StoreUnavailable`` from any method when the database cannot be reached or is out of space."""

    async def start(self) -> None:
        """Connect and migrate to the newest schema."""
        ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        """Prove that a read works."""
        ...

    async def ping_write(self) -> None:
        """Prove that a write works; nothing is changed."""
        ...

    @property
    def trouble(self) -> str | None:
        """What fails now and why; None while reads and writes work."""
        ...

    @property
    def failures(self) -> int:
        """Operations that ended with ``StoreUnavailable``, since the start."""
        ...

    async def load(self) -> StoredState: ...

    async def commit(self, changes: Changes) -> list[int]:
        """Apply all of it, or nothing; return the ids given to ``entries_added``, in order.

        Raises:
            AlreadyExists: the entry (user, list, symbol, expiry, type) is there, or ``once`` was done before.
        """
        ...

    async def was_done(self, once: str) -> bool: ...

    async def audit(self, wanted: AuditFilter) -> list[AuditRow]:
        """Newest first."""
        ...

    async def prune_audit(self, before: datetime) -> int:
        """Forget lines older than ``before`` (marks of ``once`` stay); return how many."""
        ...

    async def ensure_user(self, user_id: int) -> UserRow:
        """Return the user, made now if unknown (authentication off: any positive integer is a user)."""
        ...

    async def user_by_name(self, name: str) -> UserRow | None: ...

    async def user_by_id(self, user_id: int) -> UserRow | None: ...

    async def users(self) -> list[UserRow]: ...

    async def add_user(self, name: str, role: Role, password_hash: str) -> UserRow:
        """Raises ``AlreadyExists`` for a taken name."""
        ...

    async def update_user(self, user: UserRow) -> None:
        """Replace role, hash and token version of the user with this id."""
        ...
