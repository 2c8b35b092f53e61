"""Prices that hang together, for the simulated exchange. Pure: time comes in, randomness is seeded.

Spots walk; futures carry a basis; options follow Black-76 on their forward under a smile; the book is sorted and never
crossed; volume only grows within a day. Everything is kept in columns, one slot per instrument, and one call moves
thousands of slots at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, InstrumentKind, OptionType, Segment
from app.core.instruments import Instrument
from app.core.packets import IST_OFFSET_S
from app.dhan.codec import FULL, FULL_DTYPE, PACKET_BYTES, QUOTE, QUOTE_DTYPE, TICKER, TICKER_DTYPE
from app.sim.smile import Floats, black76, smile_vol

Slots = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]

DAY_S = 86_400
YEAR_S = 365.0 * DAY_S
SESSION_S = 22_500.0  # an NSE session: the daily volatilities below are per session
PULL_S = 21_600.0  # spots are drawn back to their reference over this time, so that a soak does not wander off
INTEREST = 0.065
MARKET_SHARE = 0.7  # correlation of every spot with the common factor
YEARS_MIN = 1.0 / (365.0 * 24.0)  # an option in its last hour keeps one hour of life

INTERVAL_MIN_S, INTERVAL_MAX_S = 0.25, 0.9  # between two updates of one instrument at rate 1
INTERVAL_ATM_S = 0.3
TRADE_SHARE = 0.5  # of updates that are a trade; the others only move the book
U32_MAX = 0xFFFF_FFFF
DEPTH = 5

_CLOSE_S = {Segment.MCX_COMM: 84_600}  # end of trading, seconds after IST midnight
_CLOSE_DEFAULT_S = 55_800


class Directory(Protocol):
    """Where the exchange finds its contracts; given by the composition root."""

    def instrument(self, key: InstrumentKey) -> Instrument | None:
        """The listed instrument, or None: the exchange then stays silent."""
        ...

    def underlying_of(self, instrument: Instrument) -> Instrument | None:
        """The index, cash line or future whose price it follows; None if it follows its own."""
        ...

    def reference_price(self, underlying: Instrument) -> float:
        """Where the walk of an underlying starts, in rupees."""
        ...


@dataclass(frozen=True, slots=True)
class MarketShape:
    """How the market behaves. ``untraded`` is the share of option contracts that never trade and so send nothing."""

    seed: int = 1
    rate: float = 1.0  # multiplies how often instruments update
    untraded: float = 0.0
    volatility: float = 1.0  # multiplies every spot's walk; 0 holds the spots still


_STATE = np.dtype(
    [
        ("driver", "<i4"),
        ("call", "?"),
        ("option", "?"),
        ("index", "?"),
        ("derivative", "?"),
        ("carries", "?"),  # its forward grows from a spot; an option on a future takes the future's own price
        ("strike", "<f8"),
        ("expires_s", "<f8"),
        ("tick", "<f8"),
        ("lot", "<f8"),
        ("interval_s", "<f8"),
        ("ltp", "<f8"),
        ("ltq", "<f8"),
        ("traded_s", "<f8"),
        ("volume", "<f8"),
        ("turnover", "<f8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("prev_close", "<f8"),
        ("oi", "<f8"),
        ("prev_oi", "<f8"),
        ("oi_high", "<f8"),
        ("oi_low", "<f8"),
        ("day", "<i8"),
        ("luck", "<f8"),  # a fixed number in [0, 1) per contract and seed
    ]
)


def ist_day(now_s: float) -> int:
    """Number of the IST calendar day that an epoch second falls into."""
    return int((now_s + IST_OFFSET_S) // DAY_S)


def luck(seed: int, number: int) -> float:
    """A fixed number in [0, 1) for ``number``, even and unrelated between neighbours (splitmix64)."""
    mixed = (number * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & 0xFFFF_FFFF_FFFF_FFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFF_FFFF_FFFF_FFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFF_FFFF_FFFF_FFFF
    return ((mixed ^ (mixed >> 31)) >> 11) / float(1 << 53)


def expiry_epoch_s(day: date, segment: Segment) -> float:
    """The end of trading on the expiry day, as a true epoch second."""
    days = day.toordinal() - date(1970, 1, 1).toordinal()
    return days * DAY_S + _CLOSE_S.get(segment, _CLOSE_DEFAULT_S) - IST_OFFSET_S


class Drivers:
    """OWNS the walks of the underlyings. Lines of one symbol share a walk, so that they never drift apart."""

    def __init__(self, shape: MarketShape) -> None:
        self._shape = shape
        self._rng = np.random.Generator(np.random.PCG64([shape.seed, 1]))
        self._index: dict[InstrumentKey, int] = {}
        self._groups: dict[str, int] = {}
        self._now_s: float | None = None
        self.base: Floats = np.empty(0)
        self.gap: Floats = np.empty(0)  # log move from the previous close to the reference
        self.atm_vol: Floats = np.empty(0)  # per year
        self.group: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.walk: Floats = np.empty(0)  # per group, log distance from the reference
        self.daily_vol: Floats = np.empty(0)

    def index_of(self, driver: Instrument, reference_price: Callable[[Instrument], float]) -> int:
        """The walk's number for an underlying, made on first use. Without a usable reference one is drawn."""
        known = self._index.get(driver.key)
        if known is not None:
            return known
        fate = luck(self._shape.seed, driver.key.packed)
        reference = reference_price(driver)
        base = reference if math.isfinite(reference) and reference > 0 else 100.0 + 1900.0 * fate
        group = self._group_of(driver)
        self.base = np.append(self.base, base)
        self.gap = np.append(self.gap, (fate - 0.5) * self.daily_vol[group])
        self.atm_vol = np.append(self.atm_vol, self.daily_vol[group] * math.sqrt(252.0))
        self.group = np.append(self.group, group)
        self._index[driver.key] = number = len(self._index)
        return number

    def _group_of(self, driver: Instrument) -> int:
        group = self._groups.get(driver.symbol)
        if group is None:
            self._groups[driver.symbol] = group = len(self._groups)
            fate = luck(self._shape.seed, hash_text(driver.symbol))
            calm = driver.kind is InstrumentKind.INDEX
            self.daily_vol = np.append(self.daily_vol, 0.008 + 0.003 * fate if calm else 0.012 + 0.012 * fate)
            self.walk = np.append(self.walk, 0.0)
        return group

    def advance(self, now_s: float) -> None:
        """Walk on to ``now_s``; going back in time does nothing."""
        elapsed = 0.0 if self._now_s is None else now_s - self._now_s
        self._now_s = now_s if self._now_s is None else max(self._now_s, now_s)
        if elapsed <= 0.0 or not self.walk.size:
            return
        noise = self._rng.standard_normal(self.walk.size + 1)
        step = MARKET_SHARE * noise[0] + math.sqrt(1.0 - MARKET_SHARE**2) * noise[1:]
        self.walk *= math.exp(-elapsed / PULL_S)
        self.walk += self._shape.volatility * self.daily_vol * math.sqrt(elapsed / SESSION_S) * step

    def jump(self, symbol: str, share: float) -> bool:
        """Move a symbol's spot by ``share`` (0.05 is five per cent) at once; False if nobody asked for it yet."""
        group = self._groups.get(symbol)
        if group is None or share <= -1.0:
            return False
        self.walk[group] += math.log1p(share)
        return True

    def spot(self, drivers: npt.NDArray[np.int32]) -> Floats:
        return np.asarray(self.base[drivers] * np.exp(self.walk[self.group[drivers]]))


