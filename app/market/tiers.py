"""The always-on universe, Tier B, from its TOML description and what is listed (contract, section 5, rule 1). Pure.

Expiries are classified by their dates: the last of its month is the monthly, and a quarterly is the monthly of March,
June, September or December. The master's flag is not to be relied on (protocol notes, 13).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

from app.core.errors import ExpiryUnknown, InstrumentUnknown, TerminalError
from app.core.ids import Exchange, InstrumentKey, format_expiry
from app.core.instruments import Instrument
from app.market.instrument_master.ladder import Ladder

DEFAULT_FILE = Path(__file__).with_name("tier_b.toml")

ALL = 1_000_000
"""What ``"all"`` stands for."""

_WEEKLY_GAP_MAX = timedelta(days=10)
"""Weeklies follow each other by a week, give or take a holiday; a longer gap ends their row."""

_QUARTER_MONTHS = (3, 6, 9, 12)
_CHAIN_COUNTS = ("weekly", "monthly", "quarterly", "nearest")


class UniverseInvalid(TerminalError):
    """A ``BT_TIER_B`` file that cannot be used; says which part and what it may be."""

    code = "UNIVERSE_INVALID"
    http_status = 422


@dataclass(frozen=True, slots=True)
class ChainRule:
    """Expiries of a symbol whose chains are always on, and how many strikes of each."""

    symbol: str
    weekly: int = 0
    monthly: int = 0
    quarterly: int = 0
    nearest: int = 0
    strikes: int = 101


@dataclass(frozen=True, slots=True)
class FutureRule:
    symbol: str
    expiries: int = ALL


@dataclass(frozen=True, slots=True)
class Universe:
    """What a ``BT_TIER_B`` file asks for."""

    chains: tuple[ChainRule, ...] = ()
    futures: tuple[FutureRule, ...] = ()
    fo_stocks: bool = True


@dataclass(frozen=True, slots=True)
class AlwaysOnChain:
    """A chain to keep a window of ``strikes`` strikes on; fewer only where fewer are listed.

    ``legs`` counts calls and puts of such a window around the middle of the listing; ``why`` says how it was chosen.
    """

    symbol: str
    exchange: Exchange
    expiry: date
    strikes: int
    legs: int
    why: str


@dataclass(frozen=True, slots=True)
class AlwaysOn:
    """The universe of a day, with what was asked for and is not listed, by name.

    ``futures`` and ``drivers`` may overlap; :attr:`total` counts each instrument once.
    """

    chains: tuple[AlwaysOnChain, ...] = ()
    futures: tuple[Instrument, ...] = ()
    drivers: tuple[Instrument, ...] = ()
    missing: tuple[str, ...] = ()
    asked: int = 0

    @property
    def singles(self) -> dict[InstrumentKey, Instrument]:
        """Futures and drivers, once each."""
        return {instrument.key: instrument for instrument in (*self.futures, *self.drivers)}

    @property
    def total(self) -> int:
        """Instruments of the whole universe."""
        return len(self.singles) + sum(chain.legs for chain in self.chains)


class Listings(Protocol):
    """The part of the registry that the universe is told from."""

    def expiries(self, symbol: str, exchange: str | None = None) -> list[date]: ...

    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> Ladder: ...

    def futures(self, symbol: str, exchange: str | None = None) -> list[Instrument]: ...

    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None: ...

    def option_symbols(self) -> list[str]: ...

    def fo_stocks(self) -> list[str]: ...

    def cash(self, symbol: str, exchange: str | None = None) -> Instrument | None: ...


@dataclass(slots=True)
class _Found:
    """What has been gathered so far."""

    chains: list[AlwaysOnChain] = field(default_factory=list)
    futures: list[Instrument] = field(default_factory=list)
    drivers: dict[InstrumentKey, Instrument] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    asked: int = 0


def parse_universe(text: str) -> Universe:
    """Read a ``BT_TIER_B`` file.

    Raises:
        UniverseInvalid: not TOML, an unknown name, or a value that may not be.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UniverseInvalid(f"BT_TIER_B is not TOML: {error}") from None
    _only(data, ("chain", "future", "drivers"), "BT_TIER_B")
    drivers = data.get("drivers", {})
    if not isinstance(drivers, dict):
        raise UniverseInvalid("BT_TIER_B: [drivers] is a table")
    _only(drivers, ("fo_stocks",), "[drivers]")
    fo_stocks = drivers.get("fo_stocks", True)
    if not isinstance(fo_stocks, bool):
        raise UniverseInvalid(f"BT_TIER_B: fo_stocks is {fo_stocks!r}, it may be true or false")
    return Universe(
        tuple(_chain_rule(table) for table in _tables(data, "chain")),
        tuple(_future_rule(table) for table in _tables(data, "future")),
        fo_stocks,
    )


