"""The summary of a chain as it goes to clients: what the options say together, and what stands beside them. Pure."""

from __future__ import annotations

from math import isnan, nan
from typing import NamedTuple

from app.analytics.chain import Summary
from app.core.sessions import Phase
from app.market.chain_view import ChainLegs
from app.stream.frames import Doc

BASIS_PLACES = 4


class DriverQuote(NamedTuple):
    """The cells of an underlying's or a future's row that a summary shows; NaN where not known."""

    ltp: float = nan
    change: float = nan
    change_pct: float = nan
    oi_change: float = nan


class Timing(NamedTuple):
    """``session`` is that of the options' segment; ``days_left`` counts calendar days, 0 on the day of expiry."""

    session: Phase
    days_left: int


def summary_doc(
    legs: ChainLegs, told: Summary, spot: DriverQuote, *, is_live: bool, future: DriverQuote, timing: Timing
) -> Doc:
    """``is_live``: the spot is no old price. Unknown is None throughout."""
    is_known = spot.ltp > 0.0
    spot_ltp = spot.ltp if is_known else None
    future_ltp = _known(future.ltp)
    return {
        "underlying_ltp": spot_ltp,
        "underlying_source": ("live" if is_live else "last") if is_known else None,
        "underlying": legs.underlying.token if legs.underlying else None,
        "atm_strike": told.atm_strike,
        "pcr": told.pcr,
        "pcr_volume": told.pcr_volume,
        "max_pain": told.max_pain,
        "straddle": told.straddle,
        "atm_iv": told.atm_iv,
        "total_ce_oi": told.total_ce_oi,
        "total_pe_oi": told.total_pe_oi,
        "forward": told.forward,
        "future": legs.shown_future.token if legs.shown_future else None,
        "future_ltp": future_ltp,
        "future_change_pct": _known(future.change_pct),
        "future_buildup": buildup(future.change, future.oi_change),
        "basis": basis(future_ltp, spot_ltp),
        "lot_size": legs.lot_size,
        "expiry_ms": legs.expiry_ms,
        "days_left": timing.days_left,
        "session": timing.session,
    }


def basis(future_ltp: float | None, underlying_ltp: float | None) -> float | None:
    """How far the future stands above the underlying, in rupees."""
    return None if future_ltp is None or underlying_ltp is None else round(future_ltp - underlying_ltp, BASIS_PLACES)


def buildup(change: float, oi_change: float) -> str | None:
    """What a change of price and one of open interest say together; None where either is unknown or zero."""
    if not abs(change) > 0.0 or not abs(oi_change) > 0.0:
        return None
    if oi_change > 0.0:
        return "long_buildup" if change > 0.0 else "short_buildup"
    return "short_covering" if change > 0.0 else "long_unwinding"


def _known(value: float) -> float | None:
    return None if isnan(value) else value
