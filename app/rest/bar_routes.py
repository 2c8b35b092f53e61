"""The session's one-minute bars of an underlying and of one of its chains."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import Query
from starlette.responses import Response

from app.core.errors import ExpiryUnknown, InstrumentUnknown, NotEntitled
from app.core.ids import format_expiry
from app.rest import examples, limits, more_schemas
from app.rest.answers import JsonAnswer
from app.rest.audience import of_instruments
from app.rest.instrument_routes import ExchangeQuery, SymbolInPath
from app.rest.operations import Caller, Operation
from app.rest.services import Services
from app.stream.minute_bars import AGGREGATES, MINUTE_MS, PRICES, Cells, ChainName, MinuteSeries

ExpiryIn = Annotated[
    str | None, Query(min_length=1, max_length=limits.EXPIRY_CHARS_MAX, description="of the chain; none: prices only")
]
SinceQuery = Annotated[int | None, Query(ge=0, le=2**53, description="epoch ms UTC; minutes from then on")]


class BarRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        return [
            Operation(
                0, "GET", "/bars/{symbol}", self.bars, more_schemas.Bars,
                "One-minute bars of the session; unknown minutes are null", examples.BARS,
                (InstrumentUnknown, ExpiryUnknown, NotEntitled), query="/bars/RELIANCE?expiry=26FEB2026", is_users=True,
            )
        ]  # fmt: skip

    async def bars(
        self,
        caller: Caller,
        symbol: SymbolInPath,
        expiry: ExpiryIn = None,
        since_ms: SinceQuery = None,
        exchange: ExchangeQuery = None,
    ) -> Response:
        """Of the last session until the next one begins. The last minute may still run (`partial`). Open interest
        above 16 million is rounded to its first seven digits."""
        services = self._services
        chain = None if expiry is None else services.atm.chain_id(symbol, expiry, exchange)
        name = services.registry.resolve_symbol(symbol) if chain is None else chain.symbol
        day, where = (chain.expiry, str(chain.exchange)) if chain else (None, exchange)
        spot = services.registry.spot_of(name, day, where)
        if spot is None:
            raise InstrumentUnknown(f"{name} has no underlying that trades", symbol=name)
        of_chain = services.audience.shown.of_chain(chain) if chain else frozenset()
        services.audience.show(caller, of_chain | of_instruments([spot]))
        series = services.bars.spots.get(spot.token)
        answer: dict[str, object] = {
            "symbol": name,
            "underlying": spot.token,
            "exchange": str(spot.exchange),
            "expiry": format_expiry(chain.expiry) if chain else None,
            "interval_ms": MINUTE_MS,
            **self._prices(series, since_ms),
        }
        if chain is not None:
            told = ChainName(chain.symbol, format_expiry(chain.expiry), str(chain.exchange))
            answer["chain"] = _aligned(services.bars.chains.get(told), series, since_ms)
        return JsonAnswer(answer)

    def _prices(self, series: MinuteSeries | None, since_ms: int | None) -> dict[str, object]:
        if series is None:
            empty: dict[str, object] = {name: [] for name in PRICES}
            return {"day": None, "start_ms": 0, "count": 0, "partial": False, **empty, "chain": None}
        start_ms, cells = series.since(since_ms)
        end_ms = start_ms + len(cells) * MINUTE_MS
        return {
            "day": series.day,
            "start_ms": start_ms,
            "count": len(cells),
            "partial": len(cells) > 0 and self._services.clock.now_ms() < end_ms,
            **_columns(PRICES, cells),
            "chain": None,
        }


def _columns(names: tuple[str, ...], cells: Cells) -> dict[str, object]:
    """Unknown is null. Values of the board's ticks come through a float32: two places of them are exact enough."""
    columns = np.round(cells.astype(np.float64), 2).T  # the encoder writes what is not a number as null
    return {name: column.tolist() for name, column in zip(names, columns, strict=True)}


def _aligned(chain: MinuteSeries | None, prices: MinuteSeries | None, since_ms: int | None) -> dict[str, object]:
    """A chain's columns over the very minutes of its underlying's prices."""
    if prices is None:
        return {name: [] for name in AGGREGATES}
    start_ms, cells = prices.since(since_ms)
    laid = np.full((len(cells), len(AGGREGATES)), np.nan, dtype=np.float32)
    if chain is not None and chain.day == prices.day:
        first_ms, held = chain.since(None)
        places = (first_ms - start_ms) // MINUTE_MS + np.arange(len(held))
        fits = (places >= 0) & (places < len(cells))
        laid[places[fits]] = held[fits]
    return _columns(AGGREGATES, laid)
