"""Numbers and answers of the connection pool (contract, rule 13). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.ports.feed import Retry


class LineState(StrEnum):
    """What a connection is doing, as people read it; a retry does not change it."""

    OFF = "off"
    STARTING = "starting"
    UP = "up"
    DOWN = "down"  # trying again, with backoff
    FEWER_SOCKETS = "fewer_sockets"  # 805: set aside
    NO_DATA_PLAN = "no_data_plan"  # 806: asked again now and then
    WAITING_FOR_TOKEN = "waiting_for_token"  # noqa: S105 - a state, not a secret
    RATE_LIMITED = "rate_limited"
    STOPPED = "stopped"  # 810


STATE_AFTER: Mapping[Retry, LineState] = {
    Retry.BACKOFF: LineState.DOWN,
    Retry.FEWER_SOCKETS: LineState.FEWER_SOCKETS,
    Retry.SLOWLY: LineState.NO_DATA_PLAN,
    Retry.NEW_TOKEN: LineState.WAITING_FOR_TOKEN,
    Retry.RATE_LIMITED: LineState.RATE_LIMITED,
    Retry.STOP: LineState.STOPPED,
}


# Refusals that are known to last: what they keep away is handed over at once.
LONG_ABSENCES = frozenset({Retry.FEWER_SOCKETS, Retry.SLOWLY, Retry.RATE_LIMITED, Retry.STOP})


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """Every waiting time of the pool, in seconds, and its other limits."""

    watchdog_s: float = 15.0
    late_s: float = 5.0  # a connection whose prices are older at the median is late
    backoff_base_s: float = 0.25
    backoff_cap_s: float = 30.0
    healthy_s: float = 60.0
    fewer_sockets_s: float = 60.0  # after 805, doubling while it repeats
    fewer_sockets_cap_s: float = 900.0
    slowly_s: float = 300.0
    rate_limit_s: float = 60.0
    rate_limit_cap_s: float = 900.0
    connect_timeout_s: float = 15.0
    open_gap_s: float = 0.05  # between the opening of two sockets
    message_gap_s: float = 0.0  # between two messages on one socket; 0 only lets others run
    mute_keys_min: int = 100  # a socket silent from its first moment is suspect from so many instruments on
    mute_recycles_max: int = 3  # and is given up as merely silent after so many fresh sockets
    ghost_grace_s: float = 3.0  # packets still under way after an unsubscribe
    ghost_recycle_gap_s: float = 300.0
    quiet_s: float = 5.0
    hand_over_s: float = 15.0  # a connection away for longer gives its instruments to the others
    level_after_s: float = 5.0  # how long it must be back before instruments that are live elsewhere move to it
    ask_again_s: float = 60.0  # an instrument without a packet since it was sent is asked for again, then five times
    ask_again_cap_s: float = 1800.0  # as late each time, up to this


@dataclass(slots=True)
class Doubling:
    """A waiting time that doubles each time it is asked for, up to a cap."""

    first_s: float
    cap_s: float
    times: int = 0

    def next_s(self) -> float:
        wait = min(self.cap_s, self.first_s * 2.0 ** min(self.times, 30))
        self.times += 1
        return wait

    def reset(self) -> None:
        self.times = 0
