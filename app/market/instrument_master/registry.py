"""The instrument universe: an immutable snapshot, replaced whole, and every lookup on it (contract, section 3).

``REGISTRY`` is the door of the user's document: importing it does nothing, using it asks the running service.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import cast

from app.core import current
from app.core.doors import Door
from app.core.errors import ExpiryUnknown, InstrumentUnknown, MasterRefused
from app.core.ids import (
    Exchange,
    InstrumentKey,
    InstrumentKind,
    OptionType,
    Segment,
    format_expiry,
    parse_expiry,
    parse_key,
)
from app.core.instruments import Instrument
from app.market.instrument_master.convert import map_master
from app.market.instrument_master.ladder import Ladder, strike_step
from app.market.instrument_master.layout import CALL, Itype, Lists
from app.market.instrument_master.report import RegistryReport
from app.market.instrument_master.search import SearchHit, SearchIndex
from app.market.instrument_master.table import INDEX_OF, Group, MasterTable, TradingLimits
from app.market.instrument_master.tokens import TokenParts, parse_token

__all__ = ["REGISTRY", "InstrumentRegistry", "Ladder", "RegistryReport", "SearchHit", "SymbolInfo"]

LADDERS_KEPT = 256
"""Chains whose ladder is kept ready; each is up to 100 KB."""

SPOTS_KEPT = 4_096
"""Chains whose underlying is kept ready: control asks for that of every list's chain twice a second."""

_DERIVATIVES = int(
    Lists.INDEX_DERIVATIVE | Lists.STOCK_DERIVATIVE | Lists.COMMODITY_DERIVATIVE | Lists.CURRENCY_DERIVATIVE
)


