"""What a chain says as a whole, and the volatility and Greeks of its legs. Pure; many chains in one call.

The forward comes from put-call parity near the money, else from the future, else from spot. The volatility of a strike
is that of its out-of-the-money leg, the side whose price holds the most of it. Unknown in, unknown out: a leg without a
price of its own, or with an ask and no bid, has no volatility (contract, rule 5.11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from statistics import median

import numpy as np
import numpy.typing as npt

from app.analytics.black76 import MS_A_YEAR, greeks, implied_vol
from app.market.atm_engine import nearest

Floats = npt.NDArray[np.float64]

DEFAULT_RATE = 0.065  # a year, continuously compounded
PARITY_STRIKES = 5
PARITY_TRUST = 0.2  # a parity forward further than this from spot is a wrong price somewhere
PLACES = {"iv": 2, "delta": 4, "gamma": 7, "theta": 3, "vega": 3}


@dataclass(frozen=True, slots=True)
class Side:
    """The calls or the puts of a chain, one value a strike, NaN where not known."""

    ltp: Floats
    bid: Floats
    ask: Floats
    oi: Floats
    volume: Floats

    @property
    def mark(self) -> Floats:
        """The price to take volatility from: between bid and ask, the last one where there is no book at all.

        A one-sided book gives none. Marks are never shown.
        """
        no_book = np.isnan(self.bid) & np.isnan(self.ask)
        return np.where(no_book, self.ltp, 0.5 * (self.bid + self.ask))


@dataclass(frozen=True, slots=True)
class ChainInput:
    """One chain: ``strikes`` ascending in rupees, ``spot`` and ``future`` NaN where not known."""

    strikes: Floats
    calls: Side
    puts: Side
    spot: float
    future: float
    expiry_ms: int


@dataclass(frozen=True, slots=True)
class Summary:
    """None where what it is made of is not known. ``pcr`` is by open interest; ``atm_iv`` in percent."""

    atm_strike: float | None
    pcr: float | None
    pcr_volume: float | None
    max_pain: float | None
    straddle: float | None
    atm_iv: float | None
    total_ce_oi: int | None
    total_pe_oi: int | None
    forward: float | None


@dataclass(frozen=True, slots=True)
class ChainResult:
    """``calls`` and ``puts`` have a row a strike: iv (percent), delta, gamma, theta a day, vega a point."""

    calls: Floats
    puts: Floats
    summary: Summary


def analyse(chains: Sequence[ChainInput], now_ms: int, rate: float = DEFAULT_RATE) -> list[ChainResult]:
    """Volatility, Greeks and summary of each chain."""
    if not chains:
        return []
    sizes = [len(chain.strikes) for chain in chains]
    years = np.array([max(0.0, (chain.expiry_ms - now_ms) / MS_A_YEAR) for chain in chains])
    forwards = np.array([forward(chain, life, rate) for chain, life in zip(chains, years, strict=True)])
    strike = np.concatenate([chain.strikes for chain in chains])
    life, level = np.repeat(years, sizes), np.repeat(forwards, sizes)
    call_mark = np.concatenate([chain.calls.mark for chain in chains])
    put_mark = np.concatenate([chain.puts.mark for chain in chains])
    sigma = _strike_vol(call_mark, put_mark, level, strike, life, rate)
    calls = _leg_rows(np.where(np.isnan(call_mark), np.nan, sigma), level, strike, life, rate, is_call=True)
    puts = _leg_rows(np.where(np.isnan(put_mark), np.nan, sigma), level, strike, life, rate, is_call=False)
    results, start = [], 0
    for chain, size, at in zip(chains, sizes, forwards.tolist(), strict=True):
        part = slice(start, start + size)
        results.append(ChainResult(calls[part], puts[part], summarise(chain, calls[part], puts[part], at)))
        start += size
    return results


def forward(chain: ChainInput, years: float, rate: float) -> float:
    """The forward at expiry in rupees; NaN where nothing tells it."""
    growth = exp(rate * years)
    fallback = chain.future if chain.future > 0.0 else chain.spot * growth
    gap = chain.calls.mark - chain.puts.mark
    both = np.flatnonzero(~np.isnan(gap))
    if not both.size:
        return fallback
    distance = np.abs(chain.strikes[both] - fallback) if fallback > 0.0 else np.abs(gap[both])
    close = both[np.argsort(distance, kind="stable")[:PARITY_STRIKES]]
    implied = median((chain.strikes[close] + growth * gap[close]).tolist())
    if fallback > 0.0 and abs(implied / fallback - 1.0) > PARITY_TRUST:
        return fallback
    return implied if implied > 0.0 else fallback


def _strike_vol(calls: Floats, puts: Floats, level: Floats, strike: Floats, life: Floats, rate: float) -> Floats:
    is_call = strike >= level
    outer, inner = np.where(is_call, calls, puts), np.where(is_call, puts, calls)
    sigma = implied_vol(outer, level, strike, life, rate, is_call)
    # No out-of-the-money price: what time value the other leg shows has to do.
    left = np.flatnonzero(np.isnan(outer) & ~np.isnan(inner))
    if left.size:
        sigma[left] = implied_vol(inner[left], level[left], strike[left], life[left], rate, ~is_call[left])
    return sigma


def _leg_rows(sigma: Floats, level: Floats, strike: Floats, life: Floats, rate: float, *, is_call: bool) -> Floats:
    rows = np.full((len(sigma), len(PLACES)), np.nan)
    known = np.flatnonzero(~np.isnan(sigma))
    if known.size:
        told = greeks(level[known], strike[known], life[known], rate, sigma[known], is_call)
        columns = (100.0 * sigma[known], told.delta, told.gamma, told.theta, told.vega)
        for place, (column, digits) in enumerate(zip(columns, PLACES.values(), strict=True)):
            rows[known, place] = np.round(column, digits) + 0.0
    return rows


def summarise(chain: ChainInput, calls: Floats, puts: Floats, level: float) -> Summary:
    """The strip above a chain; ``calls`` and ``puts`` are the leg rows of :class:`ChainResult`."""
    atm = nearest(chain.strikes, chain.spot) if chain.spot > 0.0 and len(chain.strikes) else None
    ce_oi, pe_oi = _total(chain.calls.oi), _total(chain.puts.oi)
    return Summary(
        atm_strike=None if atm is None else float(chain.strikes[atm]),
        pcr=_ratio(pe_oi, ce_oi),
        pcr_volume=_ratio(_total(chain.puts.volume), _total(chain.calls.volume)),
        max_pain=max_pain(chain),
        straddle=None if atm is None else _known(chain.calls.ltp[atm] + chain.puts.ltp[atm], 4),
        atm_iv=None if atm is None else _known(np.where(np.isnan(calls[atm, 0]), puts[atm, 0], calls[atm, 0]), 2),
        total_ce_oi=ce_oi,
        total_pe_oi=pe_oi,
        forward=_known(level, 2),
    )


def max_pain(chain: ChainInput) -> float | None:
    """The strike at which option buyers would be paid the least; the lowest of several; None without any OI."""
    both = np.stack((chain.calls.oi, chain.puts.oi))
    both[np.isnan(both)] = 0.0
    below, below_value = both.cumsum(axis=1), (both * chain.strikes).cumsum(axis=1)
    if not below[:, -1].any():
        return None
    paid_calls = below[0] * chain.strikes - below_value[0]
    paid_puts = below_value[1, -1] - below_value[1] - (below[1, -1] - below[1]) * chain.strikes
    return float(chain.strikes[int(np.argmin(paid_calls + paid_puts))])


def _total(column: Floats) -> int | None:
    unknown = np.isnan(column)
    return None if unknown.all() else int(column.sum(where=~unknown))


def _ratio(over: int | None, under: int | None) -> float | None:
    return round(over / under, 4) if over is not None and under else None


def _known(value: npt.ArrayLike, places: int) -> float | None:
    number = float(np.asarray(value))
    return None if np.isnan(number) else round(number, places)