def always_on(universe: Universe, registry: Listings, today: date) -> AlwaysOn:
    """The always-on universe as listed on ``today``: takes what there is and names what there is not."""
    found = _Found()
    for rule in universe.chains:
        _take_chains(rule, registry, today, found)
    for future in universe.futures:
        _take_futures(future, registry, today, found)
    _take_drivers(universe, registry, today, found)
    return AlwaysOn(
        tuple(found.chains), tuple(found.futures), tuple(found.drivers.values()), tuple(found.missing), found.asked
    )


def choose_expiries(rule: ChainRule, expiries: Sequence[date]) -> tuple[dict[date, str], list[str]]:
    """Which of the listed expiries a rule takes and why, and what it asks for that is not listed.

    Each is taken once: the nearest, the weeklies (a month's last week counts as one), the monthlies that those did
    not take, then the next quarterlies not yet taken.
    """
    chosen: dict[date, str] = {}
    missing: list[str] = []
    monthlies = monthly_expiries(expiries)
    _take(chosen, missing, "nearest", rule.nearest, expiries)
    _take(chosen, missing, "weekly", rule.weekly, _weekly_row(expiries))
    _take(chosen, missing, "monthly", rule.monthly, monthlies)
    quarterlies = [expiry for expiry in monthlies if expiry.month in _QUARTER_MONTHS and expiry not in chosen]
    _take(chosen, missing, "quarterly", rule.quarterly, quarterlies)
    return chosen, missing


def monthly_expiries(expiries: Iterable[date]) -> list[date]:
    """The last listed expiry of each month."""
    last: dict[tuple[int, int], date] = {}
    for expiry in sorted(expiries):
        last[(expiry.year, expiry.month)] = expiry
    return list(last.values())


def _weekly_row(expiries: Sequence[date]) -> list[date]:
    row: list[date] = []
    for expiry in expiries:
        if row and expiry - row[-1] > _WEEKLY_GAP_MAX:
            break
        row.append(expiry)
    return row


def _take(chosen: dict[date, str], missing: list[str], why: str, count: int, expiries: Sequence[date]) -> None:
    for expiry in expiries[:count]:
        chosen.setdefault(expiry, why)
    if count != ALL:
        missing.extend(f"{why} {number} of {count}" for number in range(len(expiries) + 1, count + 1))


def _take_chains(rule: ChainRule, registry: Listings, today: date, found: _Found) -> None:
    try:
        expiries = [expiry for expiry in registry.expiries(rule.symbol) if expiry >= today]
    except InstrumentUnknown:
        expiries = []
    chosen, missing = choose_expiries(rule, expiries)
    found.missing.extend(f"{rule.symbol} {what}: no such expiry is listed" for what in missing)
    legs_asked = 0 if rule.strikes == ALL else 2 * rule.strikes
    found.asked += (len(chosen) + len(missing)) * legs_asked
    for expiry, why in sorted(chosen.items()):
        try:
            ladder = registry.ladder(rule.symbol, expiry)
        except (InstrumentUnknown, ExpiryUnknown) as error:
            found.missing.append(f"{rule.symbol} {format_expiry(expiry)}: {error.detail}")
            continue
        strikes = len(ladder.strikes) if rule.strikes == ALL else rule.strikes
        legs = _legs(ladder, strikes)
        if legs < legs_asked:
            found.missing.append(
                f"{rule.symbol} {format_expiry(expiry)}: {legs} of {legs_asked} legs, "
                f"{min(strikes, len(ladder.strikes))} of {strikes} strikes are listed"
            )
        found.asked += legs if rule.strikes == ALL else 0
        found.chains.append(AlwaysOnChain(ladder.symbol, ladder.exchange, expiry, strikes, legs, why))