def _service_today() -> date:
    """The day by the clock of the running service."""
    today: date = current.runtime().clock.now().date()
    return today


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What endpoint 11 tells of a symbol. ``lot_size`` and ``tick`` (rupees) are of the nearest derivative, else of
    the cash line; ``strike_step`` is of the nearest chain."""

    symbol: str
    name: str
    exchange: Exchange
    segments: tuple[str, ...]
    f_o_eligible: bool
    count: int
    lot_size: int
    tick: float
    strike_step: float | None
    nearest_future: str | None
    nearest_expiry: date | None


class InstrumentRegistry:
    """OWNS the instrument universe. Every list of derivatives starts at ``today()``: what is over is not listed."""

    def __init__(self, today: Callable[[], date] = _service_today) -> None:
        self._today = today
        self._path: Path | None = None
        self._table: MasterTable | None = None
        self._search: SearchIndex | None = None
        self._ladders: OrderedDict[int, Ladder] = OrderedDict()
        self._spots: dict[tuple[str, date | None, str | None], Instrument | None] = {}
        self._spots_day: date | None = None
        self.revision = 0
        self.report: RegistryReport | None = None

    def load(self, path: Path | str | None = None) -> RegistryReport:
        """Map a finished snapshot and use it from now on; without ``path``, the one in use once more.

        A CSV works too, and takes a second or two: the service itself always hands over a snapshot.

        Raises:
            MasterRefused: the file may not be used; what was in use stays.
        """
        source = self._path if path is None else Path(path)
        if source is None:
            raise MasterRefused("no instrument master was loaded yet: name one")
        today = self._today()
        table = MasterTable(map_master(source), today)
        search = SearchIndex(table)
        report = _report(table, today)
        self._table, self._search, self.report, self._path = table, search, report, source
        self._ladders.clear()
        self._spots.clear()
        self.revision += 1
        return report

    # -- one instrument -------------------------------------------------------------------------------------------

    def get(self, key: InstrumentKey) -> Instrument | None:
        """The instrument of a wire key."""
        return None if self._table is None else self._table.instrument_of_key(key)

    def get_all(self, keys: Sequence[InstrumentKey]) -> list[Instrument | None]:
        """As :meth:`get` of each; much faster for a whole chain."""
        return [None] * len(keys) if self._table is None else self._table.instruments_of_keys(keys)

    def trading_limits(self, key: InstrumentKey) -> TradingLimits:
        """Of the day of the master; whatever it does not tell is None."""
        return TradingLimits() if self._table is None else self._table.trading_limits(key)

    def by_token(self, token: str) -> Instrument:
        """The instrument of a token, of an alias such as ``GOLD_FUT``, or of a wire key such as ``NSE_FNO:47317``.

        Raises:
            InstrumentUnknown: nothing of that name is listed.
        """
        found = self._by_key_text(token) or self._by_parts(token)
        if found is None:
            raise InstrumentUnknown(f"no instrument is called {token.strip()!r}", token=token)
        return found

    def _by_key_text(self, token: str) -> Instrument | None:
        try:
            return self.get(parse_key(token.strip().upper()))
        except ValueError:
            return None

    def _by_parts(self, token: str) -> Instrument | None:
        try:
            parts = parse_token(token)
        except ValueError:
            return None
        sym = self._find(parts.symbol)
        if sym is None or self._table is None:
            return None
        if parts.kind is InstrumentKind.FUTURE and parts.expiry is None:
            return next(iter(self._futures(sym, parts.exchange)), None)
        for group in self._table.groups(sym):
            if group.kind is not parts.kind or parts.exchange not in (None, group.exchange):
                continue
            if parts.expiry is not None and group.expiry != parts.expiry.toordinal():
                continue
            row = self._row_in(group, parts)
            if row is not None:
                return self._table.instrument(row)
        return None

    def _row_in(self, group: Group, parts: TokenParts) -> int | None:
        if parts.strike is None or self._table is None:
            return group.start
        code = CALL if parts.option_type is OptionType.CE else CALL + 1
        rows = self._table.rows_at(group, parts.strike)
        codes = self._table.option_codes(rows.start, rows.stop)
        return rows.start + codes.index(code) if code in codes else None

    # -- one symbol -----------------------------------------------------------------------------------------------

    def resolve_symbol(self, text: str) -> str:
        """Dhan's symbol for what a person wrote: ``nifty 50`` is ``NIFTY``.

        Raises:
            InstrumentUnknown: no symbol, and no index, of that name.
        """
        sym = self._require(text)
        assert self._table is not None
        return self._table.symbols[sym]

    def symbols(self) -> Sequence[str]:
        """Every symbol, sorted without regard to case."""
        return self._table.symbols if self._table is not None else ()

    def get_by_symbol(self, symbol: str) -> list[Instrument]:
        """Everything listed of a symbol, from today on."""
        groups = self._live_groups(self._require(symbol))
        return self._instruments(groups)

    def get_by_symbol_expiry(self, symbol: str, expiry: date | str, exchange: str | None = None) -> list[Instrument]:
        """Futures and options of one expiry, on the first exchange that lists it or on the one asked for."""
        day = _day(expiry).toordinal()
        groups = [group for group in self._live_groups(self._require(symbol), exchange) if group.expiry == day]
        chosen = min((_rank(group) for group in groups), default=0)
        return self._instruments(group for group in groups if _rank(group) == chosen)

    def is_f_o_eligible(self, symbol: str) -> bool:
        """Whether futures or options of the symbol are listed."""
        sym = self._find(symbol)
        return sym is not None and any(group.expiry for group in self._live_groups(sym))

    def cash(self, symbol: str, exchange: str | None = None) -> Instrument | None:
        """The cash line: NSE's, else BSE's."""
        return self._first(symbol, Itype.EQUITY, exchange)

    def index(self, symbol: str) -> Instrument | None:
        """The index row, also where its symbol differs from that of its derivatives."""
        sym = self._find(symbol)
        if sym is None or self._table is None:
            return None
        return self._first(self._table.symbols[sym], Itype.INDEX) or self._first(
            INDEX_OF.get(self._table.symbols[sym], ""), Itype.INDEX
        )

    def describe(self, symbol: str) -> SymbolInfo:
        """Lot, tick, step, segments, eligibility and nearest future of a symbol.

        Raises:
            InstrumentUnknown: no such symbol.
        """
        sym = self._require(symbol)
        assert self._table is not None
        groups = self._live_groups(sym)
        lead = next((group for group in groups if group.expiry), groups[0])
        lot_size, tick = self._table.lot_and_tick(lead.start)
        futures, expiries = self._futures(sym, None), self._expiries(sym, None)
        segments = sorted({self._table.key_at(group.start).segment for group in groups})
        return SymbolInfo(
            symbol=self._table.symbols[sym],
            name=self._table.display_names[sym],
            exchange=min((group.exchange for group in groups), key=list(Exchange).index),
            segments=tuple(segment.name for segment in segments),
            f_o_eligible=lead.expiry > 0,
            count=sum(group.stop - group.start for group in groups),
            lot_size=lot_size,
            tick=tick,
            strike_step=self.get_strike_step(symbol),
            nearest_future=futures[0].token if futures else None,
            nearest_expiry=expiries[0] if expiries else None,
        )

    def fo_stocks(self) -> list[str]:
        """Stocks with futures or options, sorted."""
        if self._table is None:
            return []
        stocks = (self._table.flags & int(Lists.STOCK_DERIVATIVE)).nonzero()[0].tolist()
        return [self._table.symbols[sym] for sym in stocks if any(group.expiry for group in self._live_groups(sym))]

    def option_symbols(self) -> list[str]:
        """Symbols with listed options, sorted."""
        if self._table is None:
            return []
        candidates = (self._table.flags & _DERIVATIVES).nonzero()[0].tolist()
        return [self._table.symbols[sym] for sym in candidates if self._options(self._live_groups(sym))]

    # -- futures and chains ---------------------------------------------------------------------------------------

    def futures(self, symbol: str, exchange: str | None = None) -> list[Instrument]:
        """Futures in date order, of the first exchange that lists any or of the one asked for."""
        return self._futures(self._require(symbol), exchange)

    def expiries(self, symbol: str, exchange: str | None = None) -> list[date]:
        """Expiries of options in date order, of the symbol's primary exchange unless another is asked for.

        Raises:
            InstrumentUnknown: no such symbol.
        """
        return self._expiries(self._require(symbol), exchange)

    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> Ladder:
        """One chain as listed; an expiry that only another exchange lists selects that exchange.

        Raises:
            InstrumentUnknown: no such symbol, or it has no options.
            ExpiryUnknown: not listed; ``valid`` holds those that are.
        """
        sym = self._require(symbol)
        group = self._chain(sym, expiry, exchange)
        kept = self._ladders.get(group.start)
        if kept is None:
            kept = self._ladders[group.start] = self._make_ladder(sym, group)
            if len(self._ladders) > LADDERS_KEPT:
                self._ladders.popitem(last=False)
        self._ladders.move_to_end(group.start)
        return kept

    def get_strike_step(self, symbol: str, expiry: date | str | None = None) -> float | None:
        """Usual gap between strikes of a chain, by default the nearest; ``None`` for a symbol without options."""
        nearest = self.expiries(symbol)[:1]
        if expiry is None and not nearest:
            return None
        return self.ladder(symbol, nearest[0] if expiry is None else expiry).step

    def get_option_chain(self, symbol: str, expiry: date | str, exchange: str | None = None) -> list[Instrument]:
        """Every option of one chain, by strike, call before put.

        Raises:
            InstrumentUnknown, ExpiryUnknown: as for :meth:`ladder`.
        """
        return self._instruments([self._chain(self._require(symbol), expiry, exchange)])

    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None:
        """The instrument whose price is a chain's underlying.

        The index row, the NSE (else BSE) cash line, or for commodities and currencies the first future that expires
        on or after ``expiry``. It is found by symbol and date: underlying ids are wrong (protocol notes, 4.4, 13).
        """
        today, asked = self._today(), (symbol, expiry, exchange)
        if today != self._spots_day or len(self._spots) >= SPOTS_KEPT:
            self._spots.clear()
            self._spots_day = today
        if asked not in self._spots:
            self._spots[asked] = self._find_spot(*asked)
        return self._spots[asked]

    def _find_spot(self, symbol: str, expiry: date | None, exchange: str | None) -> Instrument | None:
        sym = self._find(symbol)
        if sym is None or self._table is None:
            return None
        options = self._options(self._live_groups(sym), exchange)
        settled_by_future = options and (
            options[0].itype in (Itype.OPTFUT, Itype.OPTCUR) or options[0].exchange is Exchange.MCX
        )
        if not settled_by_future:
            name = self._table.symbols[sym]
            is_index = bool(options) and options[0].itype is Itype.OPTIDX
            spot = self.cash(name) if options and not is_index else self.index(name) or self.cash(name)
            if spot is not None:
                return spot
        for future in self._futures(sym, options[0].exchange if options else exchange):
            if expiry is None or (future.expiry is not None and future.expiry >= expiry):
                return future
        return None

    def search(self, q: str, limit: int = 20) -> list[SearchHit]:
        """Symbols and contracts for free text such as ``nifty 25000 ce``; single typos are forgiven."""
        if self._search is None:
            return []
        return self._search.find(q, limit, self._today())

    # -- inside ---------------------------------------------------------------------------------------------------

    def _find(self, text: str) -> int | None:
        return None if self._table is None else self._table.find_symbol(text)

    def _require(self, text: str) -> int:
        sym = self._find(text)
        if sym is None:
            raise InstrumentUnknown(f"no symbol is called {text.strip()!r}", symbol=text)
        return sym

    def _live_groups(self, sym: int, exchange: str | None = None) -> list[Group]:
        assert self._table is not None
        today = self._today().toordinal()
        wanted = None if exchange is None else exchange.strip().upper()
        return [
            group
            for group in self._table.groups(sym)
            if (group.expiry == 0 or group.expiry >= today) and wanted in (None, group.exchange.value)
        ]

    def _options(self, groups: Iterable[Group], exchange: str | None = None) -> list[Group]:
        wanted = None if exchange is None else exchange.strip().upper()
        return [
            group for group in groups if group.kind is InstrumentKind.OPTION and wanted in (None, group.exchange.value)
        ]

    def _expiries(self, sym: int, exchange: str | None) -> list[date]:
        options = self._options(self._live_groups(sym, exchange))
        primary = min((_rank(group) for group in options), default=0)
        return sorted({date.fromordinal(group.expiry) for group in options if _rank(group) == primary})

    def _futures(self, sym: int, exchange: str | None) -> list[Instrument]:
        futures = [group for group in self._live_groups(sym, exchange) if group.kind is InstrumentKind.FUTURE]
        primary = min((_rank(group) for group in futures), default=0)
        chosen = sorted((group for group in futures if _rank(group) == primary), key=lambda group: group.expiry)
        return self._instruments(chosen)

    def _chain(self, sym: int, expiry: date | str, exchange: str | None) -> Group:
        assert self._table is not None
        options = self._options(self._live_groups(sym), exchange)
        symbol = self._table.symbols[sym]
        if not options:
            raise InstrumentUnknown(f"{symbol} has no options{f' on {exchange}' if exchange else ''}", symbol=symbol)
        try:
            day = _day(expiry).toordinal()
        except ValueError as error:
            raise ExpiryUnknown(str(error), symbol=symbol, valid=_days(options)) from None
        found = min((group for group in options if group.expiry == day), key=_rank, default=None)
        if found is None:
            told = f"{symbol} has no options that expire on {format_expiry(_day(expiry))}"
            raise ExpiryUnknown(told, symbol=symbol, valid=_days(options))
        return found

    def _make_ladder(self, sym: int, group: Group) -> Ladder:
        assert self._table is not None
        sides: dict[float, list[InstrumentKey | None]] = {}
        rows = zip(
            self._table.strike[group.start : group.stop].tolist(),
            self._table.option_codes(group.start, group.stop),
            self._table.keys(group),
            strict=True,
        )
        for strike, code, key in rows:
            sides.setdefault(strike, [None, None])[code - CALL] = key
        lot_size, tick = self._table.lot_and_tick(group.start)
        strikes = tuple(sides)
        step, regular = strike_step(strikes, tick)
        return Ladder(
            symbol=self._table.symbols[sym],
            exchange=group.exchange,
            expiry=date.fromordinal(group.expiry),
            strikes=strikes,
            step=step,
            regular=regular,
            ce=tuple(side[0] for side in sides.values()),
            pe=tuple(side[1] for side in sides.values()),
            lot_size=lot_size,
            tick=tick,
        )

    def _first(self, symbol: str, itype: Itype, exchange: str | None = None) -> Instrument | None:
        sym = self._find(symbol)
        if sym is None or self._table is None:
            return None
        groups = (group for group in self._live_groups(sym, exchange) if group.itype is itype)
        group = min(groups, key=_rank, default=None)
        return None if group is None else self._table.instrument(group.start)

    def _instruments(self, groups: Iterable[Group]) -> list[Instrument]:
        assert self._table is not None
        table = self._table
        return [instrument for group in groups for instrument in table.instruments(group)]


def _rank(group: Group) -> int:
    return list(Exchange).index(group.exchange)


def _days(groups: Iterable[Group]) -> list[str]:
    return [format_expiry(date.fromordinal(day)) for day in sorted({group.expiry for group in groups})]


def _day(expiry: date | str) -> date:
    return expiry if isinstance(expiry, date) else parse_expiry(expiry)


def _report(table: MasterTable, today: date) -> RegistryReport:
    left_out = dict(table.meta["left_out"])
    expired = table.expired_counts()
    if expired:
        left_out["expired"] = sum(expired.values())
    alive = table.alive_counts()
    return RegistryReport(
        source=table.meta["source"],
        layout=table.meta["layout"],
        rows=table.meta["rows"],
        in_use=sum(alive.values()),
        symbols=table.meta["symbols"],
        file_rows=table.meta["file_rows"],
        by_segment={segment.name: alive[segment.name] for segment in Segment if segment.name in alive},
        left_out=left_out,
        day=today,
    )


REGISTRY = cast("InstrumentRegistry", Door(InstrumentRegistry, lambda service: service.registry))
