"""A market small enough to think about: clocks that stand still, a board of slots, feeds that obey a script."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.ports.feed import NO_SOCKET, TickBuffers

IST = ZoneInfo("Asia/Kolkata")
MORNING = datetime(2026, 2, 3, 10, 0, tzinfo=IST)


class HandClock:
    """Time that moves only when told to."""

    def __init__(self, start: datetime = MORNING) -> None:
        self._start = start
        self.passed_s = 0.0

    def advance(self, seconds: float) -> None:
        self.passed_s += seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.passed_s)

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def monotonic(self) -> float:
        return self.passed_s


class SlotBoard:
    """Gives slots and takes them back, as the board of last values does."""

    def __init__(self, slots: int, connections: int) -> None:
        self.buffers = TickBuffers(slots, connections)
        self._slots: dict[InstrumentKey, int] = {}
        self._free = list(range(slots - 1, -1, -1))

    def track(self, instrument: Instrument) -> int:
        slot = self._slots.get(instrument.key)
        if slot is None:
            slot = self._slots[instrument.key] = self._free.pop()
            self.buffers.slot_of[instrument.key.packed] = slot
            self.buffers.socket_of[slot] = self.buffers.moving_to[slot] = NO_SOCKET
        return slot

    def untrack(self, key: InstrumentKey) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            del self.buffers.slot_of[key.packed]
            self._free.append(slot)

    def slot(self, key: InstrumentKey) -> int | None:
        return self._slots.get(key)


def share(number: int, *, segment: Segment = Segment.NSE_EQ) -> Instrument:
    """A cash line named after its number; segment IDX_I makes it an index, which is carried in another mode."""
    kind = InstrumentKind.INDEX if segment is Segment.IDX_I else InstrumentKind.EQUITY
    return Instrument(
        key=InstrumentKey(segment, number),
        token=f"S{number}_{'IDX' if kind is InstrumentKind.INDEX else 'EQ'}",
        kind=kind,
        exchange=Exchange.NSE,
        symbol=f"S{number}",
        name=f"Share {number}",
        lot_size=1,
        tick=0.05,
    )
