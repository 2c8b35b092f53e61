"""The mapped master as rows and groups: everything a lookup needs, nothing held per row in Python.

Rows are sorted by symbol, instrument, exchange, expiry, strike, call before put. A *group* is a run of rows with one
symbol, instrument, exchange and expiry: one chain, one future, one cash line. Columns (``scrip_csv`` writes them):
``key_sorted``/``key_row`` find a packed key's row; ``key itype exch opt twin expiry strike lot tick`` describe a row
(``expiry`` is a date ordinal, 0 for none; ``twin`` marks a name that an earlier exchange has too), ``low_limit
high_limit`` are its circuit prices, NaN for none, ``freeze`` the largest order, 0 for none; ``name_start`` and
``names`` hold display names; ``sym_start sym_group group_start`` bound a symbol's rows, its groups, a group's rows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import date
from math import isnan
from typing import NamedTuple

import numpy as np

from app.core.ids import (
    Exchange,
    InstrumentKey,
    InstrumentKind,
    OptionType,
    Segment,
    format_expiry,
    format_strike,
)
from app.core.instruments import Instrument
from app.market.instrument_master.layout import CALL, EXCHANGES, KINDS, SEPARATOR, Itype, Lists
from app.market.instrument_master.snapshot import Columns

INDEX_OF = {"NIFTYNXT50": "NIFTY NEXT 50", "SENSEX50": "SNSX50"}
"""Derivatives whose index row has another symbol (protocol notes, 2.13)."""

GROUPS_KEPT = 1024
"""Symbols whose groups are kept ready."""

INSTRUMENTS_KEPT_MAX = 8_192
"""Instruments that are kept ready: about a third of what can be subscribed."""

STRIKE_SLACK = 1e-6
"""Strikes have at most four decimals: closer than this is the same one."""

_NOT_ALNUM = re.compile(r"[^A-Z0-9]")
_SEGMENTS = {int(segment): segment for segment in Segment}
_OPTION_TYPES = {1: OptionType.CE, 2: OptionType.PE}


class Group(NamedTuple):
    """Rows ``start`` to ``stop`` (exclusive) share all of this; ``expiry`` is an ordinal, 0 for none."""

    itype: Itype
    exchange: Exchange
    expiry: int
    start: int
    stop: int

    @property
    def kind(self) -> InstrumentKind:
        return KINDS[self.itype]


def squeeze(text: str) -> str:
    """Upper case, letters and digits only."""
    return _NOT_ALNUM.sub("", text.upper())


class TradingLimits(NamedTuple):
    """Circuit prices in rupees and the largest order in units; None where the master does not tell."""

    lower_limit: float | None = None
    upper_limit: float | None = None
    freeze_qty: int | None = None


class MasterTable:
    """One immutable snapshot. ``floor`` is the day it was loaded on: what had expired by then is not in it."""

    def __init__(self, columns: Columns, floor: date) -> None:
        self.meta = columns.meta
        self.floor = floor.toordinal()
        self.arrays = columns.arrays
        at = columns.arrays
        self._key_sorted, self._key_row, self._key = at["key_sorted"], at["key_row"], at["key"]
        self._itype, self._exch, self._opt, self._twin = at["itype"], at["exch"], at["opt"], at["twin"]
        self.expiry, self.strike = at["expiry"], at["strike"]
        self._lot, self._tick = at["lot"], at["tick"]
        self._name_start, self._names = at["name_start"], memoryview(at["names"])  # type: ignore[arg-type]
        self.sym_start, self._sym_group, self._group_start = at["sym_start"], at["sym_group"], at["group_start"]
        self._codes = (self._key, self._itype, self._exch, self._opt, self._twin, self.expiry, self._lot)
        self.flags = at["sym_flags"]
        self.flag_of: list[int] = self.flags.tolist()  # one by one, a list is faster than a column
        self.symbols = lines(at["symbols"])
        self.uppers = [symbol.upper() for symbol in self.symbols]
        self.display_names = lines(at["sym_names"])
        # Rows in use of each symbol: expired ones do not count.
        alive = (self.expiry == 0) | (self.expiry >= self.floor)
        self.counts: list[int] = np.add.reduceat(alive, self.sym_start[:-1], dtype=np.int32).tolist()
        self._by_upper = dict(zip(self.uppers, range(len(self.uppers)), strict=True))
        self._aliases = self._find_aliases()
        self._groups: dict[int, tuple[Group, ...]] = {}
        self._made: dict[int, Instrument] = {}  # by packed key

    def _find_aliases(self) -> dict[str, int]:
        """Squeezed spellings of symbols and of index display names that are no symbol themselves."""
        aliases: dict[str, int] = {}
        indices = np.flatnonzero(self.flags & int(Lists.INDEX)).tolist()
        for sym in indices:
            aliases.setdefault(squeeze(self.display_names[sym]), sym)
        for sym, upper in enumerate(self.uppers):
            if not upper.isalnum():
                aliases.setdefault(_NOT_ALNUM.sub("", upper), sym)
        return {alias: sym for alias, sym in aliases.items() if alias not in self._by_upper}

    def find_symbol(self, text: str) -> int | None:
        """Number of a symbol by its spelling, an index's display name, or either with blanks and marks left out."""
        upper = text.strip().upper()
        sym = self._by_upper.get(upper)
        if sym is None:
            squeezed = _NOT_ALNUM.sub("", upper)
            sym = self._aliases.get(squeezed)
            if sym is None and squeezed != upper:
                sym = self._by_upper.get(squeezed)
        return sym if sym is not None and self.is_listed(sym) else None

    def is_listed(self, sym: int) -> bool:
        """Whether anything of the symbol had not expired when this was loaded."""
        return bool(self.counts[sym])

    def groups(self, sym: int) -> tuple[Group, ...]:
        """Groups of a symbol, in row order: instrument, exchange (first one first), expiry."""
        kept = self._groups.get(sym)
        if kept is None:
            if len(self._groups) >= GROUPS_KEPT:
                self._groups.clear()
            kept = self._groups[sym] = tuple(self._read_groups(sym))
        return kept

    def _read_groups(self, sym: int) -> Iterator[Group]:
        low, high = int(self._sym_group[sym]), int(self._sym_group[sym + 1])
        bounds = self._group_start[low : high + 1].tolist()
        for start, stop in itertools.pairwise(bounds):
            expiry = int(self.expiry[start])
            if expiry == 0 or expiry >= self.floor:
                yield Group(Itype(self._itype[start]), EXCHANGES[self._exch[start]], expiry, start, stop)

    def rows_at(self, group: Group, strike: float) -> range:
        """Rows of a chain at a strike: call and put, one of them, or none."""
        low = group.start + int(self.strike[group.start : group.stop].searchsorted(strike - STRIKE_SLACK))
        high = low
        while high < group.stop and self.strike[high] <= strike + STRIKE_SLACK:
            high += 1
        return range(low, high)

    def row_of_key(self, key: InstrumentKey) -> int | None:
        """Row of a wire key, unless it had expired when this was loaded."""
        return self._row_of(key.packed)

    def instrument_of_key(self, key: InstrumentKey) -> Instrument | None:
        """The instrument of a wire key, unless it had expired when this was loaded."""
        packed = key.packed
        found = self._made.get(packed)
        if found is not None:
            return found
        row = self._row_of(packed)
        return None if row is None else self._make(packed, row)

    def instruments_of_keys(self, keys: Sequence[InstrumentKey]) -> list[Instrument | None]:
        """As :meth:`instrument_of_key` of each, for a whole window: what is not kept ready is looked up in one go."""
        packed = [key.packed for key in keys]
        found = {number: self._made.get(number) for number in packed}
        found.update(self._make_all([number for number, instrument in found.items() if instrument is None]))
        return [found[number] for number in packed]

    def _make_all(self, numbers: Sequence[int]) -> dict[int, Instrument]:
        wanted = np.array(numbers, dtype=np.uint64)
        places = np.minimum(self._key_sorted.searchsorted(wanted), self._key_sorted.size - 1)
        rows = self._key_row[places[self._key_sorted[places] == wanted]]
        rows = rows[(self.expiry[rows] == 0) | (self.expiry[rows] >= self.floor)]
        symbols = (self.sym_start.searchsorted(rows, side="right") - 1).tolist()
        columns = zip(*(column[rows].tolist() for column in self._codes), strict=True)
        made = {
            codes[0]: self._instrument(self.symbols[symbol], row, *codes)
            for symbol, row, codes in zip(symbols, rows.tolist(), columns, strict=True)
        }
        if len(self._made) + len(made) > INSTRUMENTS_KEPT_MAX:
            self._made.clear()
        self._made.update(made)
        return made

    def _row_of(self, number: int) -> int | None:
        packed = np.uint64(number)
        place = int(self._key_sorted.searchsorted(packed))
        if place == self._key_sorted.size or self._key_sorted[place] != packed:
            return None
        row = int(self._key_row[place])
        return row if self.is_alive(row) else None

    def is_alive(self, row: int) -> bool:
        expiry = self.expiry[row]
        return bool(expiry == 0 or expiry >= self.floor)

    def sym_of_row(self, row: int) -> int:
        return int(self.sym_start.searchsorted(row, side="right")) - 1

    def key_at(self, row: int) -> InstrumentKey:
        packed = int(self._key[row])
        return InstrumentKey(Segment(packed >> 32), packed & 0xFFFF_FFFF)

    def keys(self, group: Group) -> list[InstrumentKey]:
        """Keys of a group's rows; an exchange's rows of one instrument are of one segment."""
        segment = self.key_at(group.start).segment
        return [InstrumentKey(segment, packed & 0xFFFF_FFFF) for packed in self._key[group.start : group.stop].tolist()]

    def option_codes(self, start: int, stop: int) -> list[int]:
        """CALL or PUT of each row."""
        codes: list[int] = self._opt[start:stop].tolist()
        return codes

    def lot_and_tick(self, row: int) -> tuple[int, float]:
        return int(self._lot[row]), float(self._tick[row])

    def trading_limits(self, key: InstrumentKey) -> TradingLimits:
        row = self._row_of(key.packed)
        if row is None:
            return TradingLimits()
        lower, upper = float(self.arrays["low_limit"][row]), float(self.arrays["high_limit"][row])
        freeze = int(self.arrays["freeze"][row]) or None
        return TradingLimits(freeze_qty=freeze) if isnan(lower) else TradingLimits(lower, upper, freeze)

    def name_at(self, row: int) -> str:
        return str(self._names[self._name_start[row] : self._name_start[row + 1]], "utf-8")

    def token_at(self, sym: int, group: Group, row: int) -> str:
        """Token of a row of ``group``, without making the instrument."""
        is_option = group.kind is InstrumentKind.OPTION
        expiry = date.fromordinal(group.expiry) if group.expiry else None
        strike = float(self.strike[row]) if is_option else None
        name = _name(self.symbols[sym], group.itype, expiry, strike, int(self._opt[row]))
        return f"{group.exchange}:{name}" if self._twin[row] else name

    def instrument(self, row: int) -> Instrument:
        """One row. The latest are kept: chains on screens and on lists are asked for again and again."""
        packed = int(self._key[row])
        return self._made.get(packed) or self._make(packed, row)

    def _make(self, packed: int, row: int) -> Instrument:
        if len(self._made) >= INSTRUMENTS_KEPT_MAX:
            self._made.clear()
        symbol = self.symbols[self.sym_of_row(row)]
        made = self._made[packed] = self._instrument(symbol, row, *(int(column[row]) for column in self._codes))
        return made

    def instruments(self, group: Group) -> list[Instrument]:
        """A group's rows, by strike, call before put."""
        symbol = self.symbols[self.sym_of_row(group.start)]
        columns = (column[group.start : group.stop].tolist() for column in self._codes)
        rows = zip(range(group.start, group.stop), *columns, strict=True)
        return [self._instrument(symbol, *row) for row in rows]

    def _instrument(
        self, symbol: str, row: int, packed: int, itype: int, exch: int, opt: int, twin: int, ordinal: int, lot: int
    ) -> Instrument:
        expiry = date.fromordinal(ordinal) if ordinal else None
        strike = float(self.strike[row]) if opt else None
        exchange = EXCHANGES[exch]
        name = _name(symbol, itype, expiry, strike, opt)
        return Instrument(
            key=InstrumentKey(_SEGMENTS[packed >> 32], packed & 0xFFFF_FFFF),
            token=f"{exchange}:{name}" if twin else name,
            kind=KINDS[itype],
            exchange=exchange,
            symbol=symbol,
            name=self.name_at(row),
            lot_size=lot,
            tick=float(self._tick[row]),
            expiry=expiry,
            strike=strike,
            option_type=_OPTION_TYPES[opt] if opt else None,
        )

    def expired_counts(self) -> dict[str, int]:
        """Rows by segment name that had expired when this was loaded."""
        gone = (self.expiry > 0) & (self.expiry < self.floor)
        return self._by_segment(gone)

    def alive_counts(self) -> dict[str, int]:
        """Rows in use by segment name."""
        return self._by_segment((self.expiry == 0) | (self.expiry >= self.floor))

    def _by_segment(self, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> dict[str, int]:
        counts = np.bincount((self._key[rows] >> np.uint64(32)).astype(np.int64), minlength=len(Segment) + 1)
        return {segment.name: int(counts[segment]) for segment in Segment if counts[segment]}


def _name(symbol: str, itype: int, expiry: date | None, strike: float | None, opt: int) -> str:
    """Token of a row without its exchange (contract, section 3)."""
    if expiry is None:
        return f"{symbol}_IDX" if itype == Itype.INDEX else f"{symbol}_EQ"
    if strike is None:
        return f"{symbol}_{format_expiry(expiry)}_FUT"
    return f"{symbol}_{format_expiry(expiry)}_{format_strike(strike)}{'CE' if opt == CALL else 'PE'}"


def lines(column: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.uint8]]) -> list[str]:
    """Texts of a column that ``symbols`` wrote."""
    text = bytes(column).decode()
    return text.split(SEPARATOR) if text else []
