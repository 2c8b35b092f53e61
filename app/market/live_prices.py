"""The board: the newest values of every tracked instrument.

Decoders write rows straight into :attr:`LivePrices.buffers`; here they are given slots, read as columns and rounded to
the tick. Unknown stays unknown: NaN in columns, None to people (contract, rule 5.11).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.core import current
from app.core.errors import InstrumentUnknown
from app.core.ids import InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.core.packets import IST_OFFSET_S
from app.core.prices import PENNY, round_prices, round_to_tick
from app.core.rows import ROW_BYTES, Has
from app.market.clock_steps import StepBack
from app.market.session_oi import OiBasis, PreviousOi, SessionOi
from app.ports.feed import NO_SOCKET, TickBuffers

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.intp]

BOARD_SLOTS = 32_768
KNOWN_AFTER = 20  # packets: before that nobody knows how often an instrument comes
UNKNOWN_GAP_MS = 360_000.0
LONGEST_SHARE = 0.8  # of the longest silence that it came back from counts as normal
PENNIES_BLUR_AT = 131_072.0  # rupees: above it neighbouring float32 values are further apart than a paisa

# The board's part of a stream row, in the order of the contract's section 7.
BOARD_FIELDS = (
    "ltp", "change", "change_pct", "bid", "ask", "bid_qty", "ask_qty", "ltq", "atp", "volume", "total_buy_qty",
    "total_sell_qty", "oi", "oi_high", "oi_low", "oi_change", "open", "high", "low", "prev_close", "ltt_ms",
)  # fmt: skip
BOARD_INDEX = {name: place for place, name in enumerate(BOARD_FIELDS)}

_QUOTED = ("ltq", "volume", "total_buy_qty", "total_sell_qty")
_FULL_ONLY = ("oi_high", "oi_low")
_TICK_PRICES = ("open", "high", "low")


class DepthSide(NamedTuple):
    """One level of one side of the book, best first; price in rupees."""

    price: float
    qty: int
    orders: int


class Depth(NamedTuple):
    bids: tuple[DepthSide, ...]
    asks: tuple[DepthSide, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """Board values of some instruments: ``matrix[i, BOARD_INDEX[field]]``, NaN where not known.

    Prices are rupees on the tick, quantities units, ``ltt_ms`` true epoch milliseconds UTC. ``oi_basis`` holds
    :class:`OiBasis` codes; ``last_ms`` the receive time of the newest packet, 0 for none.
    """

    matrix: Floats
    oi_basis: npt.NDArray[np.uint8]
    last_ms: npt.NDArray[np.int64]
    usual_gap_ms: Floats

    def column(self, field: str) -> Floats:
        return self.matrix[:, BOARD_INDEX[field]]


class LivePrices:
    """OWNS the board.

    A slot is given in order of release, oldest first, so that a packet still under way to a dropped instrument finds
    its slot empty and not another's. ``revision`` rises whenever slots are given or taken.
    """

    def __init__(self, slots: int = BOARD_SLOTS, connections: int = 5) -> None:
        self.buffers = TickBuffers(slots, connections)
        self.revision = 0
        self._free = deque(range(slots))
        self._instruments: list[Instrument | None] = [None] * slots
        self._ticks = np.full(slots, PENNY)
        self._is_index = np.zeros(slots, dtype=np.bool_)
        self._bears_oi = np.zeros(slots, dtype=np.bool_)
        self.segments = np.zeros(slots, dtype=np.uint8)
        self.expiry_days = np.zeros(slots, dtype=np.int32)  # date ordinals, 0 for none
        self._previous_oi = np.full(slots, np.nan)
        self._oi_basis = np.zeros(slots, dtype=np.uint8)
        self._session_oi = SessionOi()
        self._segment_last_ms = np.zeros(256, dtype=np.int64)
        self.segment_lost_ms = np.zeros(256, dtype=np.int64)  # when a segment was last judged silent everywhere
        self._longest_gap_ms = np.zeros(slots, dtype=np.int64)
        self._learnt_ms = np.zeros(slots, dtype=np.int64)

    # -- slots

    def __len__(self) -> int:
        return len(self.buffers.slot_of)

    @property
    def slots(self) -> int:
        return self.buffers.slots

    def track(self, instrument: Instrument) -> int:
        """Give the instrument a slot, with an empty row; the same slot as long as it is tracked.

        Raises:
            OverflowError: more instruments than slots; admission allows far fewer.
        """
        held = self.buffers.slot_of.get(instrument.key.packed)
        if held is not None:
            return held
        if not self._free:
            raise OverflowError(f"the board's {self.slots} slots are all taken")
        slot = self._free.popleft()
        self._clear(slot)
        self._instruments[slot] = instrument
        self._is_index[slot] = instrument.kind is InstrumentKind.INDEX
        # A cash line's Full packet has an OI field too, always zero: it has no OI rather than none.
        self._bears_oi[slot] = instrument.kind in (InstrumentKind.FUTURE, InstrumentKind.OPTION)
        # Index values have two decimals whatever tick the master gives them.
        self._ticks[slot] = PENNY if self._is_index[slot] or instrument.tick <= 0.0 else instrument.tick
        self.segments[slot] = int(instrument.key.segment)
        self.expiry_days[slot] = instrument.expiry.toordinal() if instrument.expiry else 0
        self._set_baseline(slot, self._session_oi.previous(instrument))
        self.buffers.slot_of[instrument.key.packed] = slot
        self.revision += 1
        return slot

    def untrack(self, key: InstrumentKey) -> None:
        """Take the slot back; nothing happens for a key that has none."""
        slot = self.buffers.slot_of.pop(key.packed, None)
        if slot is None:
            return
        self._instruments[slot] = None
        self._clear(slot)
        self._free.append(slot)
        self.revision += 1

    def slot(self, key: InstrumentKey) -> int | None:
        return self.buffers.slot_of.get(key.packed)

    def instrument_at(self, slot: int) -> Instrument | None:
        return self._instruments[slot]

    def _clear(self, slot: int) -> None:
        buffers = self.buffers
        buffers.rows[slot * ROW_BYTES : (slot + 1) * ROW_BYTES] = bytes(ROW_BYTES)
        buffers.socket_of[slot] = buffers.moving_to[slot] = NO_SOCKET
        buffers.dirty[slot] = 0
        self._longest_gap_ms[slot] = self._learnt_ms[slot] = 0

    # -- single values

    def last_price(self, key: InstrumentKey) -> float | None:
        """Last traded price in rupees, on the tick; None while not known."""
        slot = self.slot(key)
        if slot is None:
            return None
        row = self.buffers.table[slot]
        if not row["has"] & Has.TICKER or not row["ltp"] > 0.0:
            return None
        return round_to_tick(float(row["ltp"]), float(self._ticks[slot]))

    def last_seen_ms(self, key: InstrumentKey) -> int | None:
        """Receive time of the newest packet, epoch ms UTC."""
        slot = self.slot(key)
        return (int(self.buffers.table[slot]["last_ms"]) or None) if slot is not None else None

    def first_seen_ms(self, key: InstrumentKey) -> int | None:
        """Receive time of the first packet since the instrument was tracked, epoch ms UTC."""
        slot = self.slot(key)
        return (int(self.buffers.table[slot]["first_ms"]) or None) if slot is not None else None

    def depth(self, key: InstrumentKey) -> Depth | None:
        """The book of five levels, best first; None while no Full packet has come."""
        slot = self.slot(key)
        if slot is None or not self.buffers.table[slot]["has"] & Has.FULL:
            return None
        levels = self.buffers.table[slot]["depth"]
        tick = float(self._ticks[slot])
        sides = (
            tuple(
                DepthSide(round_to_tick(float(level[f"{side}_price"]), tick), int(level[f"{side}_qty"]),
                          int(level[f"{side}_orders"]))
                for level in levels
                if level[f"{side}_price"] > 0.0
            )
            for side in ("bid", "ask")
        )  # fmt: skip
        return Depth(*sides)

    def segment_last_ms(self, segment: Segment) -> int:
        """Receive time of the segment's newest packet as of the last :meth:`take_dirty`; 0 for none."""
        return int(self._segment_last_ms[int(segment)])

    # -- columns

    def take_dirty(self) -> Slots:
        """Slots that took a packet since the last call. One reader only: the publisher."""
        marks = self.buffers.dirty_marks
        dirty = np.flatnonzero(marks)
        if dirty.size:
            marks[dirty] = 0
            seen_ms = self.buffers.table["last_ms"][dirty]
            np.maximum.at(self._segment_last_ms, self.segments[dirty], seen_ms)
        return dirty

    def columns(self, slots: npt.ArrayLike) -> Columns:
        """Values of those slots, rounded, NaN for unknown. A slot of -1 stands for an instrument without one."""
        wanted = np.asarray(slots, dtype=np.intp)
        rows = self.buffers.table[wanted]
        has = np.where(wanted >= 0, rows["has"], 0).astype(np.uint8)
        matrix = np.full((len(wanted), len(BOARD_FIELDS)), np.nan)
        _Fill(matrix, rows, has, self._ticks[wanted], self._is_index[wanted], self._bears_oi[wanted]).all()
        baseline, basis = self._baselines(wanted, rows, has)
        matrix[:, BOARD_INDEX["oi_change"]] = matrix[:, BOARD_INDEX["oi"]] - baseline
        known = ~np.isnan(matrix[:, BOARD_INDEX["oi_change"]])
        return Columns(
            matrix=matrix,
            oi_basis=np.where(known, basis, 0).astype(np.uint8),
            last_ms=np.where(wanted >= 0, rows["last_ms"], 0),
            usual_gap_ms=np.where(wanted >= 0, rows["usual_gap_ms"], 0.0).astype(np.float64),
        )

    def _baselines(
        self, slots: Slots, rows: npt.NDArray[np.void], has: npt.NDArray[np.uint8]
    ) -> tuple[Floats, npt.NDArray[np.uint8]]:
        kept, basis = self._previous_oi[slots], self._oi_basis[slots]
        from_feed = (basis == 0) & ((has & Has.PREV_CLOSE) > 0) & (rows["prev_oi"] > 0)
        return (
            np.where(from_feed, rows["prev_oi"].astype(np.float64), kept),
            np.where(from_feed, int(OiBasis.FEED), basis).astype(np.uint8),
        )

    # -- what is usual

    def learn_gaps(self, judged_from_ms: npt.NDArray[np.int64], lost_ms: npt.NDArray[np.int64]) -> None:
        """Note the silences that instruments have come back from since the last call.

        ``judged_from_ms`` by segment, 0 where silence means nothing now; ``lost_ms`` by slot: a silence during which
        the connection was lost teaches nothing.
        """
        last_ms = self.buffers.table["last_ms"]
        since_ms = judged_from_ms[self.segments]
        came = np.flatnonzero(last_ms > self._learnt_ms)
        before = self._learnt_ms[came]
        usable = (since_ms[came] > 0) & (before >= since_ms[came]) & (lost_ms[came] < before)
        taught = came[usable]
        self._longest_gap_ms[taught] = np.maximum(self._longest_gap_ms[taught], (last_ms[came] - before)[usable])
        self._learnt_ms[came] = last_ms[came]

    def normal_gap_ms(self, slots: Slots) -> Floats:
        """The silence that is normal for each: never shorter than its average gap. A slot of -1 has the unknown's."""
        rows = self.buffers.table
        usual = np.maximum(rows["usual_gap_ms"][slots], LONGEST_SHARE * self._longest_gap_ms[slots])
        known = (slots >= 0) & (rows["packets"][slots] >= KNOWN_AFTER)
        normal: Floats = np.where(known, usual, np.maximum(usual, UNKNOWN_GAP_MS)).astype(np.float64)
        return normal

    def slots_of(self, segment: Segment) -> Slots:
        """The slots of a segment's tracked instruments."""
        return np.array(self._slots_in(segment), dtype=np.intp)

    def turn_back(self, step: StepBack) -> None:
        """The clock was set back: receive times, and what silences are counted from, move with it."""
        table = self.buffers.table
        columns = table["last_ms"], table["first_ms"], self._learnt_ms, self._segment_last_ms, self.segment_lost_ms
        for column in columns:
            step.column(column)
        for counters in self.buffers.counters:
            counters.last_data_ms = step.time(counters.last_data_ms)

    # -- sessions

    def set_latching(self, segments_in_session: Iterable[Segment]) -> None:
        """Tell the decoders in which segments the close field still means the previous close."""
        latching = self.buffers.latching
        latching[:] = bytes(len(latching))
        for segment in segments_in_session:
            latching[int(segment)] = 1

    def end_session(self, segment: Segment, closed_ms: int, lost_ms: npt.NDArray[np.int64] | None) -> None:
        """A session of that segment closed then (epoch ms): keep what OI it ended at.

        That is what came since, and what stands where the connection was not lost after it had come: ``lost_ms`` by
        slot, None where the close was not seen. What stood at noon when the feed went away is not where a day ended.
        """
        told = self._slots_with_oi(segment)
        last_ms = self.buffers.table["last_ms"][told]
        counts = last_ms >= closed_ms
        if lost_ms is not None:
            counts |= last_ms > np.maximum(lost_ms[told], self.segment_lost_ms[segment])
        self._session_oi.end(segment, closed_ms, self._open_interest(told[counts]))

    def new_session(self, segment: Segment, before_ms: int | None) -> None:
        """A session of that segment begins: forget closes, day values and books; what OI ended at becomes the baseline.

        What stays of the day before is its last price, whose time is told, and its OI: both last over night.
        ``before_ms``: when the session before it closed (epoch ms), None where there was none lately.
        """
        slots, told = self._slots_in(segment), self._slots_with_oi(segment)
        since = told[self.buffers.table["last_ms"][told] >= before_ms] if before_ms is not None else told[:0]
        self._session_oi.begin(segment, before_ms, self._open_interest(since))
        self._renew_baselines(slots)
        self.buffers.table["has"][slots] &= int(Has.TICKER | Has.OI)
        self.buffers.table["prev_oi"][slots] = 0
        self._longest_gap_ms[slots] //= 2  # what was normal yesterday counts, but less

    def set_previous_oi(self, segment: Segment, previous: Mapping[str, PreviousOi]) -> None:
        """Baselines of ``oi_change`` by token, for what is tracked now or later; they replace the segment's others."""
        self._session_oi.put(segment, previous)
        self._renew_baselines(self._slots_in(segment))

    def set_ended_oi(self, segment: Segment, closed_ms: int, told: Mapping[str, int]) -> None:
        """By token, what the segment's session that closed then ended at, as kept by another life of the process."""
        self._session_oi.end(segment, closed_ms, told)

    def ended_oi(self, segment: Segment) -> Mapping[str, int]:
        """By token, what the segment's newest session ended at; empty while it runs."""
        return self._session_oi.ended_at(segment)

    def lacks_baseline(self, instrument: Instrument) -> bool:
        """Whether nothing is known that its OI could be compared with."""
        return self._session_oi.previous(instrument) is None

    def add_baselines(self, told: Iterable[tuple[Instrument, PreviousOi]]) -> None:
        """Baselines for instruments that have none; what is known already stays."""
        for instrument, previous in told:
            slot = self.buffers.slot_of.get(instrument.key.packed)
            if self._session_oi.add(instrument, previous) and slot is not None:
                self._set_baseline(slot, previous)
                self.buffers.dirty[slot] = 1

    def _renew_baselines(self, slots: Slots) -> None:
        for slot in slots.tolist():
            instrument = self._instruments[slot]
            self._set_baseline(slot, None if instrument is None else self._session_oi.previous(instrument))
        self.buffers.dirty_marks[slots] = 1

    def _open_interest(self, slots: Slots) -> dict[str, int]:
        """OI by token."""
        told = zip(slots.tolist(), self.buffers.table["oi"][slots].tolist(), strict=True)
        return {each.token: oi for slot, oi in told if (each := self._instruments[slot]) is not None}

    def _slots_in(self, segment: Segment) -> Slots:
        return np.array(
            [slot for packed, slot in self.buffers.slot_of.items() if packed >> 32 == segment], dtype=np.intp
        )

    def _slots_with_oi(self, segment: Segment) -> Slots:
        slots = self._slots_in(segment)
        return slots[self._bears_oi[slots] & ((self.buffers.table["has"][slots] & int(Has.OI)) > 0)]

    def _set_baseline(self, slot: int, previous: PreviousOi | None) -> None:
        self._previous_oi[slot] = np.nan if previous is None else previous.oi
        self._oi_basis[slot] = 0 if previous is None else int(previous.basis)


