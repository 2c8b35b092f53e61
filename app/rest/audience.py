"""Who may see prices of which exchange segment, and who has: data is licensed by segment, to counted viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Protocol

import structlog

from app.core.errors import NotEntitled, StoreUnavailable
from app.core.ids import Segment
from app.core.instruments import Instrument
from app.market.atm_engine import ATMEngine, ChainId
from app.market.instrument_master.registry import InstrumentRegistry
from app.ports.access import ViewerRow
from app.ports.store import Role, Store
from app.rest import limits
from app.rest.auth import Principal
from app.stream.topics import Kind, Topic

WRITE_S = 5.0
Segments = frozenset[Segment]
ListRows = Callable[[int, str | None], Mapping[str, Instrument]]


class Entitlement(Protocol):
    """Decides what a user may see; ``core.entitlement.SegmentRules`` is one."""

    def segments_of(self, user_id: int, role: str) -> Segments: ...


class Shown:
    """Which segments' prices something shows: a chain those of its options and of its underlying."""

    def __init__(self, registry: InstrumentRegistry, engine: ATMEngine, list_rows: ListRows) -> None:
        self._registry = registry
        self._engine = engine
        self._list_rows = list_rows

    def of_chain(self, chain: ChainId) -> Segments:
        ladder = self._registry.ladder(chain.symbol, chain.expiry, str(chain.exchange))
        spot = self._registry.spot_of(chain.symbol, chain.expiry, str(chain.exchange))
        legs = {key.segment for key in (*ladder.ce, *ladder.pe) if key is not None}
        return frozenset(legs if spot is None else legs | {spot.key.segment})

    def of_topic(self, topic: Topic) -> Segments:
        """Raises as opening the topic would."""
        if topic.kind is Kind.CHAIN:
            assert topic.expiry is not None
            where = str(topic.exchange) if topic.exchange else None
            return self.of_chain(self._engine.chain_id(topic.symbol, topic.expiry, where))
        if topic.kind is Kind.WATCHLIST:
            return of_instruments(self._list_rows(topic.user_id, topic.list_name).values())
        return of_instruments(self._registry.by_token(token) for token in topic.tokens)


def of_instruments(instruments: Iterable[Instrument]) -> Segments:
    return frozenset(each.key.segment for each in instruments)


class Audience:
    """Judges and counts viewers. OWNS those of today that the store does not know yet.

    ``today`` is the exchanges' day.
    """

    def __init__(self, entitlement: Entitlement, shown: Shown, store: Store, today: Callable[[], date]) -> None:
        self._entitlement = entitlement
        self.shown = shown
        self._store = store
        self._today = today
        self._seen: set[ViewerRow] = set()
        self._unwritten: dict[ViewerRow, None] = {}
        self.lost = 0  # rows above the limit

    def require(self, user_id: int, role: Role, segments: Segments) -> None:
        """Raises ``NotEntitled`` unless that user may see prices of all the segments."""
        missing = segments - self._entitlement.segments_of(user_id, role)
        if missing:
            names = sorted(segment.name for segment in missing)
            raise NotEntitled(f"user {user_id} may not see prices of {', '.join(names)}", segments=names)

    def show(self, caller: Principal, segments: Segments) -> None:
        """The caller is shown prices of these segments now: :meth:`require`, and count it."""
        self.require(caller.user_id, caller.role, segments)
        self._note(caller.user_id, caller.address, segments)

    # -- the stream's side: ``stream.hub.Audience``

    def require_topic(self, topic: Topic, user_id: int, *, is_admin: bool) -> None:
        """Raises ``NotEntitled``."""
        self.require(user_id, Role.ADMIN if is_admin else Role.USER, self.shown.of_topic(topic))

    def saw(self, topic: Topic, user_id: int, address: str) -> None:
        """A client watches the topic from now on."""
        self._note(user_id, address, self.shown.of_topic(topic))

    # -- for the reports

    async def run(self) -> None:
        """Write what is not written, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is not written; what cannot be is kept for the next time."""
        rows = list(self._unwritten)
        if not rows:
            return
        try:
            await self._store.note_viewers(rows)
        except StoreUnavailable as error:
            structlog.get_logger().warning("viewers not written yet", count=len(rows), reason=error.detail)
            return
        for row in rows:
            self._unwritten.pop(row, None)

    def _note(self, user_id: int, address: str, segments: Segments) -> None:
        day = self._today()
        for segment in segments:
            row = ViewerRow(day, segment.name, user_id, address)
            if row in self._seen:
                continue
            if len(self._unwritten) >= limits.VIEWERS_UNWRITTEN_MAX:
                self.lost += 1
                continue
            if len(self._seen) >= limits.VIEWERS_UNWRITTEN_MAX:  # of days gone by, too: the store knows them
                self._seen.clear()
            self._seen.add(row)
            self._unwritten[row] = None
