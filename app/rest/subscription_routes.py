"""Endpoints 6 to 9: what is subscribed, what was, and why an instrument shows what it shows."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

from fastapi import Path, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from app.core.errors import ExpiryUnknown, InstrumentUnknown, InvalidRequest, NotEntitled, StoreUnavailable
from app.core.ids import Tier, format_expiry
from app.core.instruments import Instrument
from app.ports.store import AuditAction, AuditFilter, AuditRow
from app.rest import examples, limits, schemas
from app.rest.answers import JsonAnswer, encode, join_objects
from app.rest.audience import of_instruments
from app.rest.csv_answers import CsvAnswer, csv_answer
from app.rest.cursors import read_number_cursor, write_cursor
from app.rest.operations import Caller, Operation
from app.rest.services import Services

if TYPE_CHECKING:
    from app.market.wishes import Wish

TierName = Annotated[Tier | None, Query(description="`TIER_A` or `TIER_B`")]
SymbolQuery = Annotated[str | None, Query(min_length=1, max_length=limits.SYMBOL_CHARS_MAX)]
Cursor = Annotated[str | None, Query(max_length=limits.CURSOR_CHARS_MAX, description="`next` of the answer before")]
ActiveLimit = Annotated[int | None, Query(ge=1, le=limits.ACTIVE_PAGE_MAX, description="rows a page; all if left out")]
LogLimit = Annotated[int, Query(ge=1, le=limits.PAGE_MAX)]
TokenQuery = Annotated[str | None, Query(min_length=1, max_length=limits.TOKEN_CHARS_MAX)]
TokenInPath = Annotated[
    str,
    Path(min_length=1, max_length=limits.TOKEN_CHARS_MAX, description="`RELIANCE_26FEB2026_2640CE`, `NSE_FNO:47317`"),
]


def _moment(told: object) -> object:
    """Only ISO-8601: a bare number would be taken for epoch seconds. A plus not written %2B arrives as a blank."""
    if isinstance(told, str):
        if "T" not in told:
            raise ValueError("a moment such as 2026-02-03T09:15:00+05:30")
        return told.replace(" ", "+")
    return told


Since = Annotated[
    datetime | None,
    BeforeValidator(_moment),
    Query(description="ISO-8601 with offset; lines from then on"),
]


EXPORTED = (
    "token", "symbol", "expiry", "strike", "option_type", "tier", "state", "ws_id", "owners", "subscribed_at",
)  # fmt: skip


class SubscriptionRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        get = "GET"
        return [
            Operation(
                6, get, "/subscriptions/status", self.subscription_status, schemas.Status,
                "Counts, states and connections", examples.STATUS,
            ),
            Operation(
                7, get, "/subscriptions/active", self.active_subscriptions, schemas.ActiveSubscriptions,
                "Every subscribed instrument", examples.ACTIVE, (InstrumentUnknown,),
                query="/subscriptions/active?tier=TIER_A&symbol=RELIANCE&limit=1",
            ),
            Operation(
                8, get, "/subscriptions/log", self.subscription_log, schemas.SubscriptionLog,
                "The audit trail, newest first", examples.LOG, (StoreUnavailable,),
                query="/subscriptions/log?action=SUBSCRIBE&limit=1",
            ),
            Operation(
                0, get, "/subscriptions/export.csv", self.export_subscriptions, None,
                "Every subscribed instrument as CSV", examples.EXPORT, (InstrumentUnknown,),
                query="/subscriptions/export.csv?tier=TIER_A&symbol=RELIANCE", is_users=True, answer_class=CsvAnswer,
            ),
            Operation(
                9, get, "/subscriptions/{token}", self.subscription, schemas.SubscriptionDetail,
                "One instrument, and why it shows what it shows", examples.DETAIL,
                (InstrumentUnknown, ExpiryUnknown, NotEntitled, StoreUnavailable),
                query="/subscriptions/RELIANCE_26FEB2026_2640CE",
            ),
        ]  # fmt: skip

    async def subscription_status(self) -> Response:
        return JsonAnswer(self._services.status.status())

    async def active_subscriptions(
        self,
        tier: TierName = None,
        symbol: SymbolQuery = None,
        limit: ActiveLimit = None,
        cursor: Cursor = None,
    ) -> Response:
        """In the order in which they were wished. Without `limit` all of them; with it, `next` leads on."""
        after = 0 if cursor is None else read_number_cursor("active", cursor)
        wanted = self._listed(tier, symbol)
        page = wanted[bisect_right(wanted, after, key=attrgetter("number")) :]
        head: dict[str, object] = {"tier": tier, "count": len(page)}
        if limit is not None:
            rest = len(page) > limit
            page = page[:limit]
            following = write_cursor("active", str(page[-1].number)) if rest else None
            head |= {"count": len(page), "total": len(wanted), "next": following}
        return JsonAnswer(join_objects(head, "subscriptions", await self._rows(page)))

    async def export_subscriptions(self, tier: TierName = None, symbol: SymbolQuery = None) -> Response:
        """Sent as it is written; states are those of the moment at which a line was written."""
        return csv_answer("subscriptions.csv", EXPORTED, self._lines(self._listed(tier, symbol)))

    async def _lines(self, wishes: Sequence[Wish]) -> AsyncIterator[list[list[object]]]:
        async for rows in self._runs(wishes):
            yield [[row[name] for name in EXPORTED] for row in rows]

    def _listed(self, tier: Tier | None, symbol: str | None) -> Sequence[Wish]:
        name = None if symbol is None else self._services.registry.resolve_symbol(symbol)
        return self._services.subscriptions.listed(tier, name)

    async def _rows(self, wishes: Sequence[Wish]) -> list[bytes]:
        """Encoded rows."""
        return [encode(rows)[1:-1] async for rows in self._runs(wishes)]

    async def _runs(self, wishes: Sequence[Wish]) -> AsyncIterator[list[dict[str, object]]]:
        """Rows, a run of them at a time: 25,000 take long enough to hold up ticks."""
        for start in range(0, len(wishes), limits.ROWS_PER_SLICE):
            part = wishes[start : start + limits.ROWS_PER_SLICE]
            states = self._services.states.names([wish.instrument for wish in part])
            rows = list(self._services.subscriptions.records(part))
            for row, state in zip(rows, states, strict=True):
                row["state"] = state
            yield rows
            await asyncio.sleep(0)

    async def subscription_log(
        self,
        token: TokenQuery = None,
        action: Annotated[AuditAction | None, Query()] = None,
        since: Since = None,
        limit: LogLimit = limits.PAGE_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        if since is not None and since.tzinfo is None:
            raise InvalidRequest("since: needs an offset, such as 2026-02-03T09:15:00+05:30", field="since")
        before_id = None if cursor is None else read_number_cursor("log", cursor)
        wanted = AuditFilter(self._full_token(token), action, since, before_id, limit + 1)
        lines = await self._services.store.audit(wanted)
        following = write_cursor("log", str(lines[limit - 1].id)) if len(lines) > limit else None
        log = [_log_line(line, self._services) for line in lines[:limit]]
        return JsonAnswer({"count": len(log), "next": following, "log": log})

    def _full_token(self, token: str | None) -> str | None:
        """What the log calls it: the master's own spelling where the token is listed, else as it was given."""
        try:
            return None if token is None else self._services.registry.by_token(token).token
        except InstrumentUnknown:
            return token

    async def subscription(self, caller: Caller, token: TokenInPath) -> Response:
        instrument = self._services.registry.by_token(token)
        self._services.audience.show(caller, of_instruments([instrument]))
        wish = self._services.subscriptions.wish(instrument.key)
        state = self._services.states.of(instrument)
        details: Mapping[str, object] = (
            _listed(instrument) if wish is None else self._services.subscriptions.record(wish)
        )
        return JsonAnswer(
            {
                "token": instrument.token,
                "details": {**details, **_prices(self._services, instrument), "state": state},
                "why": self._services.states.why(instrument, await self._last_event(instrument, wish is None)),
            }
        )

    async def _last_event(self, instrument: Instrument, is_gone: bool) -> str:
        """What the audit trail last said of an instrument that nobody owns now."""
        if not is_gone:
            return ""
        lines = await self._services.store.audit(AuditFilter(token=instrument.token, limit=1))
        if not lines:
            return "it was never subscribed"
        at = lines[0].timestamp.astimezone(self._services.calendar.zone)
        return f"last in the log: {lines[0].action} at {at:%d %b %H:%M:%S}, {lines[0].reason}"