@dataclass(frozen=True, slots=True)
class _Fill:
    """Turns raw rows into rounded columns, one group of fields at a time."""

    matrix: Floats
    rows: npt.NDArray[np.void]
    has: npt.NDArray[np.uint8]
    ticks: Floats
    is_index: npt.NDArray[np.bool_]
    bears_oi: npt.NDArray[np.bool_]

    def all(self) -> None:
        self._prices()
        self._quantities()
        self._book()
        self._changes()

    def _put(self, field: str, values: npt.NDArray[np.generic], known: npt.NDArray[np.bool_]) -> None:
        column = self.matrix[:, BOARD_INDEX[field]]
        np.copyto(column, values, where=known, casting="unsafe")

    def _told(self, part: Has) -> npt.NDArray[np.bool_]:
        return (self.has & int(part)) > 0

    def _prices(self) -> None:
        rows, told = self.rows, self._told(Has.QUOTE)
        self._put("ltp", round_prices(rows["ltp"], self.ticks), self._told(Has.TICKER) & (rows["ltp"] > 0.0))
        for field in _TICK_PRICES:
            self._put(field, round_prices(rows[field], self.ticks), told & (rows[field] > 0.0))
        # An average and a settlement price lie between ticks: keep paise where a float32 can tell them apart.
        for field, known in (("atp", told & ~self.is_index), ("prev_close", self._told(Has.PREV_CLOSE))):
            grain = np.where(rows[field] < PENNIES_BLUR_AT, np.minimum(self.ticks, PENNY), self.ticks)
            self._put(field, round_prices(rows[field], grain), known & (rows[field] > 0.0))

    def _quantities(self) -> None:
        rows = self.rows
        traded, full = self._told(Has.QUOTE) & ~self.is_index, self._told(Has.FULL) & self.bears_oi
        for field in _QUOTED:
            self._put(field, rows[field], traded)
        for field in _FULL_ONLY:
            self._put(field, rows[field], full & (rows[field] > 0))
        self._put("oi", rows["oi"], self._told(Has.OI) & self.bears_oi)
        ltt_ms = (rows["ltt"].astype(np.int64) - IST_OFFSET_S) * 1000
        self._put("ltt_ms", ltt_ms, self._told(Has.TICKER) & (ltt_ms > 0))

    def _book(self) -> None:
        best, full = self.rows["depth"][:, 0], self._told(Has.FULL) & ~self.is_index
        for side in ("bid", "ask"):
            there = full & (best[f"{side}_price"] > 0.0)
            self._put(side, round_prices(best[f"{side}_price"], self.ticks), there)
            self._put(f"{side}_qty", best[f"{side}_qty"], there)

    def _changes(self) -> None:
        matrix = self.matrix
        ltp, close = matrix[:, BOARD_INDEX["ltp"]], matrix[:, BOARD_INDEX["prev_close"]]
        change = round_prices(ltp - close, 1e-4)
        matrix[:, BOARD_INDEX["change"]] = change + 0.0  # plus zero: no negative zero
        matrix[:, BOARD_INDEX["change_pct"]] = np.round(100.0 * change / close, 4) + 0.0


