"""One client connection as the exchange keeps it: what was asked for, what is owed, what was sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, Mode
from app.sim.prices import Bools, Slots

ODDITIES_MAX = 64  # frames made by faults that wait for a slow reader


class Ending(StrEnum):
    """How the exchange leaves a connection."""

    CLOSE = "close"  # close frame, then the socket
    RESET = "reset"  # the socket only, at once


@dataclass(frozen=True, slots=True)
class End:
    how: Ending
    code: int = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
    """What to write to one connection now, in order, and whether it ends after that."""

    connection: int
    frames: list[bytes]
    end: End | None = None


@dataclass(slots=True)
class Line:
    """OWNS the books of one connection. ``modes`` holds a :class:`Mode` value per market slot, 0 for not subscribed.

    ``owed`` marks slots whose newest image has not been written yet: a reader that cannot keep up is owed one image
    per instrument, however long it sleeps, and so costs no memory.
    """

    number: int
    client_id: str
    token: str = field(repr=False)
    opened_s: float
    modes: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    owed: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    oi_told: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    sent: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    heard_s: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # when it was last asked for
    owed_close: set[int] = field(default_factory=set)  # index slots that get a previous-close packet
    unknown: set[InstrumentKey] = field(default_factory=set)  # asked for, listed nowhere: silence
    instruments: int = 0  # unknown ones count: the exchange holds them too
    oddities: list[bytes] = field(default_factory=list)
    prefix: bytes = b""  # put before the next data frame
    suffix: bytes = b""  # put after the next data frame
    end: End | None = None
    frames: int = 0
    packets: int = 0
    octets: int = 0
    bad_commands: int = 0

    def fit(self, capacity: int) -> None:
        """Follow the market's growth."""
        extra = capacity - self.modes.size
        if extra > 0:
            self.modes = np.concatenate([self.modes, np.zeros(extra, dtype=np.uint8)])
            self.owed = np.concatenate([self.owed, np.zeros(extra, dtype=np.bool_)])
            self.oi_told = np.concatenate([self.oi_told, np.full(extra, -1, dtype=np.int64)])
            self.sent = np.concatenate([self.sent, np.zeros(extra, dtype=np.int64)])
            self.heard_s = np.concatenate([self.heard_s, np.zeros(extra)])

    def room_for(self, slots: list[int], unknown: list[InstrumentKey], limit: int) -> bool:
        fresh = sum(1 for slot in set(slots) if not self.modes[slot]) + len(set(unknown) - self.unknown)
        return self.instruments + fresh <= limit

    def add(self, slot: int, mode: Mode) -> None:
        """Subscribe, or change the mode: an instrument has one mode per connection, the last one asked for."""
        if not self.modes[slot]:
            self.instruments += 1
        self.modes[slot] = int(mode)
        self.oi_told[slot] = -1

    def add_unknown(self, key: InstrumentKey) -> None:
        if key not in self.unknown:
            self.unknown.add(key)
            self.instruments += 1

    def drop(self, slot: int, mode: Mode) -> None:
        """Unsubscribe; asking with another mode than the present one changes nothing."""
        if self.modes[slot] == int(mode):
            self.modes[slot] = 0
            self.owed[slot] = False
            self.owed_close.discard(slot)
            self.instruments -= 1

    def drop_unknown(self, key: InstrumentKey) -> None:
        if key in self.unknown:
            self.unknown.remove(key)
            self.instruments -= 1

    def owe(self, due: Slots) -> None:
        self.owed[due[self.modes[due] != 0]] = True

    def take_owed(self, held: Bools | None) -> Slots:
        """Slots to write now; those that ``held`` marks stay owed."""
        ready = self.owed if held is None else self.owed & ~held
        slots = np.flatnonzero(ready)
        self.owed[slots] = False
        return slots

    def add_oddity(self, frame: bytes) -> None:
        if len(self.oddities) < ODDITIES_MAX:
            self.oddities.append(frame)

    def dress(self, frames: list[bytes]) -> list[bytes]:
        """Add what faults have prepared to the data frames of one step."""
        if frames:
            frames[0], self.prefix = self.prefix + frames[0], b""
            frames[-1], self.suffix = frames[-1] + self.suffix, b""
        if self.oddities:
            frames, self.oddities = self.oddities + frames, []
        return frames

    def count(self, frames: list[bytes], packets: int) -> None:
        self.frames += len(frames)
        self.packets += packets
        self.octets += sum(map(len, frames))
