"""Dhan's feed as a state machine: handshakes, limits, subscriptions, packets, faults. Pure: no socket, no clock.

A shell tells it of connections and texts and calls :meth:`Exchange.step` some twenty times a second; each step answers
with the frames to write. Facts are from the protocol notes, sections 1 to 3. Where they are silent or in doubt this
exchange chooses, and says so here:

* a message of more than 100 instruments, or one that is no command, is ignored whole and counted: Dhan acknowledges
  nothing, and 814 is documented for REST only;
* an instrument has one mode per connection, the last asked for; an unsubscribe in another mode changes nothing;
* an index asked for in Full gets Quote packets, with a close field of zero, and a previous-close packet (code 6) on
  every subscribe; nothing else gets code 6;
* an unknown id is met with silence but counts towards the 5,000.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, Mode, Segment
from app.core.packets import Disconnect, PrevClose, Ticker, Unknown
from app.dhan.codec import (
    FULL_DTYPE,
    HEADER_BYTES,
    OI,
    PACKET_BYTES,
    BadCommand,
    Bye,
    Subscribe,
    Unsubscribe,
    encode_packet,
    parse_command,
)
from app.dhan.limits import DHAN_LIMITS
from app.sim.faults import Fault, FaultKind, TimedFault
from app.sim.line import Delivery, End, Ending, Line
from app.sim.prices import U32_MAX, Bools, Directory, Market, MarketShape, Rows, Slots
from app.sim.rest import OptionChains

STEP_S = 0.05
TOO_MANY_INSTRUMENTS, TOO_MANY_CONNECTIONS, TOKEN_EXPIRED = 804, 805, 807
UNKNOWN_PACKET_BYTES = 20
SEGMENT_BYTES = 256

InSession = Callable[[Segment, float], bool]
"""Whether a segment trades at an epoch second."""

_OI_DTYPE = np.dtype([("code", "u1"), ("length", "<u2"), ("segment", "u1"), ("security_id", "<u4"), ("oi", "<u4")])


def always_open(_segment: Segment, _now_s: float) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """``token`` None accepts any. ``frame_bytes`` bounds stacked frames; 0 sends one packet per frame."""

    market: MarketShape = field(default_factory=MarketShape)
    token: str | None = field(default=None, repr=False)
    frame_bytes: int = 8_192
    connections_max: int = DHAN_LIMITS.connections
    instruments_max: int = DHAN_LIMITS.instruments_per_connection
    plan: tuple[TimedFault, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """Answer to a handshake: 101 lets it in, after ``delay_s``."""

    status: int
    reason: str
    client_id: str = ""
    token: str = field(default="", repr=False)
    delay_s: float = 0.0


class Exchange:
    """OWNS the connections, their subscriptions and the faults in force."""

    def __init__(self, config: ExchangeConfig, directory: Directory, in_session: InSession = always_open) -> None:
        self._config = config
        self._in_session = in_session
        self.market = Market(directory, config.market)
        self.chains = OptionChains(self.market, directory)
        self._rng = random.Random(config.market.seed)  # noqa: S311 - a simulation
        self._is_open: Bools = np.zeros(SEGMENT_BYTES, dtype=np.bool_)
        self._open_at_s = -1
        self._lines: dict[int, Line] = {}
        self._opened = 0
        self._active: Slots = np.zeros(0, dtype=np.intp)
        self._active_is_old = False
        self._lasting: list[tuple[float, Fault]] = []  # until when
        self._plan: list[TimedFault] = sorted(config.plan, key=lambda timed: timed.at_s, reverse=True)
        self._plan_began_s: float | None = None
        self._expired_tokens: set[str] = set()
        self._sent: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._last: Rows = np.zeros(0, dtype=FULL_DTYPE)
        self._last_bytes: npt.NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
        self.totals = {"frames": 0, "packets": 0, "bytes": 0, "opened": 0, "refused": 0, "bad_commands": 0}

    # --- connections --------------------------------------------------------------------------------------------------

    def admit(self, target: str) -> Admission:
        """Judge a handshake by its request target (protocol notes, 1.1: all four query members are required)."""
        answer = self._judge(target)
        if answer.status != 101:
            self.totals["refused"] += 1
        return answer

    def _judge(self, target: str) -> Admission:
        refusal = self._in_force(FaultKind.REFUSE)
        if refusal is not None:
            return Admission(int(refusal.value), "refused")
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        token, client_id = query.get("token", ""), query.get("clientId", "")
        if query.get("version") != "2" or query.get("authType") != "2" or not client_id:
            return Admission(400, "version=2, token, clientId and authType=2 are required")
        if not token or token in self._expired_tokens or self._config.token not in (None, token):
            return Admission(401, "invalid token")
        slow = self._in_force(FaultKind.SLOW_HANDSHAKE)
        return Admission(101, "", client_id, token, slow.value if slow else 0.0)

    def open(self, admission: Admission, now_s: float) -> int:
        """Start a connection that was let in and return its number; a client's sixth drops its oldest with 805."""
        mine = [line for line in self._lines.values() if line.client_id == admission.client_id and line.end is None]
        for line in mine[: max(0, len(mine) - self._config.connections_max + 1)]:
            self._disconnect(line, TOO_MANY_CONNECTIONS)
        self._opened += 1
        self.totals["opened"] += 1
        self._lines[self._opened] = Line(self._opened, admission.client_id, admission.token, now_s)
        return self._opened

    def closed(self, number: int) -> None:
        """The client has gone; safe to repeat."""
        if self._lines.pop(number, None) is not None:
            self._active_is_old = True

    def receive(self, number: int, text: str, now_s: float, heard_s: float = 0.0) -> None:
        """Act on one text message; what is wrong is ignored and counted.

        ``heard_s`` is when it was read off the socket, on whatever clock the shell has: kept for each subscribed key.
        """
        line = self._lines.get(number)
        if line is None or line.end is not None:
            return
        try:
            command = parse_command(text)
        except BadCommand:
            line.bad_commands += 1
            self.totals["bad_commands"] += 1
            return
        match command:
            case Bye():
                line.end = End(Ending.CLOSE)
            case Subscribe(mode, keys):
                if self._in_force(FaultKind.IGNORED_SUBSCRIBE, number) is None:
                    self._subscribe(line, keys, mode, now_s)
                    self._note_heard(line, keys, heard_s)
            case Unsubscribe(mode, keys):
                if self._in_force(FaultKind.GHOST, number) is None:
                    self._unsubscribe(line, keys, mode)

    def _subscribe(self, line: Line, keys: Sequence[InstrumentKey], mode: Mode, now_s: float) -> None:
        found = self.market.admit(keys, now_s, self._open_segments(now_s))
        self._fit(line)
        slots = [slot for slot in found if slot is not None]
        unknown = [key for key, slot in zip(keys, found, strict=True) if slot is None]
        if not line.room_for(slots, unknown, self._config.instruments_max):
            self._disconnect(line, TOO_MANY_INSTRUMENTS)
            return
        for key in unknown:
            line.add_unknown(key)
        for slot in slots:
            index = self.market.is_index(slot)
            line.add(slot, Mode.QUOTE if index and mode is Mode.FULL else mode)
            if index:
                line.owed_close.add(slot)
        wanted = np.array(slots, dtype=np.intp)
        line.owed[wanted] = ~self.market.silent[wanted]
        self.market.hurry(wanted, now_s)
        self.market.settle(wanted[~self._open_segments(now_s)[self.market.segment[wanted]]])
        self._active_is_old = True

    def _note_heard(self, line: Line, keys: Sequence[InstrumentKey], heard_s: float) -> None:
        for key in keys:
            slot = self.market.slot(key)
            if slot is not None:
                line.heard_s[slot] = heard_s

    def _unsubscribe(self, line: Line, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        for key in keys:
            slot = self.market.slot(key)
            if slot is None or slot >= line.modes.size:
                line.drop_unknown(key)
                continue
            line.drop(slot, Mode.QUOTE if mode is Mode.FULL and self.market.is_index(slot) else mode)
        self._active_is_old = True

    def _disconnect(self, line: Line, reason: int) -> None:
        line.add_oddity(encode_packet(Disconnect(reason)))
        line.end = End(Ending.CLOSE)

    def _fit(self, line: Line) -> None:
        extra = self.market.capacity - self._sent.size
        if extra > 0:
            self._sent = np.concatenate([self._sent, np.zeros(extra, dtype=np.int64)])
            self._last = np.concatenate([self._last, np.zeros(extra, dtype=FULL_DTYPE)])
            self._last_bytes = np.concatenate([self._last_bytes, np.zeros(extra, dtype=np.uint8)])
        line.fit(self.market.capacity)

    # --- time ---------------------------------------------------------------------------------------------------------

    def step(self, now_s: float, blocked: Collection[int] = ()) -> list[Delivery]:
        """Move the market to now and answer with what to write; ``blocked`` connections cannot take more just yet."""
        self._run_plan(now_s)
        self._lasting = [(until, fault) for until, fault in self._lasting if until > now_s]
        burst = self._in_force(FaultKind.BURST)
        self.market.speed = burst.value if burst else 1.0
        self.market.drivers.advance(now_s)
        due = self.market.due(self._active_slots(), now_s, self._open_segments(now_s))
        self.market.refresh(due, now_s)
        deliveries: list[Delivery] = []
        for line in tuple(self._lines.values()):
            self._fit(line)
            line.owe(due)
            if line.end is not None:
                deliveries.append(self._last_delivery(line))
            elif line.number not in blocked and (frames := self._frames(line)):
                deliveries.append(Delivery(line.number, frames))
        return deliveries

    def _last_delivery(self, line: Line) -> Delivery:
        assert line.end is not None
        frames = line.oddities if line.end.how is Ending.CLOSE else []
        self._tally(line, frames, 0)
        self.closed(line.number)
        return Delivery(line.number, frames, line.end)

    def _active_slots(self) -> Slots:
        """Slots that somebody subscribes and that trade at all."""
        if self._active_is_old:
            wanted = np.zeros(self.market.capacity, dtype=np.bool_)
            for line in self._lines.values():
                wanted[: line.modes.size] |= line.modes != 0
            self._active = np.flatnonzero(wanted & ~self.market.silent)
            self._active_is_old = False
        return self._active

    def _open_segments(self, now_s: float) -> Bools:
        if int(now_s) != self._open_at_s:  # sessions change on whole seconds
            self._open_at_s = int(now_s)
            for segment in Segment:
                self._is_open[segment] = self._in_session(segment, now_s)
        return self._is_open

    # --- frames -------------------------------------------------------------------------------------------------------

    def _frames(self, line: Line) -> list[bytes]:
        held = self._held(line.number)
        if held is not None and held.all():
            return []
        blobs, packets = self._blobs(line, None if held is None else held[self.market.segment])
        frames = line.dress(self._cut(blobs, line.number))
        self._tally(line, frames, packets)
        return frames

    def _held(self, number: int) -> Bools | None:
        """Which segment bytes are mute for this connection; None if none is."""
        held: Bools | None = None
        for _, fault in self._lasting:
            if fault.kind is FaultKind.MUTE and fault.connection in (None, number):
                held = np.zeros(SEGMENT_BYTES, dtype=np.bool_) if held is None else held
                held[slice(None) if fault.segment is None else int(fault.segment)] = True
        return held

    def _blobs(self, line: Line, held: Bools | None) -> tuple[list[tuple[bytes, int]], int]:
        """Packets to write now as (bytes, bytes per packet), and how many there are."""
        blobs: list[tuple[bytes, int]] = []
        packets = 0
        slots = line.take_owed(held)
        modes = line.modes[slots]
        market = self.market
        if line.owed_close:
            closing = [slot for slot in sorted(line.owed_close) if held is None or not held[slot]]
            line.owed_close.difference_update(closing)
            parts = [encode_packet(PrevClose(market.keys[slot], market.prev_close(slot), 0)) for slot in closing]
            blobs.append((b"".join(parts), PACKET_BYTES[6]))
            packets += self._account(line, np.array(closing, dtype=np.intp), None)
        for mode, draw in (
            (Mode.FULL, market.full_packets),
            (Mode.QUOTE, market.quote_packets),
            (Mode.TICKER, market.ticker_packets),
        ):
            chosen = slots[modes == int(mode)]
            if chosen.size:
                image = self._distort(draw(chosen), line.number)
                blobs.append((image.tobytes(), image.dtype.itemsize))
                packets += self._account(line, chosen, image)
                if mode is Mode.QUOTE:
                    packets += self._add_oi(line, chosen, blobs)
        return blobs, packets

    def _add_oi(self, line: Line, slots: Slots, blobs: list[tuple[bytes, int]]) -> int:
        """Open interest travels apart in Quote mode, for derivatives, when it changed (protocol notes, 2.6)."""
        oi = self.market.rows["oi"][slots].astype(np.int64)
        told = self.market.is_derivative(slots) & (oi != line.oi_told[slots])
        chosen = slots[told]
        if not chosen.size:
            return 0
        line.oi_told[chosen] = oi[told]
        rows = self.market.rows[chosen]
        image = np.zeros(chosen.size, dtype=_OI_DTYPE)
        for name in ("segment", "security_id", "oi"):
            image[name] = rows[name]
        image["code"], image["length"] = OI, PACKET_BYTES[OI]
        blobs.append((image.tobytes(), PACKET_BYTES[OI]))
        return self._account(line, chosen, None)

    def _distort(self, image: Rows, number: int) -> Rows:
        shift = self._in_force(FaultKind.TIME_SHIFT, number)
        if shift is not None:
            image["ltt"] = np.clip(image["ltt"].astype(np.int64) + int(shift.value), 0, U32_MAX)
        if self._in_force(FaultKind.ZERO, number) is not None:
            image["ltp"] = 0.0
        if self._in_force(FaultKind.DUPLICATE, number) is not None:
            return np.repeat(image, 2)
        return image

    def _account(self, line: Line, slots: Slots, image: Rows | None) -> int:
        """Count packets per key; ``image`` becomes the last packet of each."""
        if image is None:
            self._sent[slots] += 1
            line.sent[slots] += 1
            return int(slots.size)
        times = image.size // max(1, slots.size)
        self._sent[slots] += times
        line.sent[slots] += times
        size = image.dtype.itemsize
        as_bytes = self._last.view(np.uint8).reshape(-1, FULL_DTYPE.itemsize)
        as_bytes[slots, :size] = np.ascontiguousarray(image[::times]).view(np.uint8).reshape(-1, size)
        self._last_bytes[slots] = size
        return int(image.size)

    def _cut(self, blobs: Iterable[tuple[bytes, int]], number: int) -> list[bytes]:
        if self._in_force(FaultKind.STACKED, number) is not None:
            joined = b"".join(blob for blob, _ in blobs)
            return [joined] if joined else []
        frames: list[bytes] = []
        for blob, size in blobs:
            step = max(1, self._config.frame_bytes // size) * size
            frames.extend(blob[start : start + step] for start in range(0, len(blob), step))
        return frames

    def _tally(self, line: Line, frames: list[bytes], packets: int) -> None:
        line.count(frames, packets)
        self.totals["frames"] += len(frames)
        self.totals["packets"] += packets
        self.totals["bytes"] += sum(map(len, frames))

    # --- faults -------------------------------------------------------------------------------------------------------

    def inject(self, fault: Fault, now_s: float) -> None:
        """Let something go wrong now."""
        if fault.kind is FaultKind.TOKEN_EXPIRY:
            self._expire_tokens(fault.connection)
        elif fault.kind is FaultKind.JUMP:
            self.market.drivers.jump(fault.symbol or "", fault.value)
        elif fault.seconds > 0:
            self._lasting.append((now_s + fault.seconds, fault))
            if fault.kind is FaultKind.BURST:
                self.market.hurry(self._active_slots(), now_s)
        else:
            for line in tuple(self._lines.values()):
                if fault.connection in (None, line.number) and line.end is None:
                    self._strike(line, fault)

    def heal(self) -> None:
        """End every fault in force and forget the rest of the plan; expired tokens stay expired."""
        self._lasting.clear()
        self._plan.clear()

    def _strike(self, line: Line, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.CUT:
                line.end = End(Ending.RESET)
            case FaultKind.CLOSE:
                line.end = End(Ending.CLOSE, int(fault.value))
            case FaultKind.DISCONNECT:
                self._disconnect(line, int(fault.value))
            case FaultKind.GARBAGE:
                line.add_oddity(self._rng.randbytes(int(fault.value)))
            case FaultKind.TRUNCATED:
                line.suffix = encode_packet(Ticker(InstrumentKey(Segment.NSE_EQ, 1), 1.0, 0))[: HEADER_BYTES + 2]
            case FaultKind.UNKNOWN_CODE:
                line.prefix = encode_packet(Unknown(int(fault.value), UNKNOWN_PACKET_BYTES))
            case _:
                pass  # a lasting kind given no time: over before it began

    def _expire_tokens(self, connection: int | None) -> None:
        for line in self._lines.values():
            if connection in (None, line.number) and line.end is None:
                self._expired_tokens.add(line.token)
        for line in self._lines.values():
            if line.token in self._expired_tokens and line.end is None:
                self._disconnect(line, TOKEN_EXPIRED)

    def _run_plan(self, now_s: float) -> None:
        if self._plan_began_s is None:
            self._plan_began_s = now_s
        while self._plan and self._plan_began_s + self._plan[-1].at_s <= now_s:
            timed = self._plan.pop()
            fault = timed.fault
            if timed.pick is not None and fault.kind not in (FaultKind.REFUSE, FaultKind.SLOW_HANDSHAKE):
                numbers = sorted(self._lines)
                if not numbers:
                    continue
                chosen = numbers[timed.pick % len(numbers)]
                fault = Fault(fault.kind, chosen, fault.segment, fault.symbol, fault.seconds, fault.value)
            self.inject(fault, now_s)

    def _in_force(self, kind: FaultKind, number: int | None = None) -> Fault | None:
        for _, fault in self._lasting:
            if fault.kind is kind and (fault.connection is None or number is None or fault.connection == number):
                return fault
        return None

    # --- what it did --------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, object]:
        """Totals since the start, the connections that are open, and the faults in force."""
        return {
            "totals": dict(self.totals),
            "connections": [
                {
                    "number": line.number,
                    "client_id": line.client_id,
                    "opened_ms": int(line.opened_s * 1000),
                    "instruments": line.instruments,
                    "frames": line.frames,
                    "packets": line.packets,
                    "bytes": line.octets,
                    "bad_commands": line.bad_commands,
                }
                for line in self._lines.values()
            ],
            "faults": [fault.kind.value for _, fault in self._lasting],
        }

    def known_keys(self) -> tuple[InstrumentKey, ...]:
        """Every instrument that was ever subscribed."""
        return tuple(self.market.keys)

    def key_stats(self, key: InstrumentKey) -> dict[str, object]:
        """What was sent for one key: all packets since the start, the last data packet, and on which connections;
        and when it was asked for there.
        """
        slot = self.market.slot(key)
        if slot is None:
            return {"packets": 0, "last": None, "oi": None, "connections": {}, "heard_s": {}}
        last = self._last[slot].tobytes()[: int(self._last_bytes[slot])]
        carried = [line for line in self._lines.values() if slot < line.modes.size and line.modes[slot]]
        return {
            "packets": int(self._sent[slot]),
            "last": last.hex() or None,
            "oi": int(self.market.rows["oi"][slot]),
            "connections": {line.number: int(line.sent[slot]) for line in carried},
            "heard_s": {line.number: float(line.heard_s[slot]) for line in carried},
        }