class PriceView(Mapping[str, float]):
    """Last prices by token or symbol, as ``get_prices()`` gives them: ``get("NIFTY50", 0)``."""

    def __init__(self, prices: LivePrices, find: Callable[[str], InstrumentKey]) -> None:
        self._prices = prices
        self._find = find

    def __getitem__(self, name: str) -> float:
        try:
            price = self._prices.last_price(self._find(name))
        except InstrumentUnknown as unknown:
            raise KeyError(name) from unknown
        if price is None:
            raise KeyError(name)
        return price

    def __iter__(self) -> Iterator[str]:
        for slot in list(self._prices.buffers.slot_of.values()):
            instrument = self._prices.instrument_at(slot)
            if instrument is not None and self._prices.last_price(instrument.key) is not None:
                yield instrument.token

    def __len__(self) -> int:
        return sum(1 for _ in self)


def get_prices() -> PriceView:
    """Last prices of the running service by token or symbol: a door of the user's document."""
    runtime = current.runtime()
    registry = runtime.registry

    def find(name: str) -> InstrumentKey:
        """A token, or a symbol: its index, else its cash line, else its nearest future."""
        try:
            found: Instrument = registry.by_token(name)
        except InstrumentUnknown:
            symbol = registry.resolve_symbol(name)
            nearest = next(iter(registry.futures(symbol)), None)
            spot = registry.index(symbol) or registry.cash(symbol) or nearest
            if spot is None:
                raise
            found = spot
        return found.key

    return PriceView(runtime.board, find)
