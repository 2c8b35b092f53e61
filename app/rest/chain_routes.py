"""Endpoints 4 and 5: one option chain, shown and taken."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from starlette.responses import Response

from app.core.errors import (
    CapacityExceeded,
    ExpiryUnknown,
    InstrumentUnknown,
    NotEntitled,
    NotInWatchlist,
    SpotUnknown,
    StoreUnavailable,
)
from app.market.atm_engine import CachedWindow, ChainId, nearest
from app.rest import examples, limits, schemas
from app.rest.answers import JsonAnswer
from app.rest.audience import of_instruments
from app.rest.instrument_routes import ExchangeQuery, SymbolInPath
from app.rest.operations import Caller, Operation
from app.rest.records import evicted_records, missing_record, tokens
from app.rest.services import Services
from app.rest.users import require_user
from app.rest.windows import spot_for, taken_window, window_answer, with_spot

if TYPE_CHECKING:
    from app.rest.windows import Spot

ExpiryQuery = Annotated[
    str,
    Query(min_length=1, max_length=limits.EXPIRY_CHARS_MAX, description="`26FEB2026`, `26-FEB-2026` or `2026-02-26`"),
]
LtpQuery = Annotated[
    float | None,
    Query(gt=0, le=limits.PRICE_MAX, allow_inf_nan=False, description="rupees; wins over the feed for this request"),
]
QuotesQuery = Annotated[bool, Query(description="also live rows, the chain's summary and its coverage")]


class ChainRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        return [
            Operation(
                5, "POST", "/option-chain/subscribe", self.subscribe_chain, schemas.ChainSubscribed,
                "Take or release a chain outside any watchlist", examples.CHAIN_SUBSCRIBED,
                (InstrumentUnknown, ExpiryUnknown, NotInWatchlist, SpotUnknown, CapacityExceeded,
                 NotEntitled, StoreUnavailable),
                request=examples.CHAIN_REQUEST,
            ),
            Operation(
                4, "GET", "/option-chain/{symbol}", self.option_chain, schemas.OptionChain,
                "The strikes around spot; subscribes nothing", examples.CHAIN,
                (InstrumentUnknown, ExpiryUnknown, SpotUnknown, NotEntitled),
                query="/option-chain/RELIANCE?expiry=26FEB2026&underlying_ltp=2641.5",
            ),
        ]  # fmt: skip

    async def option_chain(
        self,
        caller: Caller,
        symbol: SymbolInPath,
        expiry: ExpiryQuery,
        underlying_ltp: LtpQuery = None,
        quotes: QuotesQuery = False,
        exchange: ExchangeQuery = None,
    ) -> Response:
        """The subscribed window where there is one, else the window around the underlying's price."""
        chain = self._services.atm.chain_id(symbol, expiry, exchange)
        self._services.audience.show(caller, self._services.audience.shown.of_chain(chain))
        spot = await with_spot(self._services, partial(self._spot_for, chain, underlying_ltp))
        window = self._window(chain, spot)
        self._services.watchlists.touch_opened(chain)
        answer = {**window_answer(self._services, window, spot), "rows": None, "summary": None, "coverage": None}
        if quotes:
            answer.update(self._services.chain_quotes(window, spot.ltp, spot.source))
        return JsonAnswer(answer)

    async def _spot_for(self, chain: ChainId, given: float | None) -> Spot:
        return spot_for(self._services, chain, given)

    def _window(self, chain: ChainId, spot: Spot) -> CachedWindow:
        atm = self._services.atm
        if spot.source != "request":
            return atm.window(chain) or atm.look(chain, spot.ltp)
        cached = atm.look(chain, spot.ltp)
        is_centred = nearest(cached.ladder.strikes, spot.ltp) == cached.window.atm
        return cached if is_centred else atm.preview(chain, spot.ltp)

    async def subscribe_chain(self, caller: Caller, body: schemas.ChainRequest) -> Response:
        """The caller's *explicit* entry: Tier A, evictable, gone at end of day."""
        user_id = body.user_id or caller.user_id
        role = await require_user(self._services, caller, user_id, f"{body.action} {body.symbol}")
        reader = replace(caller, user_id=user_id, role=role)
        if body.action == "release":
            result = await self._services.watchlists.release_chain(
                user_id, body.symbol, body.expiry, exchange=body.exchange
            )
        else:
            subscribe = partial(
                self._services.watchlists.subscribe_chain,
                user_id,
                body.symbol,
                body.expiry,
                body.underlying_ltp,
                exchange=body.exchange,
                permit=lambda shown: self._services.audience.show(reader, of_instruments(shown)),
            )
            result = await with_spot(self._services, subscribe)
        return JsonAnswer(
            {
                "action": body.action,
                "message": result.message,
                "subscribed": tokens(result.subscribed),
                "failed": [missing_record(leg) for leg in result.failed],
                "total_subscribed": len(result.subscribed),
                "released": result.released,
                "evicted": evicted_records(result.evicted),
                "option_chain": taken_window(self._services, result.window, body.underlying_ltp),
                "revision": result.revision,
            }
        )
