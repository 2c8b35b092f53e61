"""One listed instrument, as every part of the house knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Mode, OptionType


@dataclass(frozen=True, slots=True)
class Instrument:
    """A row of the instrument master.

    ``symbol`` is Dhan's underlying symbol (``NIFTY``, ``M&M``). ``strike`` is in rupees and exact: listed strikes
    have at most four decimals. ``tick`` is in rupees, already converted from the master's paise. ``lot_size`` is in
    units of the exchange (1 on MCX means one lot).
    """

    key: InstrumentKey
    token: str
    kind: InstrumentKind
    exchange: Exchange
    symbol: str
    name: str
    lot_size: int
    tick: float
    expiry: date | None = None
    strike: float | None = None
    option_type: OptionType | None = None

    @property
    def mode(self) -> Mode:
        """Full for tradables, Quote for indices: Full for an index is unproven (protocol notes, 2.13)."""
        return Mode.QUOTE if self.kind is InstrumentKind.INDEX else Mode.FULL
