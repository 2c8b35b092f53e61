"""Endpoints 1 to 3: lists of wishes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response

from app.core.errors import (
    AlreadyInWatchlist,
    CapacityExceeded,
    ExpiryUnknown,
    InstrumentUnknown,
    ListLimit,
    ListUnknown,
    NotEntitled,
    NotInWatchlist,
    SpotUnknown,
    StoreUnavailable,
)
from app.ports.store import USER_ID_MAX
from app.rest import examples, limits, schemas
from app.rest.answers import JsonAnswer
from app.rest.audience import of_instruments
from app.rest.operations import Caller, Operation
from app.rest.records import entry_record, evicted_records, missing_record
from app.rest.services import Services
from app.rest.users import require_user
from app.rest.windows import taken_window, with_spot

UserInPath = Annotated[int, Path(ge=1, le=USER_ID_MAX, description="`users.id`", examples=[1])]


ListQuery = Annotated[str | None, Query(alias="list", min_length=1, max_length=limits.LIST_NAME_CHARS_MAX)]


class WatchlistRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        return [
            Operation(
                1, "POST", "/watchlist/add", self.add_to_watchlist, schemas.Added,
                "Add a chain, a future or a cash line; its instruments are subscribed", examples.ADDED,
                (
                    InstrumentUnknown, ExpiryUnknown, ListUnknown, AlreadyInWatchlist, ListLimit, CapacityExceeded,
                    SpotUnknown, NotEntitled, StoreUnavailable,
                ),
                request=examples.ADD_REQUEST,
            ),
            Operation(
                2, "POST", "/watchlist/remove", self.remove_from_watchlist, schemas.Removed,
                "Remove an entry; what nobody else wants is unsubscribed", examples.REMOVED,
                (InstrumentUnknown, ExpiryUnknown, ListUnknown, NotInWatchlist, StoreUnavailable),
                request=examples.REMOVE_REQUEST,
            ),
            Operation(
                3, "GET", "/watchlist/{user_id}", self.watchlist, schemas.Watchlist,
                "A user's entries, list by list in their order", examples.WATCHLIST, (ListUnknown,),
                query="/watchlist/1",
            ),
        ]  # fmt: skip

    async def add_to_watchlist(self, caller: Caller, body: schemas.AddRequest) -> Response:
        role = await require_user(self._services, caller, body.user_id, f"add {body.symbol}")
        reader = replace(caller, user_id=body.user_id, role=role)
        add = partial(
            self._services.watchlists.add,
            body.user_id,
            body.symbol,
            body.expiry,
            body.instrument_type,
            body.underlying_ltp,
            exchange=body.exchange,
            list_name=body.list,
            permit=lambda shown: self._services.audience.show(reader, of_instruments(shown)),
        )
        result = await with_spot(self._services, add)
        return JsonAnswer(
            {
                "success": True,
                "message": result.message,
                "option_chain": taken_window(self._services, result.window, body.underlying_ltp),
                "strikes_subscribed": result.strikes_subscribed,
                "missing": [missing_record(leg) for leg in result.missing],
                "evicted": evicted_records(result.evicted),
                "revision": result.revision,
                "entry": entry_record(result.entry, self._services.calendar.zone),
            }
        )

    async def remove_from_watchlist(self, caller: Caller, body: schemas.RemoveRequest) -> Response:
        await require_user(self._services, caller, body.user_id, f"remove {body.symbol}")
        result = await self._services.watchlists.remove(
            body.user_id, body.symbol, body.expiry, list_name=body.list, entry_id=body.id
        )
        return JsonAnswer(
            {
                "success": True,
                "message": result.message,
                "unsubscribed": result.unsubscribed,
                "revision": result.revision,
            }
        )

    async def watchlist(self, caller: Caller, user_id: UserInPath, list_name: ListQuery = None) -> Response:
        """All lists, or the one that `list` names."""
        caller.require_act_for(user_id)
        zone = self._services.calendar.zone
        entries = [entry_record(entry, zone) for entry in self._services.watchlists.entries(user_id, list_name)]
        return JsonAnswer({"user_id": user_id, "count": len(entries), "watchlist": entries})
