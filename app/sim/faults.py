"""What can go wrong on the simulated exchange, as values: one fault, and a seeded plan of many. Pure.

Each kind is something that Dhan was seen to do (protocol notes, 2.12, 3.2 to 3.5; field notes, 5.3).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.core.ids import Segment


class FaultKind(StrEnum):
    """``value`` means what the comment says; kinds marked with a clock last ``seconds``."""

    REFUSE = "refuse"  # clock: handshakes answer with HTTP status ``value`` (429, 401, 403, 400, 503)
    SLOW_HANDSHAKE = "slow_handshake"  # clock: handshakes take ``value`` seconds
    CUT = "cut"  # TCP reset, no disconnect packet, no close frame
    CLOSE = "close"  # close frame with code ``value``
    MUTE = "mute"  # clock: pings go on, data stops
    DISCONNECT = "disconnect"  # packet 50 with reason ``value``, then close
    TOKEN_EXPIRY = "token_expiry"  # noqa: S105 - every token in use gets 807 and is refused from now on
    IGNORED_SUBSCRIBE = "ignored_subscribe"  # clock: subscribe messages have no effect
    GHOST = "ghost"  # clock: unsubscribes have no effect, packets keep coming
    TRUNCATED = "truncated"  # the next data frame ends inside a further packet
    GARBAGE = "garbage"  # one frame of ``value`` random bytes
    UNKNOWN_CODE = "unknown_code"  # the next data frame begins with a packet of code ``value``
    STACKED = "stacked"  # clock: all packets of a step in one frame
    DUPLICATE = "duplicate"  # clock: every packet twice
    ZERO = "zero"  # clock: last prices are zero, as before a first trade
    TIME_SHIFT = "time_shift"  # clock: last-trade times are ``value`` seconds off
    BURST = "burst"  # clock: update rate times ``value``
    JUMP = "jump"  # the spot of ``symbol`` moves by the share ``value`` at once


_SEGMENT_WIDE = frozenset({FaultKind.MUTE})
_DEFAULTS: dict[FaultKind, tuple[float, float]] = {  # seconds, value
    FaultKind.REFUSE: (5.0, 503.0),
    FaultKind.SLOW_HANDSHAKE: (10.0, 3.0),
    FaultKind.CUT: (0.0, 0.0),
    FaultKind.CLOSE: (0.0, 1001.0),
    FaultKind.MUTE: (30.0, 0.0),
    FaultKind.DISCONNECT: (0.0, 805.0),
    FaultKind.TOKEN_EXPIRY: (0.0, 0.0),
    FaultKind.IGNORED_SUBSCRIBE: (5.0, 0.0),
    FaultKind.GHOST: (60.0, 0.0),
    FaultKind.TRUNCATED: (0.0, 0.0),
    FaultKind.GARBAGE: (0.0, 200.0),
    FaultKind.UNKNOWN_CODE: (0.0, 99.0),
    FaultKind.STACKED: (5.0, 0.0),
    FaultKind.DUPLICATE: (5.0, 0.0),
    FaultKind.ZERO: (5.0, 0.0),
    FaultKind.TIME_SHIFT: (5.0, 0.0),
    FaultKind.BURST: (5.0, 10.0),
    FaultKind.JUMP: (0.0, 0.05),
}
_VALUE_LIMITS: dict[FaultKind, tuple[float, float]] = {
    FaultKind.REFUSE: (400.0, 599.0),
    FaultKind.SLOW_HANDSHAKE: (0.0, 600.0),
    FaultKind.CLOSE: (1000.0, 4999.0),
    FaultKind.DISCONNECT: (0.0, 65_535.0),
    FaultKind.GARBAGE: (1.0, 65_536.0),
    FaultKind.UNKNOWN_CODE: (0.0, 255.0),
    FaultKind.BURST: (0.001, 1_000.0),
    FaultKind.JUMP: (-0.9, 9.0),
}


class BadFault(ValueError):
    """A description that is no fault; the text says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing going wrong. ``connection`` is the exchange's own number, None for all; ``segment`` narrows a mute."""

    kind: FaultKind
    connection: int | None = None
    segment: Segment | None = None
    symbol: str | None = None
    seconds: float = 0.0
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class TimedFault:
    """A fault that happens ``at_s`` seconds after the plan began. ``pick`` chooses the connection: its rank, modulo
    the number that are open; None leaves the fault's own."""

    at_s: float
    fault: Fault
    pick: int | None = None