def _legs(ladder: Ladder, strikes: int) -> int:
    """Calls and puts listed in a window of that many strikes around the middle of the listing."""
    count = min(strikes, len(ladder.strikes))
    low = (len(ladder.strikes) - count) // 2
    sides = (*ladder.ce[low : low + count], *ladder.pe[low : low + count])
    return sum(key is not None for key in sides)


def _take_futures(rule: FutureRule, registry: Listings, today: date, found: _Found) -> None:
    try:
        listed = [future for future in registry.futures(rule.symbol) if future.expiry and future.expiry >= today]
    except InstrumentUnknown:
        listed = []
    taken = listed[: rule.expiries]
    found.futures.extend(taken)
    wanted = max(1, len(listed)) if rule.expiries == ALL else rule.expiries
    found.asked += wanted
    found.missing.extend(
        f"{rule.symbol} future {number} of {wanted}: not listed" for number in range(len(taken) + 1, wanted + 1)
    )


def _take_drivers(universe: Universe, registry: Listings, today: date, found: _Found) -> None:
    """Spots of every index with options, the futures that options settle into, the shares behind stock options."""
    stocks = set(registry.fo_stocks())
    taken = {future.key for future in found.futures}
    for symbol in registry.option_symbols():
        if symbol in stocks:
            continue
        for expiry in registry.expiries(symbol):
            spot = registry.spot_of(symbol, expiry)
            if expiry < today or _is_currency(spot):
                continue
            _take_driver(spot, f"{symbol} {format_expiry(expiry)}: its underlying", taken, found)
    if universe.fo_stocks:
        for symbol in sorted(stocks):
            _take_driver(registry.cash(symbol), f"{symbol}: its cash line", taken, found)


def _is_currency(spot: Instrument | None) -> bool:
    """Currencies have no always-on part: nothing in the default universe or the page is about them."""
    return spot is not None and spot.key.segment.name.endswith("CURRENCY")


def _take_driver(instrument: Instrument | None, what: str, taken: set[InstrumentKey], found: _Found) -> None:
    if instrument is None:
        found.asked += 1
        found.missing.append(f"{what} is not listed")
    elif instrument.key not in found.drivers:
        found.drivers[instrument.key] = instrument
        found.asked += instrument.key not in taken


def _chain_rule(table: Mapping[str, object]) -> ChainRule:
    symbol = _symbol(table, "chain")
    where = f"[[chain]] {symbol}"
    _only(table, ("symbol", "strikes", *_CHAIN_COUNTS), where)
    counts = {name: _count(table, name, where, least=0) for name in _CHAIN_COUNTS if name in table}
    if not any(counts.values()):
        raise UniverseInvalid(f"BT_TIER_B: {where} takes no expiry: give one of {', '.join(_CHAIN_COUNTS)}")
    strikes = _count(table, "strikes", where, least=1) if "strikes" in table else 101
    return ChainRule(symbol, strikes=strikes, **counts)


def _future_rule(table: Mapping[str, object]) -> FutureRule:
    symbol = _symbol(table, "future")
    where = f"[[future]] {symbol}"
    _only(table, ("symbol", "expiries"), where)
    return FutureRule(symbol, _count(table, "expiries", where, least=1) if "expiries" in table else ALL)


def _tables(data: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    tables = data.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UniverseInvalid(f"BT_TIER_B: {name} is written as [[{name}]] tables")
    return tables


def _symbol(table: Mapping[str, object], kind: str) -> str:
    symbol = table.get("symbol")
    if not isinstance(symbol, str) or not symbol.strip():
        raise UniverseInvalid(f"BT_TIER_B: a [[{kind}]] has no symbol")
    return symbol.strip()


def _count(table: Mapping[str, object], name: str, where: str, least: int) -> int:
    value = table[name]
    if value == "all":
        return ALL
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UniverseInvalid(f'BT_TIER_B: {where}: {name} is {value!r}, it may be a number from {least} or "all"')
    return value


def _only(table: Mapping[str, object], names: Sequence[str], where: str) -> None:
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise UniverseInvalid(f"{where}: unknown {', '.join(unknown)}; it may have {', '.join(names)}")
