"""What an instrument's silence or chatter means (contract, rule 5.8). Pure; told the same everywhere.

Dhan acknowledges nothing: only a packet makes an instrument LIVE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.core.sessions import Session

Bools = npt.NDArray[np.bool_]
Millis = npt.NDArray[np.int64]

STALE_AFTER_MS = 30_000
STALE_GAPS = 5.0
QUIET_AFTER_MS = 5_000
QUIET_GAPS = 2.0
SEGMENT_ALIVE_MS = 10_000


class InstrumentState(StrEnum):
    """In the order in which they are tried: the first that applies is told."""

    EXPIRED = "EXPIRED"
    EVICTED = "EVICTED"
    NOT_SUBSCRIBED = "NOT_SUBSCRIBED"
    WANTED = "WANTED"
    SENT = "SENT"
    CLOSED = "CLOSED"
    GAP = "GAP"
    STALE = "STALE"
    QUIET = "QUIET"
    LIVE = "LIVE"

    @property
    def code(self) -> int:
        """Its place in the order: what :func:`states` and the binary stream carry."""
        return STATE_CODES[self]


STATES = tuple(InstrumentState)
STATE_NAMES = tuple(state.value for state in STATES)
STATE_CODES = {state: code for code, state in enumerate(STATES)}
_LIVE_CODES = (STATE_CODES[InstrumentState.LIVE], STATE_CODES[InstrumentState.QUIET])


@dataclass(frozen=True, slots=True)
class StateFacts:
    """What is known of n instruments, as parallel arrays; times are epoch milliseconds UTC, 0 for never.

    ``owned``: somebody wishes it. ``evicted``: its last owner was evicted. ``sent_ms``: when the subscribe went out on
    the present connection. ``last_ms``: its newest packet. ``usual_gap_ms``: average time between packets, 0 if not
    known. ``normal_gap_ms``: the silence that is normal for it. ``lost_ms``: when its connection or its segment was
    last cut or judged mute. ``in_session``: its segment trades now, the pre-open included. ``judged_from_ms``: since
    when silence means something, 0 while it means nothing (pre-open, closing auction). ``segment_alive``: some packet
    of its segment came within :data:`SEGMENT_ALIVE_MS`.
    """

    expired: Bools
    evicted: Bools
    owned: Bools
    sent_ms: Millis
    last_ms: Millis
    usual_gap_ms: npt.NDArray[np.float64]
    normal_gap_ms: npt.NDArray[np.float64]
    lost_ms: Millis
    in_session: Bools
    judged_from_ms: Millis
    segment_alive: Bools
    now_ms: int

    def __len__(self) -> int:
        return len(self.owned)


def is_live_price(state: float, seen_ms: float, session: Session | None) -> bool:
    """Whether a price may be called live: of an instrument in that state (its code), last heard then.

    Before the open, and for a while after it, a silent instrument is quiet, and its price that of the session before.
    """
    return state in _LIVE_CODES and session is not None and seen_ms >= session.begin_ms


def stale_after_ms(normal_gap_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How long it may be silent before a live segment makes it suspect."""
    return np.maximum(float(STALE_AFTER_MS), STALE_GAPS * normal_gap_ms)