def make_fault(kind: FaultKind, **given: object) -> Fault:
    """A fault with the defaults of its kind. Raises :class:`BadFault` as :func:`parse_fault`."""
    return parse_fault({"kind": kind.value, **given})


def parse_fault(described: Mapping[str, object]) -> Fault:
    """Read ``{"kind": "mute", "connection": 3, "segment": "NSE_FNO", "seconds": 30}``.

    Raises:
        BadFault: unknown kind or member, a wrong type, or a value outside its range.
    """
    unknown = described.keys() - {"kind", "connection", "segment", "symbol", "seconds", "value"}
    if unknown:
        raise BadFault(f"unknown member {sorted(unknown)[0]!r}")
    try:
        kind = FaultKind(str(described.get("kind")))
    except ValueError:
        raise BadFault(f"kind is one of {', '.join(FaultKind)}") from None
    seconds, value = _DEFAULTS[kind]
    return Fault(
        kind,
        connection=_connection(described.get("connection")),
        segment=_segment(kind, described.get("segment")),
        symbol=_symbol(kind, described.get("symbol")),
        seconds=_number("seconds", described.get("seconds"), seconds, (0.0, 1e9)),
        value=_number("value", described.get("value"), value, _VALUE_LIMITS.get(kind, (-1e9, 1e9))),
    )


def _connection(given: object) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    raise BadFault("connection is the number of a connection")


def _segment(kind: FaultKind, given: object) -> Segment | None:
    if given is None:
        return None
    if kind not in _SEGMENT_WIDE:
        raise BadFault(f"{kind} takes no segment")
    if isinstance(given, str) and given in Segment.__members__:
        return Segment[given]
    raise BadFault(f"segment is one of {', '.join(Segment.__members__)}")


def _symbol(kind: FaultKind, given: object) -> str | None:
    if (kind is FaultKind.JUMP) != isinstance(given, str):
        raise BadFault("a jump, and nothing else, names a symbol")
    return given if isinstance(given, str) else None


def _number(name: str, given: object, default: float, limits: tuple[float, float]) -> float:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise BadFault(f"{name} is a number")
    if not limits[0] <= given <= limits[1]:
        raise BadFault(f"{name} is between {limits[0]:g} and {limits[1]:g}")
    return float(given)


_BY_HAND = (FaultKind.JUMP, FaultKind.TOKEN_EXPIRY, FaultKind.ZERO)
_PLANNED = tuple(kind for kind in FaultKind if kind not in _BY_HAND)
_LIVELY_CODES = (805, 806, 807, 808, 809, 800)
_STATUSES = (429, 401, 403, 503)


def plan_faults(
    seed: int, duration_s: float, mean_gap_s: float, kinds: Sequence[FaultKind] = _PLANNED
) -> list[TimedFault]:
    """A random series over ``duration_s``, one every ``mean_gap_s`` on average; the same seed gives the same series.

    A lasting fault takes from one second to three times its usual length, at most 90 s. Token expiry and zero prices
    come only if asked for: nothing in the plan brings a new token. A jump needs a symbol and is never planned.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation
    choice = [kind for kind in kinds if kind is not FaultKind.JUMP]
    planned: list[TimedFault] = []
    at_s = rng.expovariate(1.0 / mean_gap_s)
    while choice and at_s < duration_s:
        planned.append(TimedFault(at_s, _random_fault(rng, rng.choice(choice)), rng.randrange(1_000)))
        at_s += rng.expovariate(1.0 / mean_gap_s)
    return planned


def _random_fault(rng: random.Random, kind: FaultKind) -> Fault:
    seconds, value = _DEFAULTS[kind]
    if seconds:
        seconds = rng.uniform(1.0, min(90.0, 3.0 * seconds))
    match kind:
        case FaultKind.DISCONNECT:
            value = float(rng.choice(_LIVELY_CODES))
        case FaultKind.REFUSE:
            value = float(rng.choice(_STATUSES))
        case FaultKind.TIME_SHIFT:
            value = rng.choice((-19_800.0, -3_600.0, 19_800.0, 86_400.0))
        case FaultKind.SLOW_HANDSHAKE:
            value = rng.uniform(0.5, 20.0)
        case _:
            pass
    return Fault(kind, seconds=seconds, value=value)