def hash_text(text: str) -> int:
    """A stable number for a text (FNV-1a); ``hash`` differs between processes."""
    number = 0xCBF29CE484222325
    for byte in text.encode():
        number = ((number ^ byte) * 0x100000001B3) & 0xFFFF_FFFF_FFFF_FFFF
    return number


class Market:
    """OWNS every instrument that anybody ever subscribed: its state and its newest packet image.

    ``rows`` holds one Full packet per slot, always complete; Quote and Ticker packets are cut from it.
    """

    def __init__(self, directory: Directory, shape: MarketShape) -> None:
        self._directory = directory
        self._shape = shape
        self._rng = np.random.Generator(np.random.PCG64([shape.seed, 2]))
        self._slot_of: dict[InstrumentKey, int] = {}
        self._chains: dict[tuple[Segment, str, date | None], Instrument] = {}
        self.keys: list[InstrumentKey] = []
        self.drivers = Drivers(shape)
        self._state: Rows = np.zeros(0, dtype=_STATE)
        self.rows: Rows = np.zeros(0, dtype=FULL_DTYPE)
        self.next_due: Floats = np.zeros(0)
        self.segment: npt.NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
        self.silent: Bools = np.zeros(0, dtype=np.bool_)
        self.speed = 1.0  # a burst multiplies the update rate

    @property
    def capacity(self) -> int:
        return self._state.size

    def slot(self, key: InstrumentKey) -> int | None:
        return self._slot_of.get(key)

    def previous_oi(self, slot: int) -> int:
        """What a contract's OI was when the session before ended."""
        return int(self._state["prev_oi"][slot])

    def is_index(self, slot: int) -> bool:
        return bool(self._state["index"][slot])

    def is_derivative(self, slots: Slots) -> Bools:
        return np.asarray(self._state["derivative"][slots])

    def prev_close(self, slot: int) -> float:
        return float(self._state["prev_close"][slot])

    def admit(self, keys: Sequence[InstrumentKey], now_s: float, is_open: Bools) -> list[int | None]:
        """Slots of these keys, listed on first use; None for a key that is no instrument.

        ``is_open`` tells per segment byte whether it trades now: a contract first seen out of session gets the image
        of its last session.
        """
        fresh = [key for key in dict.fromkeys(keys) if key not in self._slot_of]
        listed = [found for found in map(self._directory.instrument, fresh) if found is not None]
        if listed:
            self._list(listed, now_s, is_open)
        return [self._slot_of.get(key) for key in keys]

    def _list(self, instruments: Sequence[Instrument], now_s: float, is_open: Bools) -> None:
        first, last = len(self.keys), len(self.keys) + len(instruments)
        self._grow(last)
        for slot, instrument in enumerate(instruments, first):
            self._slot_of[instrument.key] = slot
            self.keys.append(instrument.key)
            self._describe(slot, instrument)
        slots = np.arange(first, last, dtype=np.intp)
        self._open_day(slots, now_s, is_open[self.segment[slots]])

    def _grow(self, wanted: int) -> None:
        if wanted <= self.capacity:
            return
        extra = max(wanted, 2 * self.capacity, 4_096) - self.capacity
        self._state = np.concatenate([self._state, np.zeros(extra, dtype=_STATE)])
        self.rows = np.concatenate([self.rows, np.zeros(extra, dtype=FULL_DTYPE)])
        self.next_due = np.concatenate([self.next_due, np.zeros(extra)])
        self.segment = np.concatenate([self.segment, np.zeros(extra, dtype=np.uint8)])
        self.silent = np.concatenate([self.silent, np.zeros(extra, dtype=np.bool_)])

    def _describe(self, slot: int, instrument: Instrument) -> None:
        kind = instrument.kind
        driver = self._driver_of(instrument)
        fate = luck(self._shape.seed, instrument.key.packed)
        option = kind is InstrumentKind.OPTION
        state = self._state[slot]
        state["driver"] = self.drivers.index_of(driver, self._directory.reference_price)
        state["option"], state["call"] = option, instrument.option_type is OptionType.CE
        state["index"] = kind is InstrumentKind.INDEX
        state["derivative"] = kind in (InstrumentKind.OPTION, InstrumentKind.FUTURE)
        state["carries"] = bool(state["derivative"]) and driver.kind is not InstrumentKind.FUTURE
        state["strike"] = instrument.strike or 0.0
        if instrument.expiry is not None:
            state["expires_s"] = expiry_epoch_s(instrument.expiry, instrument.key.segment)
        state["tick"] = instrument.tick if instrument.tick > 0 else 0.01
        state["lot"] = max(1, instrument.lot_size)
        state["interval_s"] = INTERVAL_MIN_S if kind is InstrumentKind.INDEX else 0.4 + 0.5 * fate
        state["luck"] = fate
        self.segment[slot] = int(instrument.key.segment)
        self.silent[slot] = option and fate < self._shape.untraded
        row = self.rows[slot]
        row["code"], row["length"] = FULL, PACKET_BYTES[FULL]
        row["segment"], row["security_id"] = int(instrument.key.segment), instrument.key.security_id

    def _driver_of(self, instrument: Instrument) -> Instrument:
        """Whose price it follows; asked for once per chain, as all its legs follow the same."""
        if instrument.kind is not InstrumentKind.OPTION:
            return self._directory.underlying_of(instrument) or instrument
        chain = (instrument.key.segment, instrument.symbol, instrument.expiry)
        driver = self._chains.get(chain)
        if driver is None:
            self._chains[chain] = driver = self._directory.underlying_of(instrument) or instrument
        return driver

    # --- values -------------------------------------------------------------------------------------------------------

    def _fair(self, state: Rows, spot: Floats, now_s: float) -> tuple[Floats, Floats]:
        """Value and distance from the money in standard deviations, of every row of ``state``."""
        years = np.maximum((state["expires_s"] - now_s) / YEAR_S, YEARS_MIN)
        value = np.where(state["carries"], spot * np.exp(INTEREST * years), spot)
        distance = np.zeros(value.size)
        options = np.flatnonzero(state["option"])
        if options.size:
            forward, strike, life = value[options], np.maximum(state["strike"][options], 0.01), years[options]
            atm_vol = self.drivers.atm_vol[state["driver"][options]]
            vol = smile_vol(forward, strike, life, atm_vol)
            distance[options] = np.abs(np.log(strike / forward)) / (atm_vol * np.sqrt(life))
            value[options] = black76(forward, strike, life, vol, state["call"][options], INTEREST)
        return value, distance

    @staticmethod
    def _on_tick(state: Rows, value: Floats) -> tuple[Floats, Floats]:
        ticks = np.maximum(np.rint(value / state["tick"]), 1.0)
        return ticks, np.round(ticks * state["tick"], 4)

    def _open_day(self, slots: Slots, now_s: float, is_open: Bools) -> None:
        """First image of new slots: a day that opened at the reference price and is partly over."""
        state = self._state[slots]
        drivers = state["driver"]
        base, fate = self.drivers.base[drivers], state["luck"]
        state["open"] = self._on_tick(state, self._fair(state, base, now_s)[0])[1]
        before = base * np.exp(-self.drivers.gap[drivers])
        state["prev_close"] = self._on_tick(state, self._fair(state, before, now_s - DAY_S)[0])[1]
        value, distance = self._fair(state, self.drivers.spot(drivers), now_s)
        ticks, state["ltp"] = self._on_tick(state, value)
        state["high"] = np.maximum(state["open"], state["ltp"])
        state["low"] = np.minimum(state["open"], state["ltp"])
        lots = np.where(state["derivative"], 200.0 + 9_800.0 * fate * np.exp(-0.25 * distance * distance), 0.0)
        state["oi"] = np.minimum(np.rint(lots) * state["lot"], 0.5 * U32_MAX)
        state["prev_oi"] = np.minimum(np.rint(lots * 0.95) * state["lot"], state["oi"])
        state["oi_high"], state["oi_low"] = state["oi"], state["prev_oi"]
        day_lots = np.where(state["derivative"], lots, 50_000.0 + 950_000.0 * fate)
        state["volume"] = np.where(state["index"], 0.0, np.minimum(np.rint(day_lots) * state["lot"], 0.25 * U32_MAX))
        state["turnover"] = state["volume"] * 0.5 * (state["open"] + state["ltp"])
        state["ltq"] = np.where(state["index"], 0.0, state["lot"])
        state["traded_s"] = np.where(is_open, now_s, last_close_s(self.segment[slots], now_s))
        state["day"] = ist_day(now_s)
        self._pace(state, distance)
        self.next_due[slots] = now_s
        self._state[slots] = state
        self._draw(slots, state, ticks, is_open)

    def _roll_day(self, state: Rows, price: Floats, today: int) -> None:
        old = state["day"] != today
        if not old.any():
            return
        for field, source in (("prev_close", state["ltp"]), ("open", price), ("high", price), ("low", price)):
            state[field][old] = source[old]
        for field in ("prev_oi", "oi_high", "oi_low"):
            state[field][old] = state["oi"][old]
        state["volume"][old] = state["turnover"][old] = 0.0
        state["ltp"][old] = price[old]
        state["day"][old] = today

    def _pace(self, state: Rows, distance: Floats) -> None:
        """Options far from the money update more slowly; other contracts keep their own pace."""
        pace = np.clip(INTERVAL_ATM_S * np.exp2(distance), INTERVAL_MIN_S, INTERVAL_MAX_S)
        state["interval_s"] = np.where(state["option"], pace, state["interval_s"])

    def due(self, active: Slots, now_s: float, is_open: Bools) -> Slots:
        """Those of ``active`` whose next update has come and whose segment trades."""
        ready = active[self.next_due[active] <= now_s]
        return np.asarray(ready[is_open[self.segment[ready]]])

    def hurry(self, slots: Slots, now_s: float) -> None:
        """Make these due at once."""
        self.next_due[slots] = now_s

    def refresh(self, slots: Slots, now_s: float) -> None:
        """Move these slots to now: a trade or a change of the book each. Their segments must be in session."""
        if not slots.size:
            return
        state = self._state[slots]
        value, distance = self._fair(state, self.drivers.spot(state["driver"]), now_s)
        ticks, price = self._on_tick(state, value)
        self._roll_day(state, price, ist_day(now_s))
        chance = self._rng.random((3, slots.size))
        traded = state["index"] | (chance[0] < TRADE_SHARE)
        self._trade(state, traded, price, chance[1], now_s)
        self._change_oi(state, traded, chance[2])
        self._pace(state, distance)
        wait = state["interval_s"] * (0.5 + chance[1]) / max(self._shape.rate * self.speed, 1e-6)
        self.next_due[slots] = now_s + wait
        self._state[slots] = state
        self._draw(slots, state, ticks, np.ones(slots.size, dtype=np.bool_))

    def settle(self, slots: Slots) -> None:
        """Out of session: the close field of these turns into the last price (protocol notes, 2.8)."""
        tradable = slots[~self._state["index"][slots]]
        self.rows["close_raw"][tradable] = self.rows["ltp"][tradable]

    @staticmethod
    def _trade(state: Rows, traded: Bools, price: Floats, chance: Floats, now_s: float) -> None:
        lots = np.floor(1.0 + 12.0 * chance**3 * np.minimum(1.0, 2_000.0 / state["lot"]))
        quantity = np.where(traded & ~state["index"], lots * state["lot"], 0.0)
        quantity = np.minimum(quantity, U32_MAX - state["volume"])
        state["ltp"] = np.where(traded, price, state["ltp"])
        state["ltq"] = np.where(quantity > 0, quantity, state["ltq"])
        state["traded_s"] = np.where(traded, now_s, state["traded_s"])
        state["volume"] += quantity
        state["turnover"] += quantity * price
        state["high"] = np.maximum(state["high"], state["ltp"])
        state["low"] = np.minimum(state["low"], state["ltp"])

    @staticmethod
    def _change_oi(state: Rows, traded: Bools, chance: Floats) -> None:
        change = np.floor(6.0 * chance - 2.0) * state["lot"]  # -2 to +3 lots: it grows over a day
        change = np.where(traded & state["derivative"], change, 0.0)
        state["oi"] = np.clip(state["oi"] + change, 0.0, U32_MAX)
        state["oi_high"] = np.maximum(state["oi_high"], state["oi"])
        state["oi_low"] = np.minimum(state["oi_low"], state["oi"])

    # --- packet images ------------------------------------------------------------------------------------------------

    def _draw(self, slots: Slots, state: Rows, ticks: Floats, is_open: Bools) -> None:
        rows = self.rows[slots]
        for name in ("ltp", "volume", "open", "high", "low", "oi", "oi_high", "oi_low"):
            rows[name] = state[name]
        rows["ltq"] = np.minimum(state["ltq"], 0xFFFF)
        rows["ltt"] = state["traded_s"] + IST_OFFSET_S
        rows["atp"] = np.where(state["volume"] > 0, state["turnover"] / np.maximum(state["volume"], 1.0), state["ltp"])
        # The close field: the previous close while trading, today's afterwards, nothing for an index (notes, 2.8).
        close = np.where(is_open, state["prev_close"], state["ltp"])
        rows["close_raw"] = np.where(state["index"], 0.0, close)
        self._draw_depth(rows, state, ticks)
        self.rows[slots] = rows

    def _draw_depth(self, rows: Rows, state: Rows, ticks: Floats) -> None:
        count = ticks.size
        chance = self._rng.random((5, count, DEPTH))
        spread = np.clip(np.rint(ticks * 5e-4), 1.0, 40.0)
        bid = ticks - np.floor(chance[0, :, 0] * (spread + 1.0))
        ask = bid + spread  # at least one tick above: never crossed
        away = np.arange(DEPTH) * (1.0 + np.floor(spread / 3.0))[:, None]
        bids, asks = bid[:, None] - away, ask[:, None] + away
        tick, lot = state["tick"][:, None], state["lot"][:, None]
        there, depth = bids >= 1.0, rows["depth"]  # a bid below one tick is no level: zeros, as Dhan sends them
        depth["bid_price"] = np.where(there, np.round(bids * tick, 4), 0.0)
        depth["ask_price"] = np.round(asks * tick, 4)
        quantities = np.minimum(np.floor(1.0 + 30.0 * chance[1:3]) * lot, U32_MAX / (4 * DEPTH))
        depth["bid_qty"] = np.where(there, quantities[0], 0.0)
        depth["ask_qty"] = quantities[1]
        depth["bid_orders"] = np.where(there, np.floor(1.0 + 12.0 * chance[3]), 0.0)
        depth["ask_orders"] = np.floor(1.0 + 12.0 * chance[4])
        tradable = ~state["index"]
        rows["total_buy_qty"] = np.where(tradable, depth["bid_qty"].sum(axis=1) * 3.0, 0.0)
        rows["total_sell_qty"] = np.where(tradable, depth["ask_qty"].sum(axis=1) * 3.0, 0.0)

    def full_packets(self, slots: Slots) -> Rows:
        return self.rows[slots]

    def quote_packets(self, slots: Slots) -> Rows:
        return _cut(self.rows[slots], QUOTE_DTYPE, QUOTE)

    def ticker_packets(self, slots: Slots) -> Rows:
        return _cut(self.rows[slots], TICKER_DTYPE, TICKER)


def last_close_s(segments: npt.NDArray[np.uint8], now_s: float) -> Floats:
    """The most recent end of trading per segment byte, by the clock alone: days off are not known here."""
    ends = np.array([_CLOSE_S.get(Segment(int(s)), _CLOSE_DEFAULT_S) for s in segments], dtype=np.float64)
    midnight = ist_day(now_s) * DAY_S - IST_OFFSET_S
    closed = midnight + ends
    return np.where(closed <= now_s, closed, closed - DAY_S)


def _cut(rows: Rows, kind: np.dtype[np.void], code: int) -> Rows:
    packets = np.empty(rows.size, dtype=kind)
    for name in kind.names or ():
        packets[name] = rows[name]
    packets["code"], packets["length"] = code, PACKET_BYTES[code]
    return packets
