"""A store that forgets with the process: the same contract as SQL, for simulations and tests.

No coroutine here ever suspends, so a run under virtual time stays deterministic.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

from app.core.errors import AlreadyExists, StoreUnavailable
from app.ports.clock import Clock
from app.ports.store import (
    AtmRow,
    AuditFilter,
    AuditRow,
    Changes,
    EntryRow,
    InstrumentType,
    LegRow,
    ListRow,
    Role,
    StoredState,
    UserRow,
)
from app.storage.memory_access import MemoryAccess
from app.storage.values import audit_lines, auto_name, check_user_id, check_user_name, utc, with_id

_EntryIdentity = tuple[int, str, str, date | None, InstrumentType]


class MemoryStore(MemoryAccess):
    """Implements ``ports.store.Store`` over plain dictionaries; ids are never given twice."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._started = False
        self._entries: dict[int, EntryRow] = {}
        self._lists: dict[tuple[int, str], ListRow] = {}
        self._legs: dict[str, LegRow] = {}
        self._atm: dict[tuple[str, date, str], AtmRow] = {}
        self._audit: list[AuditRow] = []
        self._marks: dict[str, int] = {}  # name of what was done once -> its audit line
        self._users: dict[int, UserRow] = {}
        self._last_entry_id = 0
        self._last_audit_id = 0

    async def start(self) -> None:
        self._started = True

    async def stop(self) -> None:
        self._started = False

    trouble: str | None = None
    failures: int = 0

    async def ping(self) -> None:
        self._require_started()

    async def ping_write(self) -> None:
        self._require_started()

    async def load(self) -> StoredState:
        self._require_started()
        return StoredState(
            entries=tuple(self._entries[row_id] for row_id in sorted(self._entries)),
            legs=tuple(self._legs[token] for token in sorted(self._legs)),
            atm=tuple(self._atm[key] for key in sorted(self._atm)),
            lists=tuple(self._lists.values()),
        )

    async def commit(self, changes: Changes) -> list[int]:
        self._require_started()
        if changes.once is not None and changes.once in self._marks:
            raise AlreadyExists(f"{changes.once} was done before")
        # Everything that may be refused is worked out on copies first: all or nothing.
        entries, added = self._entries_after(changes)
        legs = [replace(leg, subscribed_at=utc(leg.subscribed_at)) for leg in changes.legs]
        atm = [replace(row, cached_at=utc(row.cached_at)) for row in changes.atm]
        lines = [
            (with_id(line, self._last_audit_id + number), mark)
            for number, (line, mark) in enumerate(audit_lines(changes, self._clock.now()), start=1)
        ]
        for identity in changes.lists_removed:
            self._lists.pop(identity, None)
        self._lists.update(((row.user_id, row.name), row) for row in changes.lists)
        self._entries = entries
        self._last_entry_id += len(added)
        for token in changes.leg_tokens_removed:
            self._legs.pop(token, None)
        self._legs.update((leg.token, leg) for leg in legs)
        self._atm.update(((row.underlying_symbol, row.expiry, row.exchange), row) for row in atm)
        self._audit.extend(line for line, _ in lines)
        self._last_audit_id += len(lines)
        self._marks.update((mark, line.id) for line, mark in lines if mark is not None)
        return added

    async def was_done(self, once: str) -> bool:
        self._require_started()
        return once in self._marks

    async def audit(self, wanted: AuditFilter) -> list[AuditRow]:
        self._require_started()
        since = None if wanted.since is None else utc(wanted.since)
        found: list[AuditRow] = []
        for line in reversed(self._audit):
            if len(found) >= wanted.limit:
                break
            if _matches(line, wanted, since):
                found.append(line)
        return found

    async def prune_audit(self, before: datetime) -> int:
        self._require_started()
        moment = utc(before)
        marked = set(self._marks.values())
        kept = [line for line in self._audit if line.timestamp >= moment or line.id in marked]
        pruned = len(self._audit) - len(kept)
        self._audit = kept
        return pruned

    async def ensure_user(self, user_id: int) -> UserRow:
        self._require_started()
        known = self._users.get(user_id)
        if known is not None:
            return known
        check_user_id(user_id)
        return self._insert_user(user_id, auto_name(user_id), Role.USER, "")

    async def user_by_name(self, name: str) -> UserRow | None:
        self._require_started()
        return next((user for user in self._users.values() if user.name == name), None)

    async def user_by_id(self, user_id: int) -> UserRow | None:
        self._require_started()
        return self._users.get(user_id)

    async def users(self) -> list[UserRow]:
        self._require_started()
        return [self._users[user_id] for user_id in sorted(self._users)]

    async def add_user(self, name: str, role: Role, password_hash: str) -> UserRow:
        self._require_started()
        check_user_name(name)
        if await self.user_by_name(name) is not None:
            raise AlreadyExists(f"the name {name!r} is taken")
        return self._insert_user(max(self._users, default=0) + 1, name, role, password_hash)

    async def update_user(self, user: UserRow) -> None:
        self._require_started()
        known = self._users.get(user.id)
        if known is not None:
            self._users[user.id] = replace(
                known, role=user.role, password_hash=user.password_hash, token_version=user.token_version
            )

    def _require_started(self) -> None:
        if not self._started:
            raise StoreUnavailable("the store is not started")

    def _entries_after(self, changes: Changes) -> tuple[dict[int, EntryRow], list[int]]:
        entries = dict(self._entries)
        for row_id in changes.entries_removed:
            entries.pop(row_id, None)
        owners = {_identity(entry): row_id for row_id, entry in entries.items()}
        for entry in changes.entries_updated:
            if entry.id not in entries:
                continue
            if owners.get(_identity(entry), entry.id) != entry.id:
                raise AlreadyExists(f"{entry.symbol} is already in the list")
            del owners[_identity(entries[entry.id])]
            owners[_identity(entry)] = entry.id
            entries[entry.id] = _as_kept(entry, entry.id)
        added: list[int] = []
        for row_id, entry in enumerate(changes.entries_added, start=self._last_entry_id + 1):
            if _identity(entry) in owners:
                raise AlreadyExists(f"{entry.symbol} is already in the list")
            owners[_identity(entry)] = row_id
            entries[row_id] = _as_kept(entry, row_id)
            added.append(row_id)
        return entries, added

    def _insert_user(self, user_id: int, name: str, role: Role, password_hash: str) -> UserRow:
        user = UserRow(user_id, name, role, password_hash, utc(self._clock.now()))
        self._users[user_id] = user
        return user


def _identity(entry: EntryRow) -> _EntryIdentity:
    return entry.user_id, entry.list_name, entry.symbol, entry.expiry, entry.instrument_type


def _as_kept(entry: EntryRow, row_id: int) -> EntryRow:
    return replace(
        entry,
        id=row_id,
        added_at=utc(entry.added_at),
        last_used_at=utc(entry.last_used_at),
        state_at=None if entry.state_at is None else utc(entry.state_at),
    )


def _matches(line: AuditRow, wanted: AuditFilter, since: datetime | None) -> bool:
    return (
        (wanted.token is None or line.instrument_token == wanted.token)
        and (wanted.action is None or line.action is wanted.action)
        and (since is None or line.timestamp >= since)
        and (wanted.before_id is None or line.id < wanted.before_id)
    )
