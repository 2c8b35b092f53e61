"""The columns of a stream row, in wire order, and how each is written. Pure. Described in ``docs/STREAM.md``."""

from __future__ import annotations

from enum import StrEnum

from app.market.live_prices import BOARD_FIELDS
from app.market.session_oi import OI_BASIS_NAMES
from app.market.states import STATES


class Kind(StrEnum):
    """What a column holds. Binary form in brackets."""

    PRICE = "price"  # rupees [i32 hundredths, or f64 where the tick is finer]
    COUNT = "count"  # whole units [u32]
    SIGNED = "signed"  # whole units, either sign [f64]
    REAL = "real"  # [f32]
    MOMENT = "moment"  # epoch milliseconds [f64]
    CODE = "code"  # place in a list of names [u32]


ROW_FIELDS = (*BOARD_FIELDS, "age_ms", "state", "iv", "delta", "gamma", "theta", "vega", "oi_basis")
FIELD_INDEX = {name: place for place, name in enumerate(ROW_FIELDS)}
BOARD_WIDTH = len(BOARD_FIELDS)
GREEKS = slice(FIELD_INDEX["iv"], FIELD_INDEX["vega"] + 1)

_KINDS = {
    "change_pct": Kind.REAL,
    "oi_change": Kind.SIGNED,
    "ltt_ms": Kind.MOMENT,
    "state": Kind.CODE,
    "oi_basis": Kind.CODE,
    **dict.fromkeys(("iv", "delta", "gamma", "theta", "vega"), Kind.REAL),
    **dict.fromkeys(("ltp", "change", "bid", "ask", "atp", "open", "high", "low", "prev_close"), Kind.PRICE),
}
FIELD_KINDS = tuple(_KINDS.get(name, Kind.COUNT) for name in ROW_FIELDS)

CODE_NAMES: dict[str, tuple[str | None, ...]] = {
    "state": tuple(str(state) for state in STATES),
    "oi_basis": tuple(OI_BASIS_NAMES[basis] for basis in sorted(OI_BASIS_NAMES)),
}
