"""What the screens show right now: one finished row for each watched instrument, made once for all who watch it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, format_expiry
from app.core.instruments import Instrument
from app.market.facts import Standing, StateReader
from app.market.live_prices import LivePrices, Slots
from app.market.states import states
from app.ports.clock import Clock
from app.stream.fields import BOARD_WIDTH, FIELD_INDEX, GREEKS, ROW_FIELDS
from app.stream.frames import Floats

Rows = npt.NDArray[np.intp]
_FIRST_ROWS = 4_096
ROWS_A_STEP = 512  # about 2 ms
ROUNDS_A_LOOK = 10  # a second
_FILL, _JUDGE = 1, 3  # to judge is to fill too


class Face:
    """OWNS the watched rows.

    ``values[row]`` is in the order of ``ROW_FIELDS``. ``stamp`` counts the times rows were made, ``touched[row]`` is
    the one of its last: it took a packet or a new standing, or was looked over.
    """

    def __init__(self, prices: LivePrices, reader: StateReader, clock: Clock, first_rows: int = _FIRST_ROWS) -> None:
        self.values: Floats = np.full((first_rows, len(ROW_FIELDS)), np.nan)
        self.touched = np.zeros(first_rows, dtype=np.int64)
        self.stamp = 0
        self._round = 0
        self._needs = np.zeros(first_rows, dtype=np.uint8)
        self._brought = np.zeros(first_rows, dtype=np.int64)  # in which round it was last brought up to date
        self._judged = np.zeros(first_rows, dtype=np.int64)  # in which round it was last judged
        self._prices = prices
        self._reader = reader
        self._clock = clock
        self._row_of: dict[tuple[InstrumentKey, str], int] = {}  # a new master may give an id to another contract
        self._instruments: list[Instrument | None] = [None] * first_rows
        self._uses = np.zeros(first_rows, dtype=np.int64)
        self._slots = np.full(first_rows, -1, dtype=np.intp)
        self._row_at = np.full(prices.slots, -1, dtype=np.intp)
        self._standing = Standing.empty(first_rows)
        self._free = list(range(first_rows - 1, -1, -1))
        self._seen_slots = prices.revision
        self._seen_wishes = reader.wishes_revision

    def __len__(self) -> int:
        return len(self._row_of)

    def acquire(self, instruments: Sequence[Instrument]) -> Rows:
        """Rows of those instruments, filled in at once; each call is matched by one of :meth:`release`."""
        fresh: list[int] = []
        names = [_identity(instrument) for instrument in instruments]
        for name, instrument in zip(names, instruments, strict=True):
            if name not in self._row_of:
                if not self._free:
                    self._grow()
                row = self._row_of[name] = self._free.pop()
                self._instruments[row] = instrument
                self.values[row] = np.nan
                fresh.append(row)
        rows = np.array([self._row_of[name] for name in names], dtype=np.intp)
        np.add.at(self._uses, rows, 1)
        if fresh:
            new = np.array(fresh, dtype=np.intp)
            self._place(new)
            self._judge(new)
            self._fill(new)
        return rows

    def release(self, rows: Rows) -> None:
        np.subtract.at(self._uses, rows, 1)
        for row in np.unique(rows[self._uses[rows] == 0]).tolist():
            instrument = self._instruments[row]
            assert instrument is not None
            if self._slots[row] >= 0:
                self._row_at[self._slots[row]] = -1
                self._slots[row] = -1  # else whoever takes the row next would cut off who has the slot by then
            del self._row_of[_identity(instrument)]
            self._instruments[row] = None
            self._free.append(row)

    def begin(self) -> None:
        """A round begins: each row is brought up to date once in it."""
        self._round += 1

    def note(self, dirty: Slots) -> None:
        """These slots took a packet: their rows, and those that the board or the wishes changed, are made anew."""
        rows = self._row_at[dirty]
        self._needs[rows[rows >= 0]] |= _FILL
        if self._seen_slots != self._prices.revision:
            self._seen_slots = self._prices.revision
            self._needs[self._place(self._used())] |= _FILL
        if self._seen_wishes != self._reader.wishes_revision:
            self._seen_wishes = self._reader.wishes_revision
            self._needs[self._used()] |= _JUDGE

    def look_over(self, rows: Rows) -> None:
        """Have rows made anew that nothing happened to: silence changes state and age too. Once a second is enough."""
        self._needs[rows[self._round - self._judged[rows] >= ROUNDS_A_LOOK]] |= _JUDGE

    def refresh(self, rows: Rows) -> Iterator[None]:
        """Bring rows up to date, some in a step. Who was in this round already waits for the next."""
        rows = rows[self._brought[rows] < self._round]
        self._brought[rows] = self._round
        rows = np.unique(rows[self._needs[rows] > 0])
        for start in range(0, len(rows), ROWS_A_STEP):
            part = rows[start : start + ROWS_A_STEP]
            part = part[self._uses[part] > 0]  # others may have been released between two steps
            self._judge(part[self._needs[part] == _JUDGE])
            self._fill(part)
            yield

    def bring(self, rows: Rows) -> None:
        """Make these rows what they are at this moment; volatility and Greeks are unknown until they are put."""
        self._place(rows)
        self._judge(rows)
        self._fill(rows)
        self.values[rows, GREEKS] = np.nan

    def put_greeks(self, rows: Rows, greeks: Floats) -> None:
        """Write iv, delta, gamma, theta and vega of rows; -1 among them is passed over."""
        there = rows >= 0
        self.values[rows[there], GREEKS] = greeks[there]

    def block(self, rows: Rows) -> Floats:
        """Whole rows; NaN throughout for a row of -1."""
        taken = self.values[rows]
        taken[rows < 0] = np.nan
        return taken

    def cell(self, row: int, field: str) -> float:
        """One value; NaN for a row of -1."""
        return float(self.values[row, FIELD_INDEX[field]]) if row >= 0 else float("nan")

    def column(self, rows: Rows, field: str) -> Floats:
        """One field of rows; NaN for a row of -1."""
        return np.where(rows >= 0, self.values[rows, FIELD_INDEX[field]], np.nan)

    def has_slot(self, row: int) -> bool:
        """Whether the board holds anything of the row's contract."""
        return bool(self._slots[row] >= 0)

    def is_touched(self, rows: Rows, since: int) -> bool:
        """Whether any of the rows was made anew after that stamp."""
        return bool((self.touched[rows] > since).any())

    def _used(self) -> Rows:
        return np.fromiter(self._row_of.values(), dtype=np.intp, count=len(self._row_of))

    def _of(self, rows: Rows) -> list[Instrument]:
        return [each for each in map(self._instruments.__getitem__, rows.tolist()) if each is not None]

    def _place(self, rows: Rows) -> Rows:
        """Look up the board slots of rows; return those whose slot is another than before."""
        instruments = self._of(rows)
        slots = self._reader.slots(instruments)
        for place in np.flatnonzero(self._slots[rows] != slots).tolist():
            held = self._prices.instrument_at(slots[place]) if slots[place] >= 0 else None
            if held is not None and held.token != instruments[place].token:
                slots[place] = -1  # its id is another contract's now: nothing is known of this one
        moved: Rows = rows[self._slots[rows] != slots]
        gone = self._slots[moved]
        self._row_at[gone[gone >= 0]] = -1
        self._slots[rows] = slots
        self._row_at[slots[slots >= 0]] = rows[slots >= 0]
        return moved

    def _judge(self, rows: Rows) -> None:
        if not rows.size:
            return
        self._judged[rows] = self._round
        self._standing.put(rows, self._reader.standing(self._of(rows)))

    def _fill(self, rows: Rows) -> None:
        slots = self._slots[rows]
        board = self._prices.columns(slots)
        facts = self._reader.facts(self._standing.take(rows), slots, board.last_ms, board.usual_gap_ms)
        age_ms = np.where(board.last_ms > 0, np.maximum(0, facts.now_ms - board.last_ms), np.nan)
        self.values[rows, :BOARD_WIDTH] = board.matrix
        self.values[rows, FIELD_INDEX["age_ms"]] = age_ms
        self.values[rows, FIELD_INDEX["state"]] = states(facts)
        self.values[rows, FIELD_INDEX["oi_basis"]] = board.oi_basis
        self._needs[rows] = 0
        self.stamp += 1
        self.touched[rows] = self.stamp

    def _grow(self) -> None:
        size = len(self._instruments)
        self.values = np.concatenate((self.values, np.full_like(self.values, np.nan)))
        for name in ("touched", "_needs", "_brought", "_judged", "_uses"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate((column, np.zeros_like(column))))
        self._slots = np.concatenate((self._slots, np.full(size, -1, dtype=np.intp)))
        self._standing = self._standing.joined(Standing.empty(size))
        self._instruments.extend([None] * size)
        self._free.extend(range(2 * size - 1, size - 1, -1))


def _identity(instrument: Instrument) -> tuple[InstrumentKey, str]:
    return instrument.key, instrument.token


def about(instrument: Instrument) -> dict[str, object]:
    """What a client has to know of a row besides its values."""
    return {
        "token": instrument.token,
        "key": str(instrument.key),
        "kind": instrument.kind,
        "exchange": instrument.exchange,
        "symbol": instrument.symbol,
        "name": instrument.name,
        "expiry": format_expiry(instrument.expiry) if instrument.expiry else None,
        "strike": instrument.strike,
        "option_type": instrument.option_type,
        "lot_size": instrument.lot_size,
        "tick": instrument.tick,
    }
