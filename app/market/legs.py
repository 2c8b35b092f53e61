"""From words to instruments: what a wish for a symbol comes to. Reads registry, windows and spots; changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Protocol

from app.core.errors import ExpiryUnknown, InstrumentUnknown, InvalidRequest, SpotUnknown
from app.core.ids import Exchange, InstrumentKey, OptionType, format_expiry, parse_expiry
from app.core.instruments import Instrument
from app.market.atm_engine import INDEX_STRIKES, STOCK_STRIKES, ATMEngine, CachedWindow, ChainId, LadderLike
from app.market.entries import MissingLeg, Wanted
from app.market.eviction import ChainKey
from app.ports.store import InstrumentType

STRIKES_OF = {
    InstrumentType.STOCK_OPTION: STOCK_STRIKES,
    InstrumentType.INDEX_OPTION: INDEX_STRIKES,
    InstrumentType.COMMODITY_OPTION: INDEX_STRIKES,
}
NOT_LISTED = "not listed"


class Universe(Protocol):
    """The part of the instrument registry that wishes need."""

    @property
    def revision(self) -> int: ...
    def get_all(self, keys: Sequence[InstrumentKey]) -> list[Instrument | None]: ...
    def resolve_symbol(self, text: str) -> str: ...
    def expiries(self, symbol: str, exchange: str | None = None) -> list[date]: ...
    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> LadderLike: ...
    def futures(self, symbol: str, exchange: str | None = None) -> list[Instrument]: ...
    def cash(self, symbol: str, exchange: str | None = None) -> Instrument | None: ...
    def index(self, symbol: str) -> Instrument | None: ...
    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None: ...


class Spots(Protocol):
    """The part of the board that windows need."""

    def last_price(self, key: InstrumentKey) -> float | None: ...


class LegFinder:
    """Resolves wishes, new and stored alike."""

    def __init__(self, universe: Universe, engine: ATMEngine, spots: Spots) -> None:
        self._universe = universe
        self._engine = engine
        self._spots = spots

    def chain(
        self, symbol: str, expiry: str | date | None, instrument_type: InstrumentType, exchange: str | None = None
    ) -> ChainKey:
        """What a request names, priced or not. A cash line has no expiry: one is ignored.

        Raises:
            InstrumentUnknown, ExpiryUnknown: not listed.
            InvalidRequest: the type does not fit the symbol.
        """
        name = self._universe.resolve_symbol(symbol)
        if instrument_type is InstrumentType.EQUITY:
            return self._cash(name, exchange).chain
        if instrument_type is InstrumentType.FUTURE:
            return self._future(name, expiry, exchange).chain
        ladder = self.ladder(name, expiry, exchange)
        self._require_fit(ladder, instrument_type)
        return _key(ladder, instrument_type)

    def option_chain(self, symbol: str, expiry: str | date | None, exchange: str | None = None) -> ChainKey:
        """The option chain of a symbol, of whichever kind it is. Raises ``InstrumentUnknown``, ``ExpiryUnknown``."""
        ladder = self.ladder(self._universe.resolve_symbol(symbol), expiry, exchange)
        return _key(ladder, self.type_of(ladder))

    def find(self, chain: ChainKey, spot: float | None = None) -> Wanted:
        """What a listed chain, future or cash line comes to; a given ``spot`` wins over the live one.

        Raises:
            InstrumentUnknown, ExpiryUnknown: not listed.
            InvalidRequest: ``spot`` is no price.
            SpotUnknown: an option chain without a price.
        """
        if spot is not None and not (math.isfinite(spot) and spot > 0.0):
            raise InvalidRequest(f"underlying_ltp must be a price above zero, not {spot}", field="underlying_ltp")
        return self._around(chain, spot or self.spot(chain))

    def shown(self, wanted: Wanted) -> list[Instrument]:
        """Whose prices a wish shows: its legs, and the underlying of a chain."""
        spot = self._universe.spot_of(wanted.chain.symbol, wanted.chain.expiry, wanted.chain.exchange)
        return [*wanted.legs, *([spot] if spot is not None and wanted.window is not None else [])]

    def again(self, chain: ChainKey, centre: float | None) -> Wanted | None:
        """What a stored wish comes to now; None if it is no longer listed, or nobody knows where its window was.

        The live spot decides where it is known, else the stored centre.
        """
        try:
            return self._around(chain, self.spot(chain) or centre)
        except (InstrumentUnknown, ExpiryUnknown, SpotUnknown):
            return None

    def spot(self, chain: ChainKey) -> float | None:
        """The live price of a chain's underlying, in rupees."""
        instrument = self._universe.spot_of(chain.symbol, chain.expiry, chain.exchange)
        return None if instrument is None else self._spots.last_price(instrument.key)

    def ladder(self, symbol: str, expiry: str | date | None, exchange: str | None) -> LadderLike:
        """The chain as listed; without an expiry the nearest one. Raises as :meth:`find`."""
        if expiry is None:
            listed = self._universe.expiries(symbol, exchange)
            if not listed:
                where = f" on {exchange}" if exchange else ""
                raise InstrumentUnknown(f"{symbol} has no options{where}", symbol=symbol)
            expiry = listed[0]
        return self._universe.ladder(symbol, expiry, exchange)

    def type_of(self, ladder: LadderLike) -> InstrumentType:
        """What kind of option chain it is."""
        if ladder.exchange is Exchange.MCX:
            return InstrumentType.COMMODITY_OPTION
        is_index = self._universe.index(ladder.symbol) is not None
        return InstrumentType.INDEX_OPTION if is_index else InstrumentType.STOCK_OPTION

    def symbol(self, text: str) -> str:
        """Dhan's symbol for what a person wrote. Raises ``InstrumentUnknown``."""
        return self._universe.resolve_symbol(text)

    def day(self, symbol: str, expiry: str | date | None) -> date | None:
        """The day that a person wrote, listed or not. Raises ``ExpiryUnknown`` for what is no day."""
        if not isinstance(expiry, str):
            return expiry
        try:
            return parse_expiry(expiry)
        except ValueError as error:
            valid = [format_expiry(each) for each in self._all_expiries(symbol)]
            raise ExpiryUnknown(str(error), symbol=symbol, valid=valid) from None

    def _all_expiries(self, symbol: str) -> list[date]:
        """Of options and futures on every exchange, in date order."""
        options = {day for exchange in Exchange for day in self._universe.expiries(symbol, exchange.value)}
        futures = {each.expiry for exchange in Exchange for each in self._universe.futures(symbol, exchange.value)}
        return sorted(options | {day for day in futures if day is not None})

    def nearest_expiry(self, chain: ChainKey, from_day: date) -> date | None:
        """The nearest expiry of a chain's kind that is listed from a day on, for one that is over by then."""
        if chain.instrument_type is InstrumentType.FUTURE:
            listed = [each.expiry for each in self._universe.futures(chain.symbol, chain.exchange)]
        else:
            listed = list(self._universe.expiries(chain.symbol, chain.exchange))
        return next((day for day in listed if day is not None and day >= from_day), None)

    def cut(self, ladder: LadderLike, instrument_type: InstrumentType, spot: float) -> Wanted:
        """The legs of the window around ``spot``."""
        chain = ChainId(ladder.symbol, ladder.expiry, ladder.exchange)
        return self.of_window(self._engine.preview(chain, spot, STRIKES_OF[instrument_type]), instrument_type)

    def of_window(self, window: CachedWindow, instrument_type: InstrumentType) -> Wanted:
        """The legs of a window, strike by strike, call before put."""
        ladder, lo, hi = window.ladder, window.window.lo, window.window.hi
        listed = window.keys
        instruments = dict(zip(listed, self._universe.get_all(listed), strict=True))
        legs: list[Instrument] = []
        missing: list[MissingLeg] = []
        for place in range(lo, hi):
            for option_type, keys in ((OptionType.CE, ladder.ce), (OptionType.PE, ladder.pe)):
                key = keys[place]
                instrument = None if key is None else instruments[key]
                if instrument is None:
                    missing.append(MissingLeg(ladder.strikes[place], option_type, NOT_LISTED))
                else:
                    legs.append(instrument)
        return Wanted(_key(ladder, instrument_type), tuple(legs), tuple(missing), window)

    def _around(self, chain: ChainKey, spot: float | None) -> Wanted:
        """As :meth:`find`; a chain is cut around ``spot``."""
        if chain.instrument_type is InstrumentType.EQUITY:
            return self._cash(chain.symbol, chain.exchange)
        if chain.instrument_type is InstrumentType.FUTURE:
            return self._future(chain.symbol, chain.expiry, chain.exchange)
        ladder = self.ladder(chain.symbol, chain.expiry, chain.exchange)
        if spot is None:
            raise SpotUnknown(f"no price of {ladder.symbol} yet and no underlying_ltp given", symbol=ladder.symbol)
        return self.cut(ladder, chain.instrument_type, spot)

    def _cash(self, symbol: str, exchange: str | None) -> Wanted:
        line = self._universe.cash(symbol, exchange)
        if line is None:
            what = "is an index and" if self._universe.index(symbol) else f"on {exchange}" if exchange else ""
            raise InstrumentUnknown(f"{symbol} {what} has no cash line".replace("  ", " "), symbol=symbol)
        return Wanted(ChainKey(line.exchange, line.symbol, None, InstrumentType.EQUITY), (line,))

    def _future(self, symbol: str, expiry: str | date | None, exchange: str | None) -> Wanted:
        futures = self._universe.futures(symbol, exchange)
        if not futures:
            raise InstrumentUnknown(f"{symbol} has no futures{f' on {exchange}' if exchange else ''}", symbol=symbol)
        chosen = futures[0] if expiry is None else _expiring(futures, expiry)
        return Wanted(ChainKey(chosen.exchange, chosen.symbol, chosen.expiry, InstrumentType.FUTURE), (chosen,))

    def _require_fit(self, ladder: LadderLike, asked: InstrumentType) -> None:
        fitting = self.type_of(ladder)
        if asked is not fitting:
            raise InvalidRequest(
                f"options on {ladder.symbol} are {fitting}, not {asked}", field="instrument_type", fitting=str(fitting)
            )


def _key(ladder: LadderLike, instrument_type: InstrumentType) -> ChainKey:
    return ChainKey(ladder.exchange, ladder.symbol, ladder.expiry, instrument_type)


def _expiring(futures: Sequence[Instrument], expiry: str | date) -> Instrument:
    valid = [format_expiry(each.expiry) for each in futures if each.expiry]
    try:
        day = expiry if isinstance(expiry, date) else parse_expiry(expiry)
    except ValueError as error:
        raise ExpiryUnknown(str(error), valid=valid) from None
    for each in futures:
        if each.expiry == day:
            return each
    raise ExpiryUnknown(f"{futures[0].symbol} has no future that expires on {format_expiry(day)}", valid=valid)
