"""Packets of the live feed as values. Offsets, types and traps: protocol notes, section 2.

Prices are float32 values widened to float: round to the instrument's tick before showing one. ``ltt`` is the raw
field, an IST wall clock written as if it were an epoch; see :func:`utc_from_ltt`.
"""

from __future__ import annotations

from typing import NamedTuple

from app.core.ids import InstrumentKey

IST_OFFSET_S = 19_800


def utc_from_ltt(ltt: int) -> int:
    """True epoch seconds of a raw last-trade time (protocol notes, 2.10)."""
    return ltt - IST_OFFSET_S


def ltt_from_utc(epoch_s: float) -> int:
    """Raw last-trade time as Dhan writes it for a true epoch."""
    return int(epoch_s) + IST_OFFSET_S


class Ticker(NamedTuple):
    """Code 2."""

    key: InstrumentKey
    ltp: float
    ltt: int


class PrevClose(NamedTuple):
    """Code 6: in practice for indices only."""

    key: InstrumentKey
    prev_close: float
    prev_oi: int


class Quote(NamedTuple):
    """Code 4. ``close_raw`` is the previous close during the session, today's afterwards."""

    key: InstrumentKey
    ltp: float
    ltq: int
    ltt: int
    atp: float
    volume: int
    total_sell_qty: int
    total_buy_qty: int
    open: float
    close_raw: float
    high: float
    low: float


class OpenInterest(NamedTuple):
    """Code 5."""

    key: InstrumentKey
    oi: int


class DepthLevel(NamedTuple):
    """One of five levels; price 0 means no level."""

    bid_qty: int
    ask_qty: int
    bid_orders: int
    ask_orders: int
    bid_price: float
    ask_price: float


class Full(NamedTuple):
    """Code 8."""

    key: InstrumentKey
    ltp: float
    ltq: int
    ltt: int
    atp: float
    volume: int
    total_sell_qty: int
    total_buy_qty: int
    oi: int
    oi_high: int
    oi_low: int
    open: float
    close_raw: float
    high: float
    low: float
    depth: tuple[DepthLevel, ...]


class MarketStatus(NamedTuple):
    """Code 7: header only as far as anybody has seen."""

    key: InstrumentKey


class Disconnect(NamedTuple):
    """Code 50. Reasons: protocol notes, 3.2."""

    reason: int


class Unknown(NamedTuple):
    """A packet of another code, or of a segment byte that is not assigned; skipped by its length."""

    code: int
    length: int


Packet = Ticker | PrevClose | Quote | OpenInterest | Full | MarketStatus | Disconnect | Unknown
