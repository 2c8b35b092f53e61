"""Layout of one board row: the wire's own Full image plus what the service adds.

A row keeps the bytes of the newest packets at the offsets of a Full packet (protocol notes, 2.7), so that a decoder
copies and never converts; readers take columns through :data:`ROW_DTYPE`. Both decoders write it, bit for bit alike.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np

ROW_BYTES = 256


class Has(IntFlag):
    """Which parts of a row have ever been filled since the instrument was tracked."""

    TICKER = 1  # ltp, ltt
    QUOTE = 2  # day fields: ltq, atp, volume, totals, OHLC
    FULL = 4  # depth, oi_high, oi_low
    OI = 8
    PREV_CLOSE = 16  # latched for this session


DEPTH_DTYPE = np.dtype(
    {
        "names": ["bid_qty", "ask_qty", "bid_orders", "ask_orders", "bid_price", "ask_price"],
        "formats": ["<u4", "<u4", "<u2", "<u2", "<f4", "<f4"],
        "offsets": [0, 4, 8, 10, 12, 16],
        "itemsize": 20,
    }
)

_FIELDS: dict[str, tuple[object, int]] = {
    "has": ("u1", 0),
    "ltp": ("<f4", 8),
    "ltq": ("<u2", 12),
    "ltt": ("<u4", 14),
    "atp": ("<f4", 18),
    "volume": ("<u4", 22),
    "total_sell_qty": ("<u4", 26),
    "total_buy_qty": ("<u4", 30),
    "oi": ("<u4", 34),
    "oi_high": ("<u4", 38),
    "oi_low": ("<u4", 42),
    "open": ("<f4", 46),
    "close_raw": ("<f4", 50),
    "high": ("<f4", 54),
    "low": ("<f4", 58),
    "depth": ((DEPTH_DTYPE, (5,)), 62),
    "prev_close": ("<f4", 164),
    "prev_oi": ("<u4", 168),
    "first_ms": ("<i8", 176),  # receive time of the first packet since tracked, epoch ms UTC; 0: none yet
    "last_ms": ("<i8", 184),  # receive time of the newest packet
    "packets": ("<u4", 192),
    "usual_gap_ms": ("<f4", 196),  # moving average of the time between packets; 0: fewer than two
}

ROW_DTYPE = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": [kind for kind, _ in _FIELDS.values()],
        "offsets": [offset for _, offset in _FIELDS.values()],
        "itemsize": ROW_BYTES,
    }
)


def offset_of(field: str) -> int:
    """Byte offset of a field inside a row."""
    return _FIELDS[field][1]
