"""What a client was told, and whether the database still says so: the other side of *durable before answered*."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Connection, func, select

from app.core.ids import OptionType, Tier, format_expiry
from app.ports.store import EntryRow, EntryState, InstrumentType, LegRow
from app.storage.engine import database_url, open_engines
from app.storage.models import subscription_log
from app.storage.reads import stored_state
from tests.tiny_market import NO_PUT_AT, STOCKS

WINDOW = 25
ARRIVALS = ("SUBSCRIBE", "RESTORE")

Wish = tuple[str, str, str]
"""Symbol, expiry as the API writes it, instrument type."""


@dataclass(slots=True)
class Ledger:
    """One user's list as its answers tell it. A wish in ``open`` was asked about and never answered.

    ``past`` is what the list was after each answer, oldest first.
    """

    user_id: int
    held: set[Wish] = field(default_factory=set)
    open: set[Wish] = field(default_factory=set)
    answered: Counter[str] = field(default_factory=Counter)
    evicted_legs: int = 0
    past: list[frozenset[Wish]] = field(default_factory=lambda: [frozenset()])

    def settle(self, stored: set[Wish]) -> Iterator[str]:
        """What is wrong with the stored list; then the stored list is what is known."""
        for wish in sorted(self.held - stored - self.open):
            yield f"user {self.user_id}: {wish} was answered and is lost"
        for wish in sorted(stored - self.held - self.open):
            yield f"user {self.user_id}: {wish} was refused or removed and is kept"
        self.held, self.open = set(stored), set()


@dataclass(frozen=True, slots=True)
class Tables:
    """One look into the database, of one moment."""

    entries: tuple[EntryRow, ...]
    legs: tuple[LegRow, ...]
    last_line: dict[str, str]  # token -> action of its newest line in the log
    lines: Counter[str]  # by action
    marks: Counter[str]

    def wishes(self, user_id: int) -> list[Wish]:
        return [_wish(row) for row in self.entries if row.user_id == user_id]


def read_tables(url: str) -> Tables:
    """Read the database past the service."""
    return asyncio.run(_read(url))


async def _read(url: str) -> Tables:
    engines = open_engines(database_url(url))
    try:
        return await engines.reader.run(_tables)
    finally:
        await engines.dispose()


def _tables(connection: Connection) -> Tables:
    log = subscription_log.c
    newest = select(func.max(log.id)).group_by(log.instrument_token)
    state = stored_state(connection)
    last = connection.execute(select(log.instrument_token, log.action).where(log.id.in_(newest)))
    lines = connection.execute(select(log.action, func.count()).group_by(log.action))
    marks = connection.execute(select(log.once).where(log.once.is_not(None)))
    return Tables(
        state.entries,
        state.legs,
        {row.instrument_token: row.action for row in last},
        Counter({row.action: row[1] for row in lines}),
        Counter(mark for (mark,) in marks),
    )


def _wish(row: EntryRow) -> Wish:
    return row.symbol, "" if row.expiry is None else format_expiry(row.expiry), str(row.instrument_type)


def expected_tokens(row: EntryRow) -> set[str]:
    """The instruments that an active entry stands for, by the lines of the master alone."""
    if row.instrument_type is InstrumentType.EQUITY:
        return {f"{row.symbol}_EQ"}
    assert row.expiry is not None
    stem = f"{row.symbol}_{format_expiry(row.expiry)}"
    if row.instrument_type is InstrumentType.FUTURE:
        return {f"{stem}_FUT"}
    assert row.centre is not None
    _, spot, step, count = STOCKS[row.symbol]
    strikes = [spot - step * (count // 2) + number * step for number in range(count)]
    first = min(max(0, strikes.index(row.centre) - WINDOW // 2), max(0, count - WINDOW))
    return {
        f"{stem}_{strike:g}{side}"
        for strike in strikes[first : first + WINDOW]
        for side in OptionType
        if (row.symbol, strike, side) != ("RELIANCE", NO_PUT_AT, OptionType.PE)
    }


def wrong_at_once(tables: Tables, ledgers: list[Ledger]) -> Iterator[str]:
    """What must hold in the database in the very moment after a kill."""
    tokens = [leg.token for leg in tables.legs]
    if len(tokens) != len(set(tokens)):
        yield "an instrument has two rows"
    for ledger in ledgers:
        stored = tables.wishes(ledger.user_id)
        if len(stored) != len(set(stored)):
            yield f"user {ledger.user_id}: an entry is stored twice"
        yield from ledger.settle(set(stored))
    told = sum(ledger.evicted_legs for ledger in ledgers)
    if tables.lines["RATE_LIMIT_EVICT"] < told:
        yield f"{told} legs were told evicted, the log has {tables.lines['RATE_LIMIT_EVICT']}"
    if repeated := [mark for mark, count in tables.marks.items() if count > 1]:
        yield f"done twice: {repeated}"


def wrong_when_settled(tables: Tables) -> Iterator[str]:
    """What must come true once the service is up again: each row has an owner, each owner its rows, the log agrees."""
    owned: set[str] = set()
    for row in tables.entries:
        if row.state is EntryState.ACTIVE:
            owned |= expected_tokens(row)
    in_tier_b = {leg.token for leg in tables.legs if leg.tier is Tier.B}
    in_tier_a = {leg.token for leg in tables.legs if leg.tier is Tier.A}
    if orphans := in_tier_a - owned:
        yield f"{len(orphans)} rows without an owner, such as {min(orphans)}"
    if missing := owned - in_tier_a - in_tier_b:
        yield f"{len(missing)} owned instruments without a row, such as {min(missing)}"
    stored = in_tier_a | in_tier_b
    log_says = {token for token, action in tables.last_line.items() if action in ARRIVALS}
    if odd := stored ^ log_says:
        yield f"the log and the rows disagree on {len(odd)} instruments, such as {min(odd)}"


def day_of(number: int) -> date:
    """The simulated day of a round: a new one begins with an end of day."""
    return date.fromordinal(date(2026, 2, 3).toordinal() + number)