def quiet_after_ms(usual_gap_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How old a packet may be and still count as live."""
    return np.maximum(float(QUIET_AFTER_MS), QUIET_GAPS * usual_gap_ms)


def states(facts: StateFacts) -> npt.NDArray[np.uint8]:
    """The state of each instrument, as its code.

    A key that had packets before its connection went is a GAP, not WANTED: it was sent once, and what is shown is old.
    """
    age_ms = facts.now_ms - facts.last_ms
    is_judged = facts.judged_from_ms > 0
    silent_ms = facts.now_ms - np.maximum(facts.last_ms, facts.judged_from_ms)
    is_overdue = is_judged & (silent_ms > stale_after_ms(facts.normal_gap_ms))
    seen = facts.last_ms > 0
    cut = seen & (facts.lost_ms >= facts.last_ms) & (facts.lost_ms > 0)
    conditions = {
        InstrumentState.EXPIRED: facts.expired,
        InstrumentState.EVICTED: facts.evicted & ~facts.owned,
        InstrumentState.NOT_SUBSCRIBED: ~facts.owned,
        InstrumentState.WANTED: (facts.sent_ms == 0) & ~cut,
        InstrumentState.SENT: ~seen,
        InstrumentState.CLOSED: ~facts.in_session,
        InstrumentState.GAP: cut,
        InstrumentState.STALE: facts.segment_alive & is_overdue,
        InstrumentState.QUIET: age_ms > quiet_after_ms(facts.usual_gap_ms),
    }
    codes = np.full(len(facts), STATE_CODES[InstrumentState.LIVE], dtype=np.uint8)
    for state in reversed(conditions):
        codes[conditions[state]] = STATE_CODES[state]
    return codes


def why(
    facts: StateFacts,
    *,
    socket: int | None = None,
    tell_time: Callable[[int], str] = str,
    again: tuple[int, int] = (0, 0),
    note: str = "",
) -> str:
    """In words, why the one instrument in ``facts`` shows what it shows (endpoint 9).

    ``socket`` is 1-based, None when it has none. ``tell_time`` writes epoch milliseconds for people. ``again`` is how
    often it was asked for again on that socket because nothing came, and when last (epoch ms). ``note`` is what only
    the caller knows, such as when it was evicted and for whom.
    """
    state = STATES[int(states(facts)[0])]
    sent, last = int(facts.sent_ms[0]), int(facts.last_ms[0])
    gap_s = float(facts.usual_gap_ms[0]) / 1000.0
    age = _seconds(facts.now_ms - last)
    where = f"socket {socket}" if socket else "its socket"
    was_sent = f"sent on {where} at {tell_time(sent)}" if sent else "not sent yet on the present connection"
    if sent and again[0]:
        was_sent += (
            f", asked for again {'once' if again[0] == 1 else f'{again[0]} times, last'} at {tell_time(again[1])}"
        )
    usual = f"usually one every {gap_s:.1f} s" if gap_s else "how often it usually comes is not known yet"
    told = {
        InstrumentState.EXPIRED: "its expiry is over",
        InstrumentState.EVICTED: "its last owner was evicted to make room",
        InstrumentState.NOT_SUBSCRIBED: "nobody has it on a list and it is not part of the always-on universe",
        InstrumentState.WANTED: "wanted, but the subscribe message has not gone out yet",
        InstrumentState.SENT: _why_sent(facts, was_sent),
        InstrumentState.CLOSED: f"its market is closed; last packet {tell_time(last)}",
        InstrumentState.GAP: f"its feed was cut or mute since {tell_time(int(facts.lost_ms[0]))}, and nothing "
        f"has come since the packet of {tell_time(last)}; {was_sent}",
        InstrumentState.STALE: f"{was_sent}; no packet for {age} although its segment is alive; {usual}",
        InstrumentState.QUIET: f"{was_sent}; no packet for {age}, {_why_quiet(facts)}; {usual}",
        InstrumentState.LIVE: f"{was_sent}; last packet {age} ago; {usual}",
    }[state]
    return f"{told}; {note}" if note else told


def _why_sent(facts: StateFacts, was_sent: str) -> str:
    if not facts.in_session[0]:
        return f"{was_sent}; no packet yet, its market is closed"
    if not facts.segment_alive[0]:
        return f"{was_sent}; no packet yet, nor for anything else in its segment lately"
    return f"{was_sent}; no packet yet though its segment is alive: as a rule it has not traded today"


def _why_quiet(facts: StateFacts) -> str:
    if not facts.judged_from_ms[0]:
        return "as values stand still before the open and in the closing auction"
    if facts.segment_alive[0]:
        return "which is normal for it"
    return "nor for anything else in its segment"


def _seconds(duration_ms: int) -> str:
    return f"{max(0, duration_ms) / 1000:.1f} s"
