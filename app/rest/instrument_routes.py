"""Endpoints 10 to 12: what is listed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response

from app.core.errors import InstrumentUnknown
from app.core.ids import format_expiry
from app.rest import examples, limits, schemas
from app.rest.answers import JsonAnswer
from app.rest.operations import Operation
from app.rest.services import Services

SymbolInPath = Annotated[
    str, Path(min_length=1, max_length=limits.SYMBOL_CHARS_MAX, description="`RELIANCE`, `M%26M`, `NIFTY 50`")
]
ExchangeQuery = Annotated[schemas.ExchangeName | None, Query()]


class InstrumentRoutes:
    def __init__(self, services: Services) -> None:
        self._registry = services.registry

    def operations(self) -> list[Operation]:
        get = "GET"
        return [
            Operation(
                10, get, "/instruments/search", self.search_instruments, schemas.SearchResults,
                "Find symbols and contracts by free text", examples.SEARCH,
                query="/instruments/search?q=REL&limit=1",
            ),
            Operation(
                12, get, "/instruments/{symbol}/expiries", self.expiries, schemas.Expiries,
                "Expiries of a symbol's options, in date order", examples.EXPIRIES, (InstrumentUnknown,),
                query="/instruments/RELIANCE/expiries",
            ),
            Operation(
                11, get, "/instruments/{symbol}", self.instrument, schemas.InstrumentInfo,
                "Lot size, tick, strike step, segments, eligibility", examples.INSTRUMENT, (InstrumentUnknown,),
                query="/instruments/RELIANCE",
            ),
        ]  # fmt: skip

    async def search_instruments(
        self,
        q: Annotated[str, Query(min_length=1, max_length=limits.QUERY_CHARS_MAX, description="`nifty 25000 ce`")],
        limit: Annotated[int, Query(ge=1, le=limits.SEARCH_MAX)] = limits.SEARCH_DEFAULT,
    ) -> Response:
        hits = self._registry.search(q, limit)
        results = [
            {
                "symbol": hit.symbol,
                "count": hit.count,
                "f_o_eligible": hit.f_o_eligible,
                "name": hit.name,
                "match": hit.match,
                "token": hit.token,
                "expiry": None if hit.expiry is None else format_expiry(hit.expiry),
            }
            for hit in hits
        ]
        return JsonAnswer({"query": q, "count": len(results), "results": results})

    async def instrument(self, symbol: SymbolInPath) -> Response:
        info = self._registry.describe(symbol)
        return JsonAnswer(
            {
                "symbol": info.symbol,
                "name": info.name,
                "exchange": info.exchange,
                "lot_size": info.lot_size,
                "tick": info.tick,
                "strike_step": info.strike_step,
                "segments": info.segments,
                "f_o_eligible": info.f_o_eligible,
                "nearest_future": info.nearest_future,
                "nearest_expiry": None if info.nearest_expiry is None else format_expiry(info.nearest_expiry),
                "count": info.count,
            }
        )

    async def expiries(self, symbol: SymbolInPath, exchange: ExchangeQuery = None) -> Response:
        """Of the symbol's primary exchange unless `exchange` asks for another."""
        name = self._registry.resolve_symbol(symbol)
        days = [format_expiry(day) for day in self._registry.expiries(name, exchange)]
        return JsonAnswer({"symbol": name, "expiries": days, "count": len(days)})
