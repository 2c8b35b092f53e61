"""What a chain says as a whole, and the volatility and Greeks of its legs. Pure; many chains in one call.

The forward comes from put-call parity near the money, else from the future, else from spot. The volatility of a strike
is that of its out-of-the-money leg, the side whose price holds the most of it. Unknown in, unknown out: a leg without a
price of its own, or with an ask and no bid, has no volatility (contract, rule 5.11). A leg of which nothing has
come for too long keeps its old price; what is worked out for others rests on it only where there is no newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.analytics.black76 import MS_A_YEAR, greeks, implied_vol
from app.market.atm_engine import nearest

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DEFAULT_RATE = 0.065  # a year, continuously compounded
PARITY_STRIKES = 5
PARITY_TRUST = 0.2  # a parity forward further than this from spot is a wrong price somewhere
PLACES = {"iv": 2, "delta": 4, "gamma": 7, "theta": 3, "vega": 3}


@dataclass(frozen=True, slots=True)
class Side:
    """The calls or the puts of a chain, one value a strike, NaN where not known; ``is_old``: may have moved since."""

    ltp: Floats
    bid: Floats
    ask: Floats
    oi: Floats
    volume: Floats
    is_old: Bools

    @property
    def mark(self) -> Floats:
        """The price to take volatility from: between bid and ask, the last one where there is no book at all.

        A one-sided book gives none, nor does a last price without the day's volume: it is of a session before. Marks
        are never shown.
        """
        is_last = np.isnan(self.bid) & np.isnan(self.ask) & ~np.isnan(self.volume)
        return np.where(is_last, self.ltp, 0.5 * (self.bid + self.ask))


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


class _Chains(NamedTuple):
    """Chains of equally many strikes: a row a chain, a column a strike."""

    strikes: Floats
    calls: Side
    puts: Side
    spot: Floats
    future: Floats
    years: Floats


def analyse(chains: Sequence[ChainInput], now_ms: int, rate: float = DEFAULT_RATE) -> list[ChainResult]:
    """Volatility, Greeks and summary of each chain."""
    alike: dict[int, list[int]] = {}
    for place, chain in enumerate(chains):
        alike.setdefault(len(chain.strikes), []).append(place)
    found: dict[int, ChainResult] = {}
    for places in alike.values():
        found.update(zip(places, _analyse_alike([chains[place] for place in places], now_ms, rate), strict=True))
    return [found[place] for place in range(len(chains))]


def _analyse_alike(chains: Sequence[ChainInput], now_ms: int, rate: float) -> list[ChainResult]:
    table = _side_by_side(chains, now_ms)
    marks = np.stack((table.calls.mark, table.puts.mark))
    forwards = _forwards(table, marks[0] - marks[1], rate)
    level, life = forwards[:, np.newaxis], table.years[:, np.newaxis]
    sigma = _strike_vol(table, marks, level, life, rate)
    legs = _leg_rows(marks, sigma, level, table.strikes, life, rate)
    summaries = _summaries(table, legs[..., 0], forwards)
    return [ChainResult(calls, puts, summary) for calls, puts, summary in zip(*legs, summaries, strict=True)]


def _side_by_side(chains: Sequence[ChainInput], now_ms: int) -> _Chains:
    def side(sides: Sequence[Side]) -> Side:
        return Side(*(np.array([getattr(each, name) for each in sides]) for name in Side.__slots__))

    return _Chains(
        strikes=np.array([chain.strikes for chain in chains]),
        calls=side([chain.calls for chain in chains]),
        puts=side([chain.puts for chain in chains]),
        spot=np.array([chain.spot for chain in chains]),
        future=np.array([chain.future for chain in chains]),
        years=np.maximum(0.0, np.array([chain.expiry_ms - now_ms for chain in chains]) / MS_A_YEAR),
    )


def _forwards(table: _Chains, gap: Floats, rate: float) -> Floats:
    """The forward of each chain at expiry in rupees, NaN where nothing tells it; ``gap`` is call less put."""
    growth = np.exp(rate * table.years)
    fallback = np.where(table.future > 0.0, table.future, table.spot * growth)
    gap = _current(gap, table.calls.is_old | table.puts.is_old)
    is_known = fallback > 0.0
    distance = np.where(is_known[:, np.newaxis], np.abs(table.strikes - fallback[:, np.newaxis]), np.abs(gap))
    distance[np.isnan(gap)] = np.inf
    close = np.argsort(distance, axis=1, kind="stable")[:, :PARITY_STRIKES]
    implied = _medians(np.take_along_axis(table.strikes + growth[:, np.newaxis] * gap, close, axis=1))
    is_wrong = is_known & (np.abs(implied - fallback) > PARITY_TRUST * fallback)
    return np.where((implied > 0.0) & ~is_wrong, implied, fallback)


def _current(gap: Floats, is_old: Bools) -> Floats:
    """Without the old ones, unless all are."""
    is_current = ~np.isnan(gap) & ~is_old
    return np.where(is_old & is_current.any(axis=1, keepdims=True), np.nan, gap)


def _medians(rows: Floats) -> Floats:
    """The median of what each row knows; NaN where it knows nothing."""
    known = (~np.isnan(rows)).sum(axis=1)
    ordered, each = np.sort(rows, axis=1), np.arange(len(rows))  # NaN goes last
    return np.asarray(0.5 * (ordered[each, np.maximum(known - 1, 0) // 2] + ordered[each, known // 2]))


def _strike_vol(table: _Chains, marks: Floats, level: Floats, life: Floats, rate: float) -> Floats:
    strike, (calls, puts) = table.strikes, marks
    is_call = strike >= level
    outer, inner = np.where(is_call, calls, puts), np.where(is_call, puts, calls)
    is_old = np.where(is_call, table.calls.is_old & ~table.puts.is_old, table.puts.is_old & ~table.calls.is_old)
    outer = np.where(is_old & ~np.isnan(inner), np.nan, outer)
    sigma = implied_vol(outer, level, strike, life, rate, is_call)
    # No out-of-the-money price, or an old one: what time value the other leg shows has to do.
    left = np.isnan(outer) & ~np.isnan(inner)
    if left.any():
        level, life = np.broadcast_to(level, left.shape), np.broadcast_to(life, left.shape)
        sigma[left] = implied_vol(inner[left], level[left], strike[left], life[left], rate, ~is_call[left])
    return sigma


def _leg_rows(marks: Floats, sigma: Floats, level: Floats, strike: Floats, life: Floats, rate: float) -> Floats:
    """``[side, chain, strike, column]``, NaN for a leg without a price of its own."""
    rows = np.empty((*marks.shape, len(PLACES)))
    is_call = np.array([True, False]).reshape(2, 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        told = greeks(level, strike, life, rate, sigma, is_call)
    columns = (100.0 * sigma, told.delta, told.gamma, told.theta, told.vega)
    for place, (column, digits) in enumerate(zip(columns, PLACES.values(), strict=True)):
        rows[..., place] = np.round(column, digits) + 0.0
    rows[np.isnan(marks) | np.isnan(sigma)] = np.nan
    return rows


def _summaries(table: _Chains, iv: Floats, forwards: Floats) -> list[Summary]:
    """The strip above each chain; ``iv`` in percent is ``[side, chain, strike]``."""
    ce_oi, pe_oi = _totals(table.calls.oi), _totals(table.puts.oi)
    ce_volume, pe_volume = _totals(table.calls.volume), _totals(table.puts.volume)
    pains = _max_pains(table)
    told = []
    for row, spot in enumerate(table.spot.tolist()):
        atm = nearest(table.strikes[row], spot) if spot > 0.0 else None
        at = None if atm is None else (row, atm)
        told.append(
            Summary(
                atm_strike=None if at is None else float(table.strikes[at]),
                pcr=_ratio(pe_oi[row], ce_oi[row]),
                pcr_volume=_ratio(pe_volume[row], ce_volume[row]),
                max_pain=pains[row],
                straddle=None if at is None else _known(table.calls.ltp[at] + table.puts.ltp[at], 4),
                atm_iv=None if at is None else _known(iv[1][at] if np.isnan(iv[0][at]) else iv[0][at], 2),
                total_ce_oi=ce_oi[row],
                total_pe_oi=pe_oi[row],
                forward=_known(forwards[row], 2),
            )
        )
    return told


def _max_pains(table: _Chains) -> list[float | None]:
    """The strike at which option buyers would be paid the least; the lowest of several; None without any OI."""
    both = np.stack((table.calls.oi, table.puts.oi))
    both[np.isnan(both)] = 0.0
    below, below_value = both.cumsum(axis=2), (both * table.strikes).cumsum(axis=2)
    paid_calls = below[0] * table.strikes - below_value[0]
    paid_puts = below_value[1, :, -1:] - below_value[1] - (below[1, :, -1:] - below[1]) * table.strikes
    least = np.argmin(paid_calls + paid_puts, axis=1).tolist()
    held: list[bool] = np.any(both, axis=(0, 2)).tolist()
    return [
        float(row[place]) if any_oi else None for row, place, any_oi in zip(table.strikes, least, held, strict=True)
    ]


def _totals(columns: Floats) -> list[int | None]:
    known = ~np.isnan(columns)
    sums = columns.sum(axis=1, where=known).tolist()
    return [
        int(total) if any_known else None for total, any_known in zip(sums, np.any(known, axis=1).tolist(), strict=True)
    ]


def _ratio(over: int | None, under: int | None) -> float | None:
    return round(over / under, 4) if over is not None and under else None


def _known(value: float, places: int) -> float | None:
    number = float(value)
    return None if isnan(number) else round(number, places)
