"""Judges connections, and instruments on them, by their data alone (contract, rules 5.6, 5.8 and 5.13). Sends nothing.

Pings are no proof that a connection lives, and a subscribe is no proof that an instrument is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, Segment
from app.core.rows import Has
from app.core.sessions import Calendar, Phase
from app.market.carried import Board, CarriedBook, Line
from app.market.clock_steps import StepBack
from app.market.pool_policy import PoolPolicy
from app.ports.feed import FeedLimits

LIVELY_SHARE = 3  # an instrument is expected within the deadline if it usually came three times as often
LISTEN_EVERY_MS = 5_000  # how often instruments that say nothing are looked for
PATIENCE_GROWS = 5.0  # each time that an instrument was asked for in vain


Slots = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Connection ``index`` should be replaced."""

    index: int
    reason: str
    is_planned: bool = False


@dataclass(slots=True)
class _Watched:
    connected_ms: int = 0
    unsubscribed_ms: int = 0
    stray: int = 0  # packets for keys that are not this connection's, at the last look
    mute_recycles: int = 0
    ghost_recycled_ms: int = 0


class Watchdog:
    """Looks at every connection once a second."""

    def __init__(
        self, book: CarriedBook, board: Board, calendar: Calendar, limits: FeedLimits, policy: PoolPolicy
    ) -> None:
        self._book = book
        self._board = board
        self._counters = board.buffers.counters
        self._socket_of = np.frombuffer(board.buffers.socket_of, dtype=np.uint8)
        self._calendar = calendar
        self._limits = limits
        self._policy = policy
        self._watched = [_Watched() for _ in book.lines]
        self._trading_since_ms: dict[Segment, int] = {}
        self._busy_ms = 0
        self._listened_ms = 0
        self._looked_ms = 0

    def connected(self, index: int, at_ms: int) -> None:
        self._watched[index].connected_ms = at_ms

    def unsubscribed(self, index: int, at_ms: int) -> None:
        self._watched[index].unsubscribed_ms = at_ms

    def look(self, up: Iterable[int], now: datetime) -> list[Verdict]:
        """Connections to replace: mute ones at once, ghost-ridden ones one at a time in a quiet moment."""
        now_ms = int(now.timestamp() * 1000)
        if now_ms < self._looked_ms:
            self._turn_back(StepBack(now_ms, self._looked_ms - now_ms))
        self._looked_ms = now_ms
        self._note_sessions(now, now_ms)
        indices = list(up)
        reasons = {index: self._why_mute(index, indices, now_ms) for index in indices}
        verdicts = [Verdict(index, reason) for index, reason in reasons.items() if reason]
        if not verdicts and self._is_quiet(now_ms):
            for index in indices:
                if reason := self._why_haunted(index, now_ms):
                    return [Verdict(index, reason, is_planned=True)]
        for index in indices:
            self._watched[index].stray = self._strays(index)
        return verdicts

    def _turn_back(self, step: StepBack) -> None:
        """The clock was set back too far to be followed slowly: no silence may seem to begin in the future."""
        self._board.turn_back(step)
        self._book.turn_back(step)
        self._busy_ms, self._listened_ms = step.time(self._busy_ms), step.time(self._listened_ms)
        self._trading_since_ms = {segment: step.time(at_ms) for segment, at_ms in self._trading_since_ms.items()}
        for watched in self._watched:
            for name in ("connected_ms", "unsubscribed_ms", "ghost_recycled_ms"):
                setattr(watched, name, step.time(getattr(watched, name)))

    def unheard(self, up: Iterable[int], now_ms: int) -> Iterator[tuple[int, list[InstrumentKey]]]:
        """Instruments to ask for again, per connection, at most a message's worth every few seconds.

        Dhan may ignore a subscribe without a word. What has not sent what it should since it was asked for, though its
        segment trades and its connection or its segment is alive, is asked for again: soon if it was lively before,
        else after ``ask_again_s``, and ever more rarely, because most of what is silent simply does not trade.
        """
        if now_ms - self._listened_ms < LISTEN_EVERY_MS:
            return
        self._listened_ms = now_ms
        slots = self._overdue(now_ms)
        homes = self._socket_of[slots]
        for index in up:
            here = slots[(homes == index) & self._is_alive(index, slots, now_ms)]
            if here.size and not self._book.lines[index].again:
                longest_first = here[np.argsort(self._book.asked_ms[here], kind="stable")]
                batch = longest_first[: self._limits.instruments_per_message]
                yield index, [self._book.key_at(slot) for slot in batch.tolist()]

    def _overdue(self, now_ms: int) -> Slots:
        """Slots asked for, without what a subscribe brings since, for longer than patience lasts.

        That is a packet, and of an index its previous close, which is not told again on a socket that lasts over night.
        """
        book, policy, table = self._book, self._policy, self._board.buffers.table
        since = np.full(256, now_ms, dtype=np.int64)
        for segment, since_ms in self._trading_since_ms.items():
            since[int(segment)] = since_ms
        asked = np.flatnonzero(book.sent_ms)
        is_unheard = table["last_ms"][asked] < book.sent_ms[asked]
        is_index, has_close = book.segments[asked] == Segment.IDX_I, (table["has"][asked] & int(Has.PREV_CLOSE)) > 0
        book.repeats[asked[is_index & has_close & ~is_unheard]] = 0  # the next morning begins afresh
        slots = asked[is_unheard | (is_index & ~has_close)]
        patience_s = np.minimum(policy.ask_again_cap_s, policy.ask_again_s * PATIENCE_GROWS ** book.repeats[slots])
        is_lively = self._is_lively(slots) & (book.repeats[slots] == 0)
        patience_s[is_lively] = min(policy.watchdog_s, policy.ask_again_s)
        silent_ms = now_ms - np.maximum(book.asked_ms[slots], since[book.segments[slots]])
        found: Slots = slots[silent_ms >= 1000.0 * patience_s]
        return found

    def _is_alive(self, index: int, slots: Slots, now_ms: int) -> npt.NDArray[np.bool_]:
        """Whether the connection has data, or else the segment of each of ``slots``."""
        deadline_ms = now_ms - self._policy.watchdog_s * 1000
        if self._counters[index].last_data_ms >= deadline_ms:
            return np.ones(slots.size, dtype=np.bool_)
        fresh = np.flatnonzero(self._board.buffers.table["last_ms"] >= deadline_ms)
        return np.isin(self._book.segments[slots], self._book.segments[fresh])

    def _note_sessions(self, now: datetime, now_ms: int) -> None:
        for segment in Segment:
            trading = self._calendar.phase(segment, now) is Phase.OPEN and not self._calendar.is_frozen(segment, now)
            if not trading:
                self._trading_since_ms.pop(segment, None)
            else:
                self._trading_since_ms.setdefault(segment, now_ms)

    def _why_mute(self, index: int, up: list[int], now_ms: int) -> str | None:
        deadline_ms = int(self._policy.watchdog_s * 1000)
        watched, last_ms = self._watched[index], self._counters[index].last_data_ms
        if last_ms >= watched.connected_ms:
            watched.mute_recycles = 0
        silent_ms = now_ms - max(last_ms, watched.connected_ms)
        if silent_ms < deadline_ms:
            return None
        trading = {each for each, since in self._trading_since_ms.items() if now_ms - since >= deadline_ms}
        line = self._book.lines[index]
        due = [key for key in line.carried if key.segment in trading]
        if not due:
            return None
        if self._has_lively(line, trading):
            return f"no data for {silent_ms // 1000} s"
        others_live = any(now_ms - self._counters[other].last_data_ms < deadline_ms for other in up if other != index)
        is_suspect = last_ms < watched.connected_ms and others_live and len(due) >= self._policy.mute_keys_min
        if is_suspect and watched.mute_recycles < self._policy.mute_recycles_max:
            watched.mute_recycles += 1
            return f"nothing on {len(due)} instruments for {silent_ms // 1000} s while others have data"
        return None

    def _has_lively(self, line: Line, trading: set[Segment]) -> bool:
        """Whether anything carried there was live and should have been heard of by now."""
        slots = [self._board.slot(key) for key in line.carried if key.segment in trading]
        return bool(np.any(self._is_lively(np.array([slot for slot in slots if slot is not None], dtype=np.intp))))

    def _is_lively(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which instruments usually come so often that they should have been heard within the deadline."""
        table = self._board.buffers.table
        often = table["usual_gap_ms"][slots] <= self._policy.watchdog_s * 1000 / LIVELY_SHARE
        lively: npt.NDArray[np.bool_] = often & (table["packets"][slots] >= 2)
        return lively

    def _is_quiet(self, now_ms: int) -> bool:
        is_busy = bool(self._book.moves) or any(line.has_work or not line.is_open for line in self._book.lines)
        if is_busy:
            self._busy_ms = now_ms
        return now_ms - self._busy_ms >= self._policy.quiet_s * 1000

    def _why_haunted(self, index: int, now_ms: int) -> str | None:
        """Ghosts count only once packets prove that Dhan ignored an unsubscribe."""
        line, watched = self._book.lines[index], self._watched[index]
        still_sent = self._strays(index) > watched.stray
        grace_over = now_ms - watched.unsubscribed_ms >= self._policy.ghost_grace_s * 1000
        rested = now_ms - watched.ghost_recycled_ms >= self._policy.ghost_recycle_gap_s * 1000
        load = len(line.carried) + len(line.ghosts)
        if not (still_sent and grace_over and rested and load > self._limits.instruments_per_connection):
            return None
        watched.ghost_recycled_ms = now_ms
        return f"{len(line.ghosts)} instruments keep coming after they were unsubscribed"

    def _strays(self, index: int) -> int:
        return self._counters[index].unwanted + self._counters[index].foreign
