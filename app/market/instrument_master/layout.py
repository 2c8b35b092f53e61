"""The columns of Dhan's instrument files and the codes of our snapshot. Facts: protocol notes, section 4. Pure.

Two layouts exist, detailed and compact, and both drift: they are read by column name, extras are ignored and a
trailing comma is tolerated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from app.core.ids import Exchange, InstrumentKind, Segment

SEGMENTS: dict[tuple[str, str], Segment] = {
    ("NSE", "I"): Segment.IDX_I,
    ("BSE", "I"): Segment.IDX_I,
    ("NSE", "E"): Segment.NSE_EQ,
    ("NSE", "D"): Segment.NSE_FNO,
    ("NSE", "C"): Segment.NSE_CURRENCY,
    ("BSE", "E"): Segment.BSE_EQ,
    ("BSE", "D"): Segment.BSE_FNO,
    ("BSE", "C"): Segment.BSE_CURRENCY,
    ("MCX", "M"): Segment.MCX_COMM,
}
"""Which (exchange, segment) has a feed code; the master does not say it (protocol notes, 4.2)."""

EXCHANGES: tuple[Exchange, ...] = tuple(Exchange)
"""Exchange codes of the snapshot, in order of precedence."""

SEPARATOR = "\n"  # between the texts of one column


class Itype(IntEnum):
    """INSTRUMENT of the file; the order is the order of a symbol's rows in the snapshot."""

    INDEX = 0
    EQUITY = 1
    FUTIDX = 2
    FUTSTK = 3
    FUTCOM = 4
    FUTCUR = 5
    OPTIDX = 6
    OPTSTK = 7
    OPTFUT = 8
    OPTCUR = 9


KINDS: tuple[InstrumentKind, ...] = (
    InstrumentKind.INDEX,
    InstrumentKind.EQUITY,
    *([InstrumentKind.FUTURE] * 4),
    *([InstrumentKind.OPTION] * 4),
)
"""Kind of each :class:`Itype`."""

NO_EXPIRY = 0
CALL, PUT = 1, 2
TEST_SCRIP = "NSETEST"

DETAILED = {
    "exchange": "EXCH_ID",
    "segment": "SEGMENT",
    "id": "SECURITY_ID",
    "instrument": "INSTRUMENT",
    "symbol": "UNDERLYING_SYMBOL",
    "name": "DISPLAY_NAME",
    "type": "INSTRUMENT_TYPE",
    "series": "SERIES",
    "lot": "LOT_SIZE",
    "expiry": "SM_EXPIRY_DATE",
    "strike": "STRIKE_PRICE",
    "option": "OPTION_TYPE",
    "tick": "TICK_SIZE",
    "low_limit": "SM_LOWER_LIMIT",
    "high_limit": "SM_UPPER_LIMIT",
    "freeze": "SM_FREEZE_QTY",
}
COMPACT = {
    "exchange": "SEM_EXM_EXCH_ID",
    "segment": "SEM_SEGMENT",
    "id": "SEM_SMST_SECURITY_ID",
    "instrument": "SEM_INSTRUMENT_NAME",
    "symbol": "SEM_TRADING_SYMBOL",
    "name": "SEM_CUSTOM_SYMBOL",
    "type": "SEM_EXCH_INSTRUMENT_TYPE",
    "series": "SEM_SERIES",
    "lot": "SEM_LOT_UNITS",
    "expiry": "SEM_EXPIRY_DATE",
    "strike": "SEM_STRIKE_PRICE",
    "option": "SEM_OPTION_TYPE",
    "tick": "SEM_TICK_SIZE",
}
OPTIONAL = frozenset({"type", "series", "low_limit", "high_limit", "freeze"})
"""Columns without which a file can still be read."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which of a file's columns is which: our name to position."""

    name: str
    positions: dict[str, int]
    width: int


def recognise(header: list[str]) -> Layout | list[str]:
    """Find the layout of a header line, or the core columns that neither layout finds in it."""
    cleaned = [cell.strip().strip('"').upper() for cell in header]
    missing: list[str] = []
    for name, columns in (("detailed", DETAILED), ("compact", COMPACT)):
        absent = [wanted for ours, wanted in columns.items() if wanted not in cleaned and ours not in OPTIONAL]
        if not absent:
            found = {ours: cleaned.index(wanted) for ours, wanted in columns.items() if wanted in cleaned}
            return Layout(name, found, len(cleaned))
        if not missing or len(absent) < len(missing):
            missing = absent
    return missing


class Lists(IntFlag):
    """What a symbol has listed."""

    INDEX_DERIVATIVE = 1
    STOCK_DERIVATIVE = 2
    COMMODITY_DERIVATIVE = 4
    CURRENCY_DERIVATIVE = 8
    INDEX = 16
    SHARE = 32  # ordinary share or fund, not debt
    CASH = 64