def _log_line(line: AuditRow, services: Services) -> dict[str, object]:
    return {
        "id": line.id,
        "action": line.action,
        "instrument_token": line.instrument_token,
        "reason": line.reason,
        "timestamp": line.timestamp.astimezone(services.calendar.zone),
    }


def _listed(instrument: Instrument) -> dict[str, object]:
    """What the master says of an instrument that nobody subscribed."""
    return {
        "token": instrument.token,
        "segment": instrument.key.segment.name,
        "security_id": instrument.key.security_id,
        "symbol": instrument.symbol,
        "expiry": None if instrument.expiry is None else format_expiry(instrument.expiry),
        "strike": instrument.strike,
        "option_type": instrument.option_type,
        "tier": None,
        "subscribed_at": None,
        "ws_id": None,
        "active": False,
        "owners": 0,
    }


def _prices(services: Services, instrument: Instrument) -> dict[str, object]:
    seen_ms = services.board.last_seen_ms(instrument.key)
    return {
        "key": str(instrument.key),
        "name": instrument.name,
        "lot_size": instrument.lot_size,
        "tick": instrument.tick,
        **services.registry.trading_limits(instrument.key)._asdict(),
        "ltp": services.board.last_price(instrument.key),
        "age_ms": None if seen_ms is None else max(0, services.clock.now_ms() - seen_ms),
    }
